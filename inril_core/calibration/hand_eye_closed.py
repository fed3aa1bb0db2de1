"""Hand-eye calibration in closed form: from poses alone, without a start."""

from __future__ import annotations

import cv2
import numpy as np

from inril_core.calibration import rigid

METHODS = {
    "tsai": cv2.CALIB_HAND_EYE_TSAI,
    "park": cv2.CALIB_HAND_EYE_PARK,
    "horaud": cv2.CALIB_HAND_EYE_HORAUD,
    "andreff": cv2.CALIB_HAND_EYE_ANDREFF,
    "daniilidis": cv2.CALIB_HAND_EYE_DANIILIDIS,
}
"""OpenCV's solvers of AX = XB, which look at the camera alone."""


def shah(A: np.ndarray, C: np.ndarray, free_scale: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """X, Y and the factor s of ``A Y = X (C with its translation times s)``, for H sets of n poses at once.

    Rotations: Shah 2013, "Solving the robot-world/hand-eye calibration problem using the Kronecker product", eq. 21-27;
    translations: linear least squares.

    Args:
        A, C: float64[H, n, 4, 4], n at least 3.
        free_scale: estimate s, which tells a board of another size than it is said to be; else it is 1.

    Returns:
        X float64[H, 4, 4], Y float64[H, 4, 4], s float64[H]; not meaningful where the motions leave them open.
    """
    sets, count = A.shape[:2]
    RA, RC = A[..., :3, :3], C[..., :3, :3]
    # vec(R_Y) = (R_Cᵀ ⊗ R_Aᵀ) vec(R_X), columns stacked
    K = np.einsum("hnji,hnlk->hikjl", RC, RA).reshape(sets, 9, 9)
    u, _, vt = np.linalg.svd(K)
    MX, MY = (np.swapaxes(m.reshape(sets, 3, 3), 1, 2) for m in (vt[:, 0], u[:, :, 0]))
    sign = np.sign(np.linalg.det(MX))
    sign[sign == 0.0] = 1.0
    RX, RY = (rigid.nearest_rotation(m * sign[:, None, None]) for m in (MX, MY))
    seen = np.einsum("hij,hnj->hni", RX, C[..., :3, 3])
    rows = np.zeros((sets, count, 3, 7))
    rows[..., :3], rows[..., 3:6], rows[..., 6] = RA, -np.eye(3), -seen
    right = -A[..., :3, 3]
    if free_scale:
        system = rows.reshape(sets, 3 * count, 7)
    else:
        system, right = rows[..., :6].reshape(sets, 3 * count, 6), right + seen
    solved = np.einsum("hij,hj->hi", np.linalg.pinv(system, rcond=1e-9), right.reshape(sets, 3 * count))
    scale = solved[:, 6] if free_scale else np.ones(sets)
    return rigid.compose(RX, solved[:, 3:6]), rigid.compose(RY, solved[:, :3]), scale


def opencv(method: str, A: np.ndarray, C: np.ndarray) -> np.ndarray | None:
    """X of ``A Y = X C`` by one of `METHODS`; None where it finds none."""
    # OpenCV's "gripper in base" is A⁻¹ here: the frame that carries the camera, in the frame that carries the board
    moved, seen = rigid.inverse(A), C
    try:
        # the fifth positional argument is an output, so a method that is not named would be ignored
        R, t = cv2.calibrateHandEye(
            moved[:, :3, :3], moved[:, :3, 3], seen[:, :3, :3], seen[:, :3, 3], method=METHODS[method]
        )
    except cv2.error:
        return None
    if R is None or not (np.isfinite(R).all() and np.isfinite(t).all()) or abs(np.linalg.det(R) - 1.0) > 1e-3:
        return None
    return rigid.compose(np.asarray(R), np.asarray(t).reshape(3))


def board_given_camera(A: np.ndarray, C: np.ndarray, X: np.ndarray) -> np.ndarray:
    """Y of ``A Y = X C`` for a known X: the mean over the poses."""
    each = rigid.inverse(A) @ X @ C
    return rigid.compose(rigid.nearest_rotation(each[:, :3, :3].mean(axis=0)), each[:, :3, 3].mean(axis=0))
