"""What an arm, a tracker or a camera says, looked at before anything is computed from it."""

from __future__ import annotations

from collections.abc import Sequence

from inril_core.errors import InrilError
from inril_core.transforms import never_filled, pose_problem, shown

MAX_DISTANCE_M = 100.0
"""From the base. Wide enough for parts that a simulator flings away: what an arm can reach is for the limits to say."""
MAX_TWIST = 1000.0
"""m/s and rad/s."""


class BadMeasurement(InrilError):
    """A measurement that must not reach a policy; the message names the field, its value and what is allowed."""


def check_frame(frame_id: str, base_frame: str) -> None:
    """Check that poses are given in `base_frame` of the contract.

    Raises:
        BadMeasurement: another frame, or none.
    """
    if frame_id != base_frame:
        given = repr(frame_id[:64]) if frame_id else "empty"
        raise BadMeasurement(
            f"header.frame_id is {given}: must be the contract's base_frame, {base_frame!r}; let the driver give "
            "poses in the arm's base frame, under this name"
        )


def check_pose(name: str, pose: Sequence[float]) -> None:
    """Check a pose: 7 numbers, x y z in m and a unit quaternion xyzw.

    Raises:
        BadMeasurement: not finite, farther than 100 m, or a quaternion that is not of length 1.
    """
    position = pose[:3]
    if not all(-MAX_DISTANCE_M <= value <= MAX_DISTANCE_M for value in position):  # false for NaN too
        raise BadMeasurement(f"{name}: position {shown(position)} m must be finite and within {MAX_DISTANCE_M:g} m")
    if problem := pose_problem(pose):
        raise BadMeasurement(f"{name}: {problem}")


def check_tool(tool_pose: Sequence[float], tool_twist: Sequence[float], gripper_width_m: float) -> None:
    """Check what an arm measures: pose (7, m and xyzw), twist (6, m/s and rad/s) and the gripper's width.

    Raises:
        BadMeasurement: a value that no arm can have.
    """
    check_pose("tool_pose", tool_pose)
    if never_filled(tool_pose):
        raise BadMeasurement("tool_pose: exactly zero without rotation, as in a message that nobody filled")
    if not all(-MAX_TWIST <= value <= MAX_TWIST for value in tool_twist):
        raise BadMeasurement(f"tool_twist: {shown(tool_twist)} must be finite and within {MAX_TWIST:g} m/s and rad/s")
    if not -1.0 <= gripper_width_m <= 1.0:
        raise BadMeasurement(f"gripper_width_m = {gripper_width_m}: must be finite and within 1 m")
