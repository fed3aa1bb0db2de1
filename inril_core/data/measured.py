"""What arm and tracker measured in an episode, beside what the policy was given of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

JOINTS = 7
NEVER_NS = -1


@dataclass(frozen=True)
class Measured:
    """One row for each of T + 1 observations: the newest message whose stamp is not later. NaN rows where none is.

    Arrays are read-only.
    """

    robot_stamps_ns: np.ndarray
    """int64[T+1], of the arm's message; -1 where there is none."""
    joint_position_rad: np.ndarray
    """float64[T+1, 7]."""
    joint_velocity_radps: np.ndarray
    """float64[T+1, 7]."""
    joint_torque_nm: np.ndarray
    """float64[T+1, 7]."""
    tool_twist: np.ndarray
    """float64[T+1, 6], base frame, m/s and rad/s."""
    gripper_width_m: np.ndarray
    """float64[T+1]."""
    part_stamps_ns: np.ndarray
    """int64[T+1], of the tracker's message; -1 where there is none."""
    part_poses: Mapping[str, np.ndarray] = field(default_factory=dict)
    """float64[T+1, 7] by name, base frame, m and quaternion xyzw."""

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        for values in (*vars(self).values(), *self.part_poses.values()):
            if isinstance(values, np.ndarray):
                values.flags.writeable = False


def measured_at(
    stamps_ns: np.ndarray,
    robot_states: Sequence[Any],
    part_poses: Sequence[Any],
    stamp_of: Callable[[Any], int],
) -> Measured | None:
    """Join the decoded messages of a recording to its observations.

    stamps_ns: int64[T+1], of the observations. stamp_of: ns of a message's header.
    None: the recording has neither (it is of a version that did not record them).

    Raises:
        ValueError: a joint array has another length, or names and poses do not fit.
    """
    if not robot_states and not part_poses:
        return None
    robot_stamps, robot_rows = _newest(stamps_ns, robot_states, stamp_of)
    part_stamps, part_rows = _newest(stamps_ns, part_poses, stamp_of)
    names = sorted({name for message in part_poses for name in message.names})
    poses = {name: np.full((len(stamps_ns), 7), np.nan) for name in names}
    for row, message in enumerate(part_rows):
        if message is not None:
            for name, pose in zip(message.names, message.poses, strict=True):
                poses[name][row] = _pose(pose)

    def joints(name: str) -> np.ndarray:
        return _rows(robot_rows, JOINTS, lambda message: getattr(message, name))

    return Measured(
        robot_stamps_ns=robot_stamps,
        joint_position_rad=joints("joint_position_rad"),
        joint_velocity_radps=joints("joint_velocity_radps"),
        joint_torque_nm=joints("joint_torque_nm"),
        tool_twist=_rows(robot_rows, 6, lambda message: _twist(message.tool_twist)),
        gripper_width_m=_rows(robot_rows, 1, lambda message: (message.gripper_width_m,))[:, 0],
        part_stamps_ns=part_stamps,
        part_poses=poses,
    )


def _newest(
    stamps_ns: np.ndarray, messages: Sequence[Any], stamp_of: Callable[[Any], int]
) -> tuple[np.ndarray, list[Any]]:
    ordered = sorted(messages, key=stamp_of)
    times = np.array([stamp_of(message) for message in ordered], np.int64)
    found = np.searchsorted(times, stamps_ns, side="right") - 1
    rows = [ordered[place] if place >= 0 else None for place in found]
    return np.array([NEVER_NS if m is None else stamp_of(m) for m in rows], np.int64), rows


def _rows(messages: Sequence[Any], size: int, values: Callable[[Any], Sequence[float]]) -> np.ndarray:
    rows = np.full((len(messages), size), np.nan)
    for row, message in zip(rows, messages, strict=True):
        if message is not None:
            row[:] = np.asarray(values(message), np.float64).reshape(size)
    return rows


def _pose(pose: Any) -> tuple[float, ...]:
    p, q = pose.position, pose.orientation
    return p.x, p.y, p.z, q.x, q.y, q.z, q.w


def _twist(twist: Any) -> tuple[float, ...]:
    a, b = twist.linear, twist.angular
    return a.x, a.y, a.z, b.x, b.y, b.z
