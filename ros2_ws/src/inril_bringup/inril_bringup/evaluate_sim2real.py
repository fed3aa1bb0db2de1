"""`inril evaluate identify` and `inril evaluate sim2real`: the simulated cell beside the robot."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inril_core.errors import ConfigError, InrilError
from inril_core.files import check_writable

FEW_RECORDINGS_N = 3

# Modules that are slow to import are imported where they are used.


def add_actions(actions: Any, action: Callable[..., Any]) -> None:
    """Args:
    action: adds a sub-command, as `inril_bringup.evaluate_command` does.
    """
    identify = action(
        actions, "identify", _identify, "delay, friction and gains of the arm from recordings, for the simulated cell"
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
        help="what is fitted: action_delay_s, joint_friction_nm, gain_scale (default: all)",
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
    from inril_core.data import read_episode
    from inril_core.data.store import EpisodeStore
    from inril_core.evaluation.sim_to_real.identify import FITTED, Replay, fit
    from inril_core.evaluation.sim_to_real.twin import with_physics, write_contract
    from inril_core.run import RunPaths

    for name in ("count", "steps"):
        if not 1 <= getattr(arguments, name) <= 10_000:
            raise ConfigError(f"--{name} = {getattr(arguments, name)}: must be in [1, 10000]")
    if arguments.out.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"--out {arguments.out}: must end with .yaml, so that contract:= takes it")
    check_writable(arguments.out)
    contract = load_contract(arguments.contract)
    folder = RunPaths(arguments.run_dir.expanduser().absolute()).episodes
    if not folder.is_dir():
        raise ConfigError(f"{arguments.run_dir}: holds no recordings; give the folder of a run")
    store, recordings = EpisodeStore(folder), []
    for entry in reversed(store.entries()):
        if len(recordings) == arguments.count:
            break
        try:
            episode = read_episode(store.path(entry.episode_id))
            Replay(contract, [episode])
            recordings.append(episode)
        except (InrilError, OSError) as error:
            print(f"left out: {error}", file=sys.stderr)
    if len(recordings) < FEW_RECORDINGS_N:
        raise ConfigError(
            f"{arguments.run_dir}: {len(recordings)} usable recordings; {FEW_RECORDINGS_N} or more are needed"
        )
    found = fit(Replay(contract, recordings, arguments.steps), tuple(arguments.parameter) or FITTED)
    write_contract(arguments.out, with_physics(contract, found.ranges()))
    if arguments.json:
        print(json.dumps({"values": found.values._asdict(), "errors": found.errors._asdict(), "rms_m": found.rms_m}))
        return 0
    for name, value, error in zip(FITTED, found.values, found.errors, strict=True):
        print(f"{name:18s} {value:8.3f} +- {error:.3f} (standard error)")
    print(
        f"{found.steps_n} steps of {found.recordings_n} recordings; the replayed tool is off by "
        f"{1000 * found.rms_before_m:.2f} mm (rms) as the contract is, {1000 * found.rms_m:.2f} mm as found\n"
        f"{arguments.out}: the contract with these as ranges of sim.physics, two standard errors wide either way"
    )
    return 0


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
