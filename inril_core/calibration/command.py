"""`inril calibrate`: what it takes, and what it does."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inril_core.calibration.refused import CalibrationRefused
from inril_core.errors import ConfigError

if TYPE_CHECKING:
    from inril_core.calibration.stored import Stored

SUMMARY = "calibrate cameras, their place on or beside the arm, and delays; exit code 2: the data are refused"
EXAMPLES = (
    "hand-eye --poses poses.npz --json",
    "hand-eye --poses poses.npz --camera wrist --serial 8361 --out calibration/T_gripper_wrist.yaml --report report",
)

# OpenCV and SciPy are imported where they are used: `inril --help` must not wait for them.
Answer = tuple[dict[str, Any], str]
"""Plain values for ``--json``, and lines for people."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `inril calibrate`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="WHAT")
    hand_eye = _action(actions, "hand-eye", _hand_eye, "camera in the gripper or in the base, from poses and corners")
    hand_eye.add_argument(
        "--poses",
        type=Path,
        required=True,
        metavar="FILE",
        help=".npz with T_base_gripper (N,4,4), corners (N,K,2), board_points (K,3), K, distortion, "
        "mode (eye_in_hand or eye_to_hand); metres and pixels",
    )
    _add_store(hand_eye)
    hand_eye.add_argument("--report", type=Path, default=None, metavar="DIR", help="write a page with pictures there")


def _action(
    actions: argparse._SubParsersAction, name: str, run: Callable[[argparse.Namespace], Answer], summary: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=summary, description=summary)
    parser.set_defaults(calibrate=run)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    return parser


def _add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=None, metavar="FILE", help="store the result in this YAML file")
    parser.add_argument("--camera", default=None, metavar="NAME", help="the camera's name in the contract")
    parser.add_argument("--serial", default="", help="the camera's serial number")


def run(arguments: argparse.Namespace) -> int:
    """Do it. Exit codes: 0: done; 1: a file cannot be written, or a check failed; 2: the data are refused.

    Raises:
        ConfigError: what the user can fix and is no fault of the data.
    """
    try:
        values, text = arguments.calibrate(arguments)
    except CalibrationRefused as error:
        if arguments.json:
            print(json.dumps({"refused": error.reason, "message": str(error)}))
        print(f"inril calibrate {arguments.action}: refused: {error}", file=sys.stderr)
        return 2
    print(json.dumps(values, allow_nan=False) if arguments.json else text)
    return 1 if values.get("passed") is False else 0


def _store(arguments: argparse.Namespace, stored: Stored) -> str:
    from inril_core.calibration.stored import write_stored

    write_stored(arguments.out, stored)
    return f"\nstored in {arguments.out}"


def _stored_camera(arguments: argparse.Namespace) -> dict[str, str]:
    if arguments.camera is None:
        raise ConfigError("--out: give --camera NAME too, so that a run knows whose calibration it is")
    return {"name": arguments.camera, "serial": arguments.serial}


def _hand_eye(arguments: argparse.Namespace) -> Answer:
    from inril_core.calibration import hand_eye, hand_eye_data, report
    from inril_core.calibration.stored import Stored, now, rows, software_version

    camera = _stored_camera(arguments) if arguments.out is not None else None
    found = hand_eye.calibrate(hand_eye_data.read_hand_eye(arguments.poses))
    values, text = found.as_dict(), report.hand_eye_text(found)
    if camera is not None:
        parent = "gripper" if found.data.mode == "eye_in_hand" else "base"
        kept = ("rejected", "errors_px", "held_out", "methods", "board_scale", "board_scale_std", "rotation_spread_rad")
        stored = Stored.model_validate(
            {
                "kind": "hand_eye",
                "name": f"T_{parent}_{arguments.camera}",
                "created": now(),
                "software": software_version(),
                "camera": camera,
                "mode": found.data.mode,
                "T": rows(found.T),
                "T_board": rows(found.T_board),
                "residual_px": found.residual_px,
                "covariance": rows(found.covariance),
                "details": {key: values[key] for key in kept},
            }
        )
        text += _store(arguments, stored)
    if arguments.report is not None:
        text += f"\nreport: {report.write_hand_eye(arguments.report, found)}"
    return values, text
