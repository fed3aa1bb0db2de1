"""Forward kinematics of a chain of revolute joints."""

from __future__ import annotations

import math
from collections.abc import Sequence

from inril_core.transforms import Quaternion, Vector3, quat_from_rotvec, quat_multiply, quat_rotate

DhRow = tuple[float, float, float]
"""a [m], d [m], alpha [rad] of one joint: the modified Denavit-Hartenberg convention of Craig, "Introduction to
Robotics" (1986), eq. 3.6: T = Rot_x(alpha) Trans_x(a) Rot_z(q) Trans_z(d)."""

PANDA: tuple[DhRow, ...] = (
    (0.0, 0.333, 0.0),
    (0.0, 0.0, -math.pi / 2),
    (0.0, 0.316, math.pi / 2),
    (0.0825, 0.0, math.pi / 2),
    (-0.0825, 0.384, -math.pi / 2),
    (0.0, 0.0, math.pi / 2),
    (0.088, 0.0, math.pi / 2),
)
"""Franka Panda and FR3, from the manufacturer's documentation; the last frame is that of joint 7."""

PANDA_TOOL_M: Vector3 = (0.0, 0.0, 0.107 + 0.1034)
"""Between the tips of the Franka Hand's fingers, in the frame of joint 7."""
PANDA_TOOL_QUAT: Quaternion = (0.0, 0.0, -math.sin(math.pi / 8), math.cos(math.pi / 8))


def tool_pose(
    chain: Sequence[DhRow], joint_rad: Sequence[float], tool_m: Vector3, tool_quat: Quaternion
) -> tuple[float, ...]:
    """Pose of the tool (7, m and xyzw, base frame) at joint positions (one for each row of ``chain``).

    tool_m, tool_quat: of the tool in the last joint's frame.
    """
    position: Vector3 = (0.0, 0.0, 0.0)
    quat: Quaternion = (0.0, 0.0, 0.0, 1.0)
    for (a_m, d_m, alpha_rad), angle_rad in zip(chain, joint_rad, strict=True):
        position = _moved(position, quat, (a_m, 0.0, 0.0))
        quat = quat_multiply(quat, quat_from_rotvec((alpha_rad, 0.0, 0.0)))
        position = _moved(position, quat, (0.0, 0.0, d_m))
        quat = quat_multiply(quat, quat_from_rotvec((0.0, 0.0, angle_rad)))
    return (*_moved(position, quat, tool_m), *quat_multiply(quat, tool_quat))


def _moved(position: Vector3, quat: Quaternion, by: Vector3) -> Vector3:
    x, y, z = quat_rotate(quat, by)
    return position[0] + x, position[1] + y, position[2] + z
