"""Rotations and poses on plain floats: quaternions are (x, y, z, w), rotation vectors are radians.

The functions take any sequence of floats and return tuples. They serve the control tick, where scipy's
`Rotation` objects and numpy arithmetic on 4-vectors cost more than the arithmetic itself: pass lists or
tuples (`array.tolist()`), not arrays, where speed matters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Floats = Sequence[float]
Vector3 = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]
Rotation6 = tuple[float, float, float, float, float, float]

UNIT_NORM_TOLERANCE = 0.01
"""Of a quaternion that somebody else made; averaging filters leave some 0.001, single precision 1e-7."""

_UNIT_ROUNDING = 1e-15  # a few units in the last place, which is what one normalisation leaves
_NEVER_FILLED = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
_SMALL_ANGLE_RAD = 1e-6  # below this sin(a)/a is 1 to double precision (error a^2/6 < 2e-13)


def quat_normalise(q: Floats) -> Quaternion:
    """Unit quaternion along `q`; one that is already unit to rounding comes back bit by bit.

    So normalising twice is the same as once, and the graph computes what the in-process environment does.

    Raises:
        ValueError: `q` is not finite or its norm is below 1e-6, so it names no rotation.
    """
    x, y, z, w = q
    norm = math.sqrt(x * x + y * y + z * z + w * w)
    if not 1e-6 <= norm < math.inf:  # false for NaN too
        raise ValueError(f"quaternion xyzw = {tuple(q)} has norm {norm}: must be finite and above 1e-6")
    if abs(norm - 1.0) < _UNIT_ROUNDING:
        return (x, y, z, w)
    return (x / norm, y / norm, z / norm, w / norm)


def quat_problem(q: Floats, tolerance: float = UNIT_NORM_TOLERANCE) -> str | None:
    """Why `q` (4, xyzw) is no unit quaternion; None: it is one, to `tolerance` in its length."""
    norm = math.hypot(*q)
    if len(q) == 4 and abs(norm - 1.0) <= tolerance:  # false for NaN too
        return None
    filled = " (was the message ever filled?)" if norm == 0.0 else ""
    return f"quaternion xyzw {shown(q)} has length {norm:.4g}, not 1{filled}"


def pose_problem(pose: Floats, tolerance: float = UNIT_NORM_TOLERANCE) -> str | None:
    """Why `pose` is none; None: it is 7 finite numbers, x y z in m and a unit quaternion xyzw.

    What pose is allowed, for an arm or in a task, is for others to say.
    """
    if len(pose) != 7:
        return f"{len(pose)} numbers instead of 7, m and xyzw"
    if not all(map(math.isfinite, pose[:3])):
        return f"position {shown(pose[:3])} m is not finite"
    return quat_problem(pose[3:], tolerance)


def never_filled(pose: Floats) -> bool:
    """Whether a pose is exactly zero without rotation, as in a message that nobody filled."""
    return pose[6] == 1.0 and tuple(pose) == _NEVER_FILLED


def shown(values: Floats) -> str:
    """Numbers for a message to people."""
    return "(" + ", ".join(f"{value:.4g}" for value in values) + ")"


def quat_multiply(a: Floats, b: Floats) -> Quaternion:
    """Quaternion of the rotation R(a) R(b): first `b`, then `a`."""
    ax, ay, az, aw = a
    bx, by, bz, bw = b
    return (
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
        aw * bw - ax * bx - ay * by - az * bz,
    )


def quat_conjugate(q: Floats) -> Quaternion:
    """Quaternion of the inverse rotation of the unit quaternion `q`."""
    x, y, z, w = q
    return (-x, -y, -z, w)


def quat_from_rotvec(rotvec: Floats) -> Quaternion:
    """Unit quaternion of the rotation vector `rotvec` (rad): the exponential map."""
    x, y, z = rotvec
    angle_rad = math.sqrt(x * x + y * y + z * z)
    if angle_rad < _SMALL_ANGLE_RAD:
        scale, w = 0.5, 1.0
    else:
        scale, w = math.sin(0.5 * angle_rad) / angle_rad, math.cos(0.5 * angle_rad)
    return (x * scale, y * scale, z * scale, w)


def rotvec_from_quat(q: Floats) -> Vector3:
    """Rotation vector (rad, length at most pi) of the unit quaternion `q`: the logarithm."""
    x, y, z, w = q
    if w < 0.0:  # q and -q are the same rotation; this one is the shorter way round
        x, y, z, w = -x, -y, -z, -w
    sine = math.sqrt(x * x + y * y + z * z)
    scale = 2.0 if sine < 0.5 * _SMALL_ANGLE_RAD else 2.0 * math.atan2(sine, w) / sine
    return (x * scale, y * scale, z * scale)


def quat_rotate(q: Floats, v: Floats) -> Vector3:
    """Vector `v` rotated by the unit quaternion `q`."""
    qx, qy, qz, qw = q
    vx, vy, vz = v
    tx = 2.0 * (qy * vz - qz * vy)
    ty = 2.0 * (qz * vx - qx * vz)
    tz = 2.0 * (qx * vy - qy * vx)
    return (
        vx + qw * tx + qy * tz - qz * ty,
        vy + qw * ty + qz * tx - qx * tz,
        vz + qw * tz + qx * ty - qy * tx,
    )


def quat_difference(a: Floats, b: Floats) -> Vector3:
    """Rotation vector (rad, base frame) that leads from `b` to `a`: R(a) = exp(result) R(b)."""
    return rotvec_from_quat(quat_multiply(a, quat_conjugate(b)))


def within_turn(a: Floats, b: Floats, most_rad: float) -> bool:
    """Whether at most `most_rad` lie between the unit quaternions `a` and `b`; for bounds well above 1e-6 rad."""
    ax, ay, az, aw = a
    bx, by, bz, bw = b
    return most_rad >= math.pi or abs(ax * bx + ay * by + az * bz + aw * bw) >= math.cos(0.5 * most_rad)


def rotation6_from_quat(q: Floats) -> Rotation6:
    """First two columns of the rotation matrix of the unit quaternion `q`, column by column.

    The 6-D representation of Zhou et al. 2019 (arXiv:1812.07035), continuous in the rotation.
    """
    x, y, z, w = q
    return (
        1.0 - 2.0 * (y * y + z * z),
        2.0 * (x * y + z * w),
        2.0 * (x * z - y * w),
        2.0 * (x * y - z * w),
        1.0 - 2.0 * (x * x + z * z),
        2.0 * (y * z + x * w),
    )


def tilt_rad(q: Floats) -> float:
    """Angle (rad) between the z axis of the frame turned by the unit quaternion `q` and straight down."""
    x, y, z, w = q
    across = math.hypot(2.0 * (x * z + y * w), 2.0 * (y * z - x * w))
    return math.atan2(across, 2.0 * (x * x + y * y) - 1.0)


def cross(a: Sequence[float], b: Sequence[float]) -> Vector3:
    """The cross product: as `numpy.cross`, which takes twenty times as long for one pair of vectors."""
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]
