"""Reads robomimic's low-dim HDF5 files as demonstrations of ``robosuite:NAME``."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from inril_core.contract import SimpleInterface
from inril_core.data.episode import SOURCE_HUMAN, Episode, InvalidEpisode
from inril_core.errors import ConfigError
from inril_core.tasks.families.gym import RANGE_LIMIT
from inril_core.tasks.families.robosuite import CONTROL_RATE_HZ, SPECS, interface, observation_keys, relative_pose

PERIOD_NS = round(1e9 / CONTROL_RATE_HZ)
FIT_M = 0.05  # a recorded relative position may lag by a step; in the wrong place it is off by most of a metre


def read_robomimic(path: Path | str, name: str, limit: int | None = None, subset: str | None = None) -> list[Episode]:
    """Demonstrations of ``robosuite:NAME``, in the file's order.

    Objects' relative poses are computed anew, because robosuite 1.5 changed their order and sign. An episode ends at
    its first rewarded step, as it does here. Without ``next_obs`` the last action has no observation after it and is
    left out. The files were simulated by other versions of robosuite and MuJoCo: close, not the same.

    Args:
        name: Lift, Can, Square or Transport.
        limit: only so many.
        subset: name of one of the file's masks, such as ``train`` or ``20_percent``.

    Raises:
        ConfigError: h5py is not installed; the file is missing, no HDF5, or damaged; or it holds another task, robot,
            rate or kind of action, lacks what is needed, or a number is not finite.
    """
    target = interface(name)
    try:
        import h5py
    except ImportError as error:
        raise ConfigError(
            f"{path}: reading it needs h5py ({error}); install the extra: pip install 'inril[robosuite]'"
        ) from (error)
    try:
        with h5py.File(path, "r") as file:
            if "data" not in file or "env_args" not in file["data"].attrs:
                raise ConfigError(f"{path}: no data/env_args: not a robomimic file")
            _check_environment(str(file["data"].attrs["env_args"]), name, path)
            keys = _demo_names(file, subset, path)[:limit]
            if not keys:
                raise ConfigError(f"{path}: holds no demonstrations")
            return [_episode(file["data"][key], key, name, target, path) for key in keys]
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, InvalidEpisode) as error:
        raise ConfigError(f"{path}: not a readable robomimic file ({error}); fetch or extract it again") from error


def _check_environment(text: str, name: str, path: Path | str) -> None:
    arguments = json.loads(text)
    settings = arguments.get("env_kwargs", {})
    spec = SPECS[name]
    robots = settings.get("robots", [])
    found = {
        "env_name": arguments.get("env_name"),
        "robots": [robots] if isinstance(robots, str) else robots,
        "control_freq": settings.get("control_freq"),
    }
    wanted = {"env_name": spec.environment, "robots": ["Panda"] * spec.robots, "control_freq": CONTROL_RATE_HZ}
    for field, value in wanted.items():
        if found[field] != value:
            raise ConfigError(f"{path}: {field} = {found[field]!r}: robosuite:{name} needs {value!r}")
    arms = [part for part in _mappings(settings.get("controller_configs")) if part.get("type") == "OSC_POSE"]
    if not arms:
        raise ConfigError(f"{path}: its controller is not OSC_POSE, the only one that robosuite:{name} understands")
    if any(arm.get("control_delta") is False or arm.get("input_type") == "absolute" for arm in arms):
        raise ConfigError(f"{path}: its actions are absolute poses; give the file with delta actions")


def _mappings(value: Any) -> Iterator[dict[str, Any]]:
    """All mappings inside a JSON value."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _mappings(item)


def _demo_names(file: Any, subset: str | None, path: Path | str) -> list[str]:
    names = [key for key in file["data"] if re.fullmatch(r"demo_\d+", key)]
    if subset is not None:
        masks = list(file["mask"]) if "mask" in file else []
        if subset not in masks:
            raise ConfigError(f"{path}: subset = {subset!r}: must be one of {masks}")
        chosen = {item.decode() if isinstance(item, bytes) else str(item) for item in file["mask"][subset][:]}
        names = [key for key in names if key in chosen]
    return sorted(names, key=lambda key: int(key.removeprefix("demo_")))


def _episode(group: Any, key: str, name: str, target: SimpleInterface, path: Path | str) -> Episode:
    def array(where: str) -> np.ndarray:
        if where not in group:
            raise ConfigError(f"{path}: {key} has no {where}; extract the file with low-dim observations")
        return np.asarray(group[where][()], np.float64)

    proposed = array("actions")
    if proposed.ndim != 2 or proposed.shape[1] != target.action_size or len(proposed) < 2:
        raise ConfigError(f"{path}: {key}/actions{list(proposed.shape)}: must be [T >= 2, {target.action_size}]")
    observations = _observations(group, array, key, name, target, path)
    rewards = array("rewards") if "rewards" in group else np.full(len(proposed), np.nan)
    if rewards.shape != (len(proposed),):
        raise ConfigError(f"{path}: {key}/rewards{list(rewards.shape)}: must be [{len(proposed)}]")
    known = bool(np.isfinite(rewards).all())
    paid = np.flatnonzero(rewards > 0.0)
    # the last action is left out where no observation follows it
    steps = min(int(paid[0]) + 1 if len(paid) else len(proposed), len(observations) - 1)
    succeeded = len(paid) > 0 and steps == int(paid[0]) + 1
    if len(paid) and not succeeded:
        known = False  # its one rewarded step is the one that was left out
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
        rewards=rewards[:steps].astype(np.float32) if known else None,
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
    sizes = {part: rows.shape for part, rows in columns.items()}
    width = sum(rows.shape[-1] for rows in columns.values())
    steps = len(group["actions"])
    if width != target.observation_size or {len(rows) for rows in columns.values()} - {steps, steps + 1}:
        raise ConfigError(
            f"{path}: {key} has observations {sizes}: must be {target.observation_size} numbers in all, for "
            f"{steps} steps"
        )
    if not all(np.isfinite(rows).all() for rows in columns.values()):
        raise ConfigError(f"{path}: {key} has an observation that is not finite")
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
