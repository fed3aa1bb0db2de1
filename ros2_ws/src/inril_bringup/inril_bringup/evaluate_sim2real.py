"""`inril evaluate identify` and `inril evaluate sim2real`: the simulated cell beside the robot."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inril_core.errors import ConfigError, InrilError
from inril_core.files import check_writable

if TYPE_CHECKING:
    from inril_core.contract import Contract
    from inril_core.data.episode import Episode
    from inril_core.evaluation.sim_to_real.cameras import CameraFits
    from inril_core.evaluation.sim_to_real.identify import Fit

FEW_RECORDINGS_N = 3
CAMERA_POSE = "camera_pose"
"""What is fitted besides the arm's physics: to the images, where recordings hold any."""

# Modules that are slow to import are imported where they are used.


def add_actions(actions: Any, action: Callable[..., Any]) -> None:
    """Args:
    action: adds a sub-command, as `inril_bringup.evaluate_command` does.
    """
    identify = action(
        actions,
        "identify",
        _identify,
        "how a robot's arm and cameras differ from the simulated cell's, by recordings",
    )
    identify.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="run whose recordings are replayed")
    identify.add_argument("--contract", default="insert_leg", help="of the run (default: %(default)s)")
    identify.add_argument(
        "--out", type=Path, required=True, metavar="FILE.yaml", help="contract with the ranges found, for contract:="
    )
    identify.add_argument(
        "--count", type=int, default=10, help="recordings to replay, the newest (default: %(default)s)"
    )
    identify.add_argument(
        "--steps", type=int, default=40, help="of each, best those before contact (default: %(default)s)"
    )
    identify.add_argument(
        "--parameter",
        action="append",
        default=[],
        help="what is fitted: action_delay_s, joint_friction_nm, gain_scale, camera_pose (default: all)",
    )
    identify.add_argument("--json", action="store_true", help="one JSON object instead of lines")

    compare = action(actions, "sim2real", _compare, "whether a session in simulation says what the one in reality says")
    compare.add_argument("real", type=Path, metavar="REAL_DIR", help="folder of the session on the robot, unsealed")
    compare.add_argument("simulated", type=Path, metavar="SIM_DIR", help="of the same plan in simulation, unsealed")
    compare.add_argument(
        "--more", type=Path, metavar="DIR", help="session with simulated trials on other starts: estimates real rates"
    )
    compare.add_argument(
        "--out", type=Path, metavar="DIR", help="where comparison.md, .json and .png go (default: SIM_DIR)"
    )
    compare.add_argument("--json", action="store_true", help="print the JSON instead of the table")


def _identify(arguments: argparse.Namespace) -> int:
    from inril_core.contract import load_contract
    from inril_core.evaluation.sim_to_real.cameras import CameraFits, fit_cameras
    from inril_core.evaluation.sim_to_real.identify import FITTED, Replay, fit
    from inril_core.evaluation.sim_to_real.twin import as_found, write_contract

    for name in ("count", "steps"):
        if not 1 <= getattr(arguments, name) <= 10_000:
            raise ConfigError(f"--{name} = {getattr(arguments, name)}: must be in [1, 10000]")
    known = (*FITTED, CAMERA_POSE)
    wanted = arguments.parameter or known
    if unknown := sorted(set(wanted) - set(known)):
        raise ConfigError(f"--parameter {unknown[0]}: give some of {', '.join(known)}")
    if arguments.out.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"--out {arguments.out}: must end with .yaml, so that contract:= takes it")
    check_writable(arguments.out)
    contract = load_contract(arguments.contract)
    recordings = _recordings(arguments.run_dir, contract, arguments.count)
    replay = Replay(contract, recordings, arguments.steps)
    of_arm = [name for name in FITTED if name in wanted]
    found = fit(replay, of_arm) if of_arm else None
    cameras = CameraFits()
    if CAMERA_POSE in wanted:
        cameras = fit_cameras(contract, recordings, replay.states(None if found is None else found.values))
    lines = [json.dumps(_as_json(found, cameras))] if arguments.json else [*_arm_lines(found), *_camera_lines(cameras)]
    print("\n".join(lines), flush=True)  # before the file: the numbers are not lost when it cannot be written
    write_contract(arguments.out, as_found(contract, found, cameras))
    if not arguments.json:
        print(f"{arguments.out}: the contract with these as ranges of sim.physics, two standard errors wide either way")
    return 0


def _recordings(run_dir: Path, contract: Contract, count: int) -> list[Episode]:
    """The newest of a run that can be replayed; says which cannot."""
    from inril_core.data import read_episode
    from inril_core.data.store import EpisodeStore
    from inril_core.evaluation.sim_to_real.identify import Replay
    from inril_core.run import RunPaths

    folder = RunPaths(run_dir.expanduser().absolute()).episodes
    if not folder.is_dir():
        raise ConfigError(f"{run_dir}: holds no recordings; give the folder of a run")
    store, recordings = EpisodeStore(folder), []
    for entry in reversed(store.entries()):
        if len(recordings) == count:
            break
        try:
            episode = read_episode(store.path(entry.episode_id))
            Replay(contract, [episode])
            recordings.append(episode)
        except (InrilError, OSError) as error:
            print(f"left out: {error}", file=sys.stderr)
    if len(recordings) < FEW_RECORDINGS_N:
        raise ConfigError(f"{run_dir}: {len(recordings)} usable recordings; {FEW_RECORDINGS_N} or more are needed")
    return recordings


def _as_json(found: Fit | None, cameras: CameraFits) -> dict[str, Any]:
    """What was not fitted is null."""
    of_cameras: dict[str, Any] = {
        name: {
            "values": fit.value._asdict(),
            "errors": fit.error._asdict(),
            "rms_before": fit.rms_before,
            "rms": fit.rms,
            "images_n": fit.images_n,
        }
        for name, fit in cameras.found.items()
    }
    return {
        "values": None if found is None else found.values._asdict(),
        "errors": None if found is None else found.errors._asdict(),
        "rms_m": None if found is None else found.rms_m,
        "cameras": of_cameras | {name: {"refused": reason} for name, reason in cameras.refused.items()},
    }


def _arm_lines(found: Fit | None) -> list[str]:
    if found is None:
        return []
    rows = zip(found.values._fields, found.values, found.errors, strict=True)
    return [
        *(f"{name:18s} {value:8.3f} +- {error:.3f} (standard error)" for name, value, error in rows),
        f"{found.steps_n} steps of {found.recordings_n} recordings; the replayed tool is off by "
        f"{1000 * found.rms_before_m:.2f} mm (rms) as the contract is, {1000 * found.rms_m:.2f} mm as found",
    ]


def _camera_lines(cameras: CameraFits) -> list[str]:
    lines = []
    for name, fit in cameras.found.items():
        for what, unit, values, errors in zip(
            ("offset", "rotation"), ("mm", "mrad"), fit.value, fit.error, strict=True
        ):
            for axis, value, error in zip("xyz", values, errors, strict=True):
                label = f"camera {name} {what} {axis}"
                lines.append(f"{label:26s} {1000 * value:8.2f} +- {1000 * error:.2f} {unit} (standard error)")
        lines.append(
            f"{fit.images_n} images of camera {name}; the drawn ones differ by {fit.rms_before:.1f} grey levels (rms) "
            f"with the camera where the model has it, {fit.rms:.1f} as found"
        )
    return [*lines, *(f"camera {name}: not found, {reason}" for name, reason in cameras.refused.items())]


def _compare(arguments: argparse.Namespace) -> int:
    from inril_core.evaluation.session.folder import SessionFolder
    from inril_core.evaluation.sim_to_real.compare import as_json, compare, write_comparison

    out = arguments.simulated if arguments.out is None else arguments.out
    check_writable(out / "comparison.md")
    more = None if arguments.more is None else SessionFolder(arguments.more)
    compared = compare(SessionFolder(arguments.real), SessionFolder(arguments.simulated), more)
    text = write_comparison(out, compared)
    print(json.dumps(as_json(compared)) if arguments.json else text)
    return 0
