"""`inril calibrate`: what it takes, and what it does."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inril_core.calibration.refused import CalibrationRefused
from inril_core.errors import ConfigError
from inril_core.files import check_writable

if TYPE_CHECKING:
    from inril_core.calibration.stored import Stored

SUMMARY = "calibrate cameras, their place on or beside the arm, and delays; exit code 2: the data are refused"
EXAMPLES = (
    "hand-eye --poses poses.npz --json",
    "hand-eye --poses poses.npz --camera wrist --serial 8361 --out calibration/T_gripper_wrist.yaml --report report",
    "intrinsics --images shots --board calibration/boards/charuco_8x6_30mm.yaml",
    "base-tag --images table.png --intrinsics calibration/intrinsics_front.yaml "
    "--layout calibration/boards/furniture_bench_base.yaml",
    "latency --recording sweep.npz --json",
    "check --calibration calibration/T_gripper_wrist.yaml --poses now.npz",
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
    hand_eye.add_argument("--board", default="", metavar="NAME", help="the board's name, to be stored")
    _add_store(hand_eye)
    hand_eye.add_argument("--report", type=Path, default=None, metavar="DIR", help="write a page with pictures there")

    intrinsics = _action(actions, "intrinsics", _intrinsics, "camera matrix and distortion from images of a board")
    source = intrinsics.add_mutually_exclusive_group(required=True)
    source.add_argument("--images", type=Path, metavar="DIR", help="folder of images; needs --board")
    source.add_argument(
        "--corners",
        type=Path,
        metavar="FILE",
        help=".npz with corners (N,K,2; NaN: not seen), board_points (K,3; z = 0), image_size (W,H)",
    )
    intrinsics.add_argument("--board", type=Path, default=None, metavar="FILE", help="the ChArUco board's YAML file")
    _add_store(intrinsics)
    intrinsics.add_argument("--report", type=Path, default=None, metavar="DIR", help="write a page with pictures there")

    base_tag = _action(actions, "base-tag", _base_tag, "a fixed camera in the base frame, from tags on the table")
    base_tag.add_argument("--images", type=Path, nargs="+", required=True, metavar="PATH", help="images, or folders")
    base_tag.add_argument("--intrinsics", type=Path, required=True, metavar="FILE", help="of `calibrate intrinsics`")
    base_tag.add_argument("--layout", type=Path, required=True, metavar="FILE", help="YAML with the tags of body base")
    _add_store(base_tag)

    latency = _action(actions, "latency", _latency, "delays of action and camera, from a commanded sweep")
    latency.add_argument(
        "--recording",
        type=Path,
        required=True,
        metavar="FILE",
        help=".npz with t_measured_s, measured, and t_command_s, command or t_image_s, image_motion; seconds of one "
        "clock, one coordinate",
    )
    _add_store(latency)

    check = _action(actions, "check", _check, "whether a hand-eye calibration still holds; exit code 1: no")
    check.add_argument("--calibration", type=Path, required=True, metavar="FILE", help="of `calibrate hand-eye --out`")
    check.add_argument("--poses", type=Path, required=True, metavar="FILE", help="one or more poses, as for hand-eye")
    check.add_argument(
        "--limit-px", type=float, default=None, metavar="PX", help="default: 3 px or 0.005 focal lengths"
    )
    check.add_argument(
        "--board-moved", action="store_true", help="the board stands elsewhere now; needs 2 poses or more"
    )


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
    for option, name in (("out", ""), ("report", "index.html")):
        if (path := vars(arguments).get(option)) is not None:
            check_writable(path / name, f"--{option}")
    try:
        values, text = arguments.calibrate(arguments)
    except CalibrationRefused as error:
        if arguments.json:
            print(json.dumps({"refused": error.reason, "message": str(error)}))
        print(f"inril calibrate {arguments.action}: refused: {error}", file=sys.stderr)
        return 2
    print(json.dumps(_finite(values), allow_nan=False) if arguments.json else text)
    return 1 if values.get("passed") is False else 0


def _finite(value: Any) -> Any:
    """The same with null for what is not finite, which JSON does not know."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


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


def _intrinsics(arguments: argparse.Namespace) -> Answer:
    from inril_core.calibration import intrinsics, report
    from inril_core.calibration.board import load_board
    from inril_core.calibration.stored import Stored, now, rows, software_version

    camera = _stored_camera(arguments) if arguments.out is not None else None
    board = None
    if arguments.images is not None:
        if arguments.board is None:
            raise ConfigError("--images: give --board too, the file of the board that they show")
        board = load_board(arguments.board)
        views = intrinsics.read_images(arguments.images, board)
    else:
        views = intrinsics.read_corners(arguments.corners)
    found = intrinsics.calibrate(views)
    values, text = found.as_dict(), report.intrinsics_text(found)
    if camera is not None:
        stored = Stored.model_validate(
            {
                "kind": "intrinsics",
                "name": f"intrinsics_{arguments.camera}",
                "created": now(),
                "software": software_version(),
                "camera": camera,
                "board": board.name if board is not None else "",
                "intrinsics": {
                    "width_px": found.width_px,
                    "height_px": found.height_px,
                    "K": rows(found.camera.K),
                    "distortion": found.camera.distortion.tolist(),
                },
                "residual_px": found.residual_px,
                "details": {key: values[key] for key in ("held_out_px", "std", "used", "rejected", "missing")},
            }
        )
        text += _store(arguments, stored)
    if arguments.report is not None:
        text += f"\nreport: {report.write_intrinsics(arguments.report, found)}"
    return values, text


def _base_tag(arguments: argparse.Namespace) -> Answer:
    from inril_core.calibration import base_tag
    from inril_core.calibration.stored import Stored, now, read_intrinsics, rows, software_version
    from inril_core.calibration.tags import load_layout

    camera = _stored_camera(arguments) if arguments.out is not None else None
    stored, eye = read_intrinsics(arguments.intrinsics)
    assert stored.intrinsics is not None
    layout = load_layout(arguments.layout)
    size = stored.intrinsics.width_px, stored.intrinsics.height_px
    found = base_tag.calibrate(eye, size, layout, base_tag.read_grey(arguments.images))
    values = found.as_dict()
    text = (
        f"T_base_camera from tags {', '.join(map(str, found.tags))} in {len(found.used)} images\n"
        f"  position_m  {' '.join(f'{x:+.5f}' for x in found.T[:3, 3])}\n"
        f"  residual    {found.residual_px:.3f} px; from image to image {1e3 * found.position_std_m:.2f} mm, "
        f"{math.degrees(found.angle_std_rad):.3f} deg\n"
        f"  rejected    {'; '.join(f'{name}: {why}' for name, why in found.rejected.items()) or 'none'}"
    )
    if camera is not None:
        result = Stored.model_validate(
            {
                "kind": "base_tag",
                "name": f"T_base_{arguments.camera}",
                "created": now(),
                "software": software_version(),
                "camera": camera,
                "board": layout.name,
                "T": rows(found.T),
                "residual_px": found.residual_px,
                "details": {k: values[k] for k in ("position_std_m", "angle_std_rad", "used", "rejected", "tags")},
            }
        )
        text += _store(arguments, result)
    return values, text


def _latency(arguments: argparse.Namespace) -> Answer:
    from inril_core.calibration import latency
    from inril_core.calibration.stored import Stored, now, software_version

    camera = _stored_camera(arguments) if arguments.out is not None else None
    found = latency.read_latency(arguments.recording)
    values = found.as_dict()
    text = "\n".join(
        f"{name} delay {1e3 * delay['delay_s']:.1f} +- {1e3 * delay['std_s']:.1f} ms (correlation "
        f"{delay['correlation']:.4f})"
        for name, delay in values.items()
    )
    if camera is not None:
        stored = Stored.model_validate(
            {
                "kind": "latency",
                "name": f"latency_{arguments.camera}",
                "created": now(),
                "software": software_version(),
                "camera": camera,
                "delay_s": {name: delay["delay_s"] for name, delay in values.items()},
                "details": values,
            }
        )
        text += _store(arguments, stored)
    return values, text


def _check(arguments: argparse.Namespace) -> Answer:
    from inril_core.calibration import quick_check
    from inril_core.calibration.stored import read_stored, write_stored

    stored = read_stored(arguments.calibration)
    found = quick_check.check(stored, arguments.poses, arguments.limit_px, arguments.board_moved)
    write_stored(arguments.calibration, stored.model_copy(update={"check": found}))
    word = "holds" if found.passed else "does NOT hold: something moved; calibrate again"
    text = f"{stored.name} {word}: {found.residual_px:.2f} px, at most {found.limit_px:.2f} px"
    return {"name": stored.name, **found.model_dump(mode="json")}, text
