"""Rigid transforms as arrays of 4x4 matrices, many at once."""

from __future__ import annotations

import numpy as np
import scipy  # its parts are loaded at first use


def inverse(T: np.ndarray) -> np.ndarray:
    """Inverse of rigid transforms, float64[..., 4, 4]."""
    out = np.zeros_like(T)
    rotation = np.swapaxes(T[..., :3, :3], -1, -2)
    out[..., :3, :3] = rotation
    out[..., :3, 3] = -np.einsum("...ij,...j->...i", rotation, T[..., :3, 3])
    out[..., 3, 3] = 1.0
    return out


def compose(rotation: np.ndarray, translation_m: np.ndarray) -> np.ndarray:
    """float64[..., 4, 4] of float64[..., 3, 3] and float64[..., 3]."""
    out = np.zeros((*rotation.shape[:-2], 4, 4))
    out[..., :3, :3], out[..., :3, 3], out[..., 3, 3] = rotation, translation_m, 1.0
    return out


def apply(T: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points float64[K, 3] in the outer frame of each transform: float64[..., K, 3]."""
    return points @ np.swapaxes(T[..., :3, :3], -1, -2) + T[..., None, :3, 3]


def nearest_rotation(M: np.ndarray) -> np.ndarray:
    """The rotations nearest to float64[..., 3, 3] in the Frobenius norm."""
    u, _, vt = np.linalg.svd(M)
    u[..., :, 2] *= np.sign(np.linalg.det(u @ vt))[..., None]
    return np.asarray(u @ vt)


def moved(T: np.ndarray, step: np.ndarray) -> np.ndarray:
    """``T`` turned and shifted in its own frame by ``step``: rotation vector (rad), then translation (m)."""
    return np.asarray(T @ compose(scipy.spatial.transform.Rotation.from_rotvec(step[:3]).as_matrix(), step[3:]))


def cross_matrix(v: np.ndarray) -> np.ndarray:
    """[v]x of vectors float64[..., 3]: float64[..., 3, 3] with [v]x u = v x u."""
    out = np.zeros((*v.shape, 3))
    out[..., 0, 1], out[..., 0, 2], out[..., 1, 2] = -v[..., 2], v[..., 1], -v[..., 0]
    return out - np.swapaxes(out, -1, -2)


def right_jacobian(rotvec: np.ndarray) -> np.ndarray:
    """Jr with Exp(w + dw) = Exp(w) Exp(Jr dw) for a rotation vector (rad); Sola et al. 2018, eq. 143."""
    angle, K = float(np.linalg.norm(rotvec)), cross_matrix(rotvec)
    if angle < 1e-6:
        return np.asarray(np.eye(3) - 0.5 * K)
    return np.asarray(np.eye(3) - (1 - np.cos(angle)) / angle**2 * K + (angle - np.sin(angle)) / angle**3 * K @ K)


def angle_rad(R: np.ndarray) -> np.ndarray:
    """Angle of rotations float64[..., 3, 3], in [0, pi]."""
    cosine = 0.5 * (np.trace(R, axis1=-2, axis2=-1) - 1.0)
    skew = R - np.swapaxes(R, -1, -2)
    sine = 0.5 * np.sqrt(skew[..., 2, 1] ** 2 + skew[..., 0, 2] ** 2 + skew[..., 1, 0] ** 2)
    return np.arctan2(sine, cosine)


def difference(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Distance (m) and angle (rad) between two transforms into the same frame."""
    return float(np.linalg.norm(a[:3, 3] - b[:3, 3])), float(angle_rad(a[:3, :3].T @ b[:3, :3]))


def rotation_spread_rad(T: np.ndarray) -> np.ndarray:
    """How much poses float64[N, 4, 4] turn about their three main axes: root mean squares, largest first.

    One axis alone gives (x, 0, 0); pure translation gives zeros.
    """
    mean = nearest_rotation(T[:, :3, :3].mean(axis=0))
    turns = scipy.spatial.transform.Rotation.from_matrix(mean.T @ T[:, :3, :3]).as_rotvec()
    return np.asarray(np.linalg.svd(turns, compute_uv=False)) / np.sqrt(len(T))
