"""The graph `correct` of inril_bringup; --show-args lists its arguments."""

import sys
from pathlib import Path

# So that it also starts from a checkout whose workspace was not sourced.
sys.path.append(str(Path(__file__).resolve().parents[1] / "ros2_ws" / "src" / "inril_bringup"))

from inril_bringup import launching


def generate_launch_description():
    return launching.generate_launch_description("correct")
