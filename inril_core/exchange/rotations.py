"""Rotations in the forms that files hold."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation as R

from inril_core.errors import ConfigError

SIZES = {"rotvec": 3, "quat_xyzw": 4, "quat_wxyz": 4, "matrix": 9, "rot6d": 6, "euler_xyz": 3}
_UNIT_TOLERANCE = 0.02
_TURN = 2.0 * np.pi


def rotations(values: np.ndarray, kind: str, name: str, tolerance: float = _UNIT_TOLERANCE) -> R:
    """Rotations of rows ``[n, SIZES[kind]]``; angles in rad, Euler angles about the fixed axes x, y, z in this order.

    Args:
        tolerance: how far from 1 the length of a quaternion or an axis may be; it is brought to 1.

    Raises:
        ConfigError: another number of values, or no rotations: quaternions or axes that are not of length 1.
    """
    if values.shape[1] != SIZES[kind]:
        raise ConfigError(f"{name}: {values.shape[1]} numbers; {kind} has {SIZES[kind]}")
    if kind == "rotvec":
        return R.from_rotvec(values)
    if kind == "euler_xyz":
        return R.from_euler("xyz", values)
    if kind.startswith("quat"):
        _check_length(values, name, kind, tolerance)
        return R.from_quat(values if kind == "quat_xyzw" else values[:, [1, 2, 3, 0]])
    columns = values.reshape(-1, 3, 3)[:, :, :2] if kind == "matrix" else values.reshape(-1, 2, 3).transpose(0, 2, 1)
    first, second = columns[:, :, 0], columns[:, :, 1]
    _check_length(first, name, kind, tolerance)
    _check_length(second, name, kind, tolerance)
    first = first / np.linalg.norm(first, axis=1, keepdims=True)
    second = second - (first * second).sum(1, keepdims=True) * first
    second = second / np.linalg.norm(second, axis=1, keepdims=True)
    return R.from_matrix(np.stack([first, second, np.cross(first, second)], 2))


def rot6d(turned: R) -> np.ndarray:
    """``float64[n, 6]``: the first two columns of each matrix, one behind the other, as in contracts."""
    matrices = turned.as_matrix()
    return np.concatenate([matrices[:, :, 0], matrices[:, :, 1]], 1)


def rotation_numbers(turned: R, kind: str, near: np.ndarray | None = None) -> np.ndarray:
    """The inverse of `rotations`: ``float64[n, SIZES[kind]]``.

    A quaternion and its negative are the same rotation, as are rotation vectors and Euler angles a full turn apart. Of
    such numbers those nearest to ``near`` ``[SIZES[kind]]`` are taken, e.g. the mean of the data that a policy was
    trained on; without it, w >= 0 and angles within half a turn.
    """
    if kind == "rot6d":
        return rot6d(turned)
    if kind == "matrix":
        return turned.as_matrix().reshape(-1, 9)
    if kind == "euler_xyz":
        values = turned.as_euler("xyz")
        return values if near is None else values + _TURN * np.round((near - values) / _TURN)
    if kind == "rotvec":
        values = turned.as_rotvec()
        angle = np.linalg.norm(values, axis=1, keepdims=True)
        if near is not None:
            axis = np.divide(values, angle, out=np.zeros_like(values), where=angle > 0.0)
            values = values + _TURN * np.round(((near - values) * axis).sum(1, keepdims=True) / _TURN) * axis
        return values
    values = turned.as_quat(canonical=True)
    values = values if kind == "quat_xyzw" else values[:, [3, 0, 1, 2]]
    return values if near is None else np.where((values * near).sum(1, keepdims=True) < 0.0, -values, values)


def _check_length(rows: np.ndarray, name: str, kind: str, tolerance: float) -> None:
    lengths = np.linalg.norm(rows, axis=1)
    wrong = np.flatnonzero(np.abs(lengths - 1.0) > tolerance)
    if len(wrong):
        raise ConfigError(f"{name}: row {wrong[0]} is no {kind}: its length is {lengths[wrong[0]]:.3g}, not 1")
