"""Hand-eye data with known truth: a camera, a planar grid of corners, and an arm that holds one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from inril_core.calibration import rigid
from inril_core.calibration.camera import Camera

WIDTH_PX, HEIGHT_PX = 640, 480
K = np.array([[600.0, 0.0, 320.0], [0.0, 606.0, 240.0], [0.0, 0.0, 1.0]])
DISTORTION = np.array([0.05, -0.1, 0.001, -0.0005, 0.02])


@dataclass
class Made:
    """Arrays as `inril calibrate hand-eye` reads them, and what it must find."""

    arrays: dict[str, Any]
    T: np.ndarray
    bad: list[int]

    def write(self, path: Path, **changed: Any) -> Path:
        """The file; an array that is None is left out."""
        whole = {**self.arrays, **changed}
        np.savez(path, **{key: value for key, value in whole.items() if value is not None})
        return path


def T_of(rotvec: Sequence[float], position_m: Sequence[float]) -> np.ndarray:
    """A transform from a rotation vector and a position."""
    return rigid.compose(Rotation.from_rotvec(rotvec).as_matrix(), np.array(position_m))


def grid(columns: int = 9, rows: int = 6, square_m: float = 0.025) -> np.ndarray:
    """Corners row by row, z = 0."""
    return np.array([[c * square_m, r * square_m, 0.0] for r in range(rows) for c in range(columns)])


def make(
    seed: int,
    mode: str = "eye_in_hand",
    poses: int = 15,
    noise_px: float = 0.3,
    bad: Sequence[str] = (),
    tilt_rad: float = 0.4,
    one_axis: bool = False,
    facing: bool = False,
    points: np.ndarray | None = None,
) -> Made:
    """Poses at random in front of the camera.

    bad: kinds of gross errors, one pose each: ``corners`` (each moved by up to 40 px), ``random``, ``reversed``
    (order), ``other`` (another pose's), ``shifted`` (all by 17 px), ``arm`` (off by 5 cm and 0.2 rad), ``arm_10mm``.
    facing: the board's z axis points to the camera, not away from it.
    """
    rng = np.random.default_rng(seed)
    camera, board = Camera(K, DISTORTION), grid() if points is None else points
    if mode == "eye_in_hand":
        X, Y = T_of([0.1, -0.2, 1.6], [0.05, -0.03, 0.06]), T_of([0.05, 0.1, 0.7], [0.5, 0.1, 0.02])
    else:
        X, Y = T_of([-1.9, 0.4, 0.3], [1.1, 0.2, 0.5]), T_of([0.3, 0.1, -1.0], [0.02, -0.04, 0.08])
    turned = Rotation.from_rotvec([np.pi if facing else 0.0, 0.0, 0.0])
    arm, seen = [], []
    while len(arm) < poses:
        about = [0.0, 0.0, rng.uniform(-1.0, 1.0)] if one_axis else rng.uniform(-tilt_rad, tilt_rad, 3)
        R = (Rotation.from_rotvec(about) * turned).as_matrix()
        middle = np.array([rng.uniform(-0.08, 0.08), rng.uniform(-0.06, 0.06), rng.uniform(0.35, 0.6)])
        C = rigid.compose(R, middle - R @ board.mean(axis=0))
        corners = camera.project(rigid.apply(C, board))
        if (corners < 0.0).any() or (corners > [WIDTH_PX, HEIGHT_PX]).any():
            continue
        A = X @ C @ rigid.inverse(Y)
        arm.append(rigid.inverse(A) if mode == "eye_in_hand" else A)
        seen.append(corners)
    T, corners = np.array(arm), np.array(seen)
    corners += noise_px * rng.standard_normal(corners.shape)
    chosen = sorted(rng.choice(poses, len(bad), replace=False).tolist())
    for i, kind in zip(chosen, bad, strict=True):
        spoil(T, corners, i, kind, rng)
    arrays = {"T_base_gripper": T, "corners": corners, "board_points": board, "K": K, "distortion": DISTORTION}
    return Made({**arrays, "mode": mode}, X, chosen)


def spoil(T: np.ndarray, corners: np.ndarray, i: int, kind: str, rng: np.random.Generator) -> None:
    """One gross error, in place."""
    if kind == "corners":
        corners[i] += rng.uniform(-40.0, 40.0, corners[i].shape)
    elif kind == "random":
        corners[i] = rng.uniform([0.0, 0.0], [WIDTH_PX, HEIGHT_PX], corners[i].shape)
    elif kind == "reversed":
        corners[i] = corners[i][::-1].copy()
    elif kind == "other":
        corners[i] = corners[(i + 1) % len(corners)]
    elif kind == "shifted":
        corners[i] += [15.0, -8.0]
    elif kind == "arm":
        T[i] = T[i] @ T_of(rng.uniform(-0.2, 0.2, 3), rng.uniform(-0.05, 0.05, 3))
    elif kind == "arm_10mm":
        T[i] = T[i] @ T_of([0.0, 0.0, 0.0], [0.01, 0.0, 0.0])
    else:
        raise ValueError(kind)
