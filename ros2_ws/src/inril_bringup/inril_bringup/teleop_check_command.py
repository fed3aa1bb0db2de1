"""`inril teleop-check`: what it takes. What it does is in `teleop_check`, whose imports `--help` does not wait for."""

from __future__ import annotations

import argparse

SUMMARY = "drive the arm by hand through the training loop: speed, delay, jitter, limits; exit code 1: not passed"
EXAMPLES = (
    "",
    "contract:=one_leg_low",
    "arm.yaml arm:=franky arm_settings:='{host: 172.16.0.2}' device:=spacemouse contract:=one_leg_low",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `inril teleop-check`."""
    parser.add_argument(
        "words",
        nargs="*",
        metavar="[GRAPH] NAME:=VALUE",
        help="the graph that will run, as `inril up` takes it, and its arguments; its policy and learner are left out. "
        "Default: collect_demos, the simulated cell, whose axes the device `sweep` drives in turn. "
        "calibration:=FOLDER is where the result is stored",
    )
    parser.add_argument("--episodes", type=int, default=None, help="to drive in (default: until each axis has had its)")
    parser.add_argument("--json", action="store_true", help="in the last line the result as one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Drive, measure, judge, store. Exit code 0: passed; 1: not, or the driving did not come to its end."""
    from inril_bringup import teleop_check

    return teleop_check.run(arguments)
