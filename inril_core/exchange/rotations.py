"""Rotations in the forms that files hold."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation as R

from inril_core.errors import ConfigError

SIZES = {"rotvec": 3, "quat_xyzw": 4, "quat_wxyz": 4, "matrix": 9, "rot6d": 6, "euler_xyz": 3}
_UNIT_TOLERANCE = 0.02


def rotations(values: np.ndarray, kind: str, name: str) -> R:
    """Rotations of rows ``[n, SIZES[kind]]``; angles in rad, Euler angles about the fixed axes x, y, z in this order.

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
        _check_length(values, name, kind)
        return R.from_quat(values if kind == "quat_xyzw" else values[:, [1, 2, 3, 0]])
    columns = values.reshape(-1, 3, 3)[:, :, :2] if kind == "matrix" else values.reshape(-1, 2, 3).transpose(0, 2, 1)
    first, second = columns[:, :, 0], columns[:, :, 1]
    _check_length(first, name, kind)
    _check_length(second, name, kind)
    first = first / np.linalg.norm(first, axis=1, keepdims=True)
    second = second - (first * second).sum(1, keepdims=True) * first
    second = second / np.linalg.norm(second, axis=1, keepdims=True)
    return R.from_matrix(np.stack([first, second, np.cross(first, second)], 2))


def rot6d(turned: R) -> np.ndarray:
    """``float64[n, 6]``: the first two columns of each matrix, one behind the other, as in contracts."""
    matrices = turned.as_matrix()
    return np.concatenate([matrices[:, :, 0], matrices[:, :, 1]], 1)


def _check_length(rows: np.ndarray, name: str, kind: str) -> None:
    lengths = np.linalg.norm(rows, axis=1)
    wrong = np.flatnonzero(np.abs(lengths - 1.0) > _UNIT_TOLERANCE)
    if len(wrong):
        raise ConfigError(f"{name}: row {wrong[0]} is no {kind}: its length is {lengths[wrong[0]]:.3g}, not 1")
