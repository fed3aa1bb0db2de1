"""Reads robomimic's low-dim HDF5 files as demonstrations of ``robosuite:NAME``."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from inril_core.contract import SimpleInterface
from inril_core.data.episode import RANGE_LIMIT, SOURCE_HUMAN, Episode
from inril_core.data.outliers import find_outliers
from inril_core.errors import ConfigError
from inril_core.exchange.hdf5_file import demo_names, open_demos
from inril_core.tasks.families.robosuite import CONTROL_RATE_HZ, SPECS, interface, observation_keys, relative_pose
from inril_core.tasks.robomimic_environment import Recorded, check_environment

PERIOD_NS = round(1e9 / CONTROL_RATE_HZ)
_WIDTHS = {"eef_pos": 3, "eef_quat": 4, "gripper_qpos": 2}
FIT_M = 0.05  # a recorded relative position may lag by a step; in the wrong place it is off by most of a metre


def read_robomimic(
    path: Path | str,
    name: str,
    limit: int | None = None,
    subset: str | None = None,
    unlabelled_succeed: bool = False,
) -> list[Episode]:
    """Demonstrations of ``robosuite:NAME``, in the file's order.

    Objects' relative poses are computed anew, because robosuite 1.5 changed their order and sign. An episode ends at
    its first success, as it does here, and has the task's sparse reward there, whatever rewards the file holds. The
    files were simulated by other versions of robosuite and MuJoCo: close, not the same.

    Success is what robomimic's extraction says of it: a ``dones`` of 1 before the last step (its done_mode 0 and 2; at
    the last step it may only mark the end), or a reward that only success gives. Where neither the file's rewards nor
    its dones ever say anything, nobody knows.

    Without ``next_obs`` the last action has no observation after it and is left out; a success that it brought is
    counted one step earlier.

    Args:
        name: Lift, Can, Square or Transport.
        limit: only so many.
        subset: name of one of the file's masks, such as ``train`` or ``20_percent``.
        unlabelled_succeed: demonstrations of which nobody knows are successes, as in files of robosuite's own
            collection, which keeps nothing else; they then end with their last step.

    Raises:
        ConfigError: h5py is not installed; the file is missing, no HDF5, or damaged; or it holds another task, robot,
            rate or kind of action, lacks what is needed, a number is not finite or far from all others, or nothing in
            it says which demonstrations succeeded.
    """
    target = interface(name)
    with open_demos(path) as file:
        if "env_args" not in file["data"].attrs:
            raise ConfigError(f"{path}: no data/env_args: not a robomimic file")
        recorded = check_environment(str(file["data"].attrs["env_args"]), name, path)
        names = demo_names(file, None, path)
        keys = demo_names(file, subset, path)[:limit]
        if not keys:
            raise ConfigError(f"{path}: holds no demonstrations")
        successes = _successes({key: file["data"][key] for key in names}, recorded, path)
        if not unlabelled_succeed and all(step is None for step in successes.values()):
            raise ConfigError(
                f"{path}: no reward and no dones in it tells a success from a failure; extract it anew with "
                "robomimic's dataset_states_to_obs.py --done_mode 0, or say that all of its demonstrations "
                "succeeded (unlabelled_succeed; in an experiment unlabelled_demos_succeed: true beside demo_file)"
            )
        episodes = [
            _episode(file["data"][key], key, name, target, path, successes[key], unlabelled_succeed) for key in keys
        ]
    far = find_outliers(episodes)
    if far:
        raise ConfigError(
            f"{path}: {len(far)} outliers; the first: {far[0]}; correct the file, or leave the demonstration out "
            "with a mask (subset)"
        )
    return episodes


def _successes(groups: dict[str, Any], recorded: Recorded, path: Path | str) -> dict[str, int | None]:
    """For each demonstration the step whose action brought success, -1 where it failed, None where nobody knows."""
    rewards = {key: _column(group, "rewards", key, path) for key, group in groups.items()}
    dones = {key: _column(group, "dones", key, path) for key, group in groups.items()}
    least = np.inf if recorded.success_reward is None else recorded.success_reward * (1.0 - 1e-6)
    paid = {key: np.flatnonzero(row >= least) for key, row in rewards.items()}
    done = {key: np.flatnonzero(row == 1.0) for key, row in dones.items()}
    rewards_tell = any(len(steps) for steps in paid.values())
    ends = {key: bool(len(row)) and row[-1] == 1.0 for key, row in dones.items()}
    # done_mode 0 marks successes alone; 1 and 2 mark every end, too
    dones_tell = any(len(steps) for steps in done.values()) and not all(ends[key] for key in groups if len(dones[key]))
    found: dict[str, int | None] = {}
    for key, group in groups.items():
        last = len(group["actions"]) - 1
        early = done[key][done[key] < last]
        if len(early):
            found[key] = int(early[0])
        elif len(paid[key]):
            found[key] = int(paid[key][0])
        elif dones_tell and len(dones[key]):
            found[key] = last if ends[key] else -1
        else:
            found[key] = -1 if rewards_tell and len(rewards[key]) else None
    return found


def _column(group: Any, name: str, key: str, path: Path | str) -> np.ndarray:
    """``float64[T]`` of a demonstration; ``[0]`` where it has none, or one that was never filled in (not finite)."""
    if name not in group:
        return np.zeros(0)
    row = np.asarray(group[name][()], np.float64)
    if row.shape != (len(group["actions"]),):
        raise ConfigError(f"{path}: {key}/{name}{list(row.shape)}: must be [{len(group['actions'])}]")
    return row if np.isfinite(row).all() else np.zeros(0)


def _episode(
    group: Any,
    key: str,
    name: str,
    target: SimpleInterface,
    path: Path | str,
    success_step: int | None,
    unlabelled_succeed: bool,
) -> Episode:
    def array(where: str) -> np.ndarray:
        if where not in group:
            raise ConfigError(f"{path}: {key} has no {where}; extract the file with low-dim observations")
        return np.asarray(group[where][()], np.float64)

    proposed = array("actions")
    if proposed.ndim != 2 or proposed.shape[1] != target.action_size or not len(proposed):
        raise ConfigError(f"{path}: {key}/actions{list(proposed.shape)}: must be [T >= 1, {target.action_size}]")
    if not np.isfinite(proposed).all():
        raise ConfigError(f"{path}: {key} has an action that is not finite")
    observations = _observations(group, array, key, name, target, path)
    known = success_step is not None or unlabelled_succeed
    step = len(proposed) - 1 if success_step is None and unlabelled_succeed else success_step
    succeeded = step is not None and step >= 0
    steps = min(step + 1 if step is not None and succeeded else len(proposed), len(observations) - 1)
    if steps < 1:
        raise ConfigError(
            f"{path}: {key} is one action without an observation after it; extract the file with next_obs, or leave "
            "this demonstration out with a mask (subset)"
        )
    rewards = np.zeros(steps, np.float32)
    rewards[-1] = succeeded
    rows, wanted = observations[: steps + 1].astype(np.float32), proposed[:steps].astype(np.float32)
    actions = wanted.clip(-1.0, 1.0)
    clipped = (actions != wanted).any(1)
    pose = np.concatenate([observations[: steps + 1, 0:3], observations[: steps + 1, 3:7]], 1)
    return Episode(
        episode_id=f"robomimic-{name}-{key}",
        run_id="robomimic",
        task=target.task,
        purpose="demo",
        seed=int(key.removeprefix("demo_")),
        explore=False,
        contract_text=target.text,
        interface_digest=target.interface_digest,
        deployment_digest=target.deployment_digest,
        observations=rows,
        actions=actions,
        proposed=wanted,
        raw=np.full_like(actions, np.nan),
        log_prob=np.full(steps, np.nan, np.float32),
        source=np.full(steps, SOURCE_HUMAN, np.uint8),
        policy_run_ids=("",) * steps,
        policy_n=np.full(steps, -1, np.int64),
        limits=tuple((RANGE_LIMIT,) if row else () for row in clipped),
        stamps_ns=np.arange(steps + 1, dtype=np.int64) * PERIOD_NS,
        tool_pose=pose,
        link_age_s=np.zeros((steps + 1, 0), np.float32),
        success=succeeded if known else None,
        terminated=succeeded,
        truncated=not succeeded,
        outcome_source="robomimic",
        outcome_reason="success" if succeeded else "end_of_recording",
        complete=True,
        rewards=rewards if known else None,
        sha256=hashlib.sha256(rows.tobytes() + actions.tobytes()).hexdigest(),
    )


def _observations(group: Any, array: Any, key: str, name: str, target: SimpleInterface, path: Path | str) -> np.ndarray:
    """``float64[T + 1 or T, D]``, as `RobosuiteTask` gives them."""
    columns = {}
    for part in observation_keys(name):
        rows = array(f"obs/{part}")
        if f"next_obs/{part}" in group:
            rows = np.concatenate([rows, array(f"next_obs/{part}")[-1:]])
        columns[part] = rows
    steps = len(group["actions"])
    widths = dict.fromkeys(columns, SPECS[name].object_size) | {
        part: size for part in columns for end, size in _WIDTHS.items() if part.endswith(end)
    }
    for part, rows in columns.items():
        if rows.ndim != 2 or rows.shape[1] != widths[part] or len(rows) not in (steps, steps + 1):
            raise ConfigError(
                f"{path}: {key}/obs/{part}{list(rows.shape)}: must be {widths[part]} numbers for each of {steps} steps"
            )
    if not all(np.isfinite(rows).all() for rows in columns.values()):
        raise ConfigError(f"{path}: {key} has an observation that is not finite")
    if len({len(rows) for rows in columns.values()}) > 1:
        raise ConfigError(f"{path}: {key} has next_obs for some of {sorted(columns)} only; extract it again")
    for part, rows in columns.items():
        if part.endswith("eef_quat") and not np.allclose(np.linalg.norm(rows, axis=1), 1.0, atol=0.01):
            raise ConfigError(f"{path}: {key}/obs/{part} holds quaternions that are not of length 1")
    columns["object"] = _objects(columns, key, name, path)
    return np.concatenate(list(columns.values()), 1)


def _objects(columns: dict[str, np.ndarray], key: str, name: str, path: Path | str) -> np.ndarray:
    """The objects' part with its relative poses computed anew, in the order of `RobosuiteTask`."""
    rows, tool = columns["object"], columns["robot0_eef_pos"]
    if name == "Lift":
        return np.concatenate([rows[:, :7], tool - rows[:, :3]], 1)
    if name == "Transport":
        other = columns["robot1_eef_pos"]
        flags = next((rows[:, a : a + 2] for a in (39, 27) if np.isin(rows[:, a : a + 2], (0.0, 1.0)).all()), None)
        if flags is None:
            raise ConfigError(f"{path}: {key}/obs/object: its order is of no known robosuite version")
        payload, trash, lid = rows[:, 0:3], rows[:, 7:10], rows[:, 14:17]
        return np.concatenate([rows[:, :27], payload - tool, lid - tool, payload - other, trash - other, flags], 1)
    candidates = []
    for pose, other_pose in ((rows[:, :7], rows[:, 7:]), (rows[:, 7:], rows[:, :7])):
        hand = columns["robot0_eef_quat"]
        relative = np.stack([relative_pose(p[:3], p[3:], t, q) for p, t, q in zip(pose, tool, hand, strict=True)])
        error_m = float(np.median(np.linalg.norm(relative[:, :3] - other_pose[:, :3], axis=1)))
        candidates.append((error_m, np.concatenate([pose, relative], 1)))
    error_m, objects = min(candidates, key=lambda candidate: candidate[0])
    if error_m > FIT_M:
        raise ConfigError(f"{path}: {key}/obs/object: its order is of no known robosuite version ({error_m:.2f} m off)")
    return objects
