"""The pinhole camera with OpenCV's distortion."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from inril_core.calibration import rigid
from inril_core.calibration.refused import CalibrationRefused

DISTORTION_SIZES = (0, 4, 5, 8, 12, 14)
"""Lengths of OpenCV's distortion vectors: k1 k2 p1 p2 [k3 [k4 k5 k6 [s1 s2 s3 s4 [tx ty]]]]."""
_ZERO = np.zeros(3)
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # it prints what it also returns
cv2.setNumThreads(1)  # what is computed here is small, and the control loop may run on the same machine


@dataclass(frozen=True)
class Camera:
    """Intrinsics of a camera.

    Raises:
        CalibrationRefused: ``K`` is no camera matrix, or ``distortion`` has another length than OpenCV knows.
    """

    K: np.ndarray
    """float64[3, 3]: [[fx, s, cx], [0, fy, cy], [0, 0, 1]], pixels."""
    distortion: np.ndarray
    """float64[n] in OpenCV's order; n one of `DISTORTION_SIZES`."""

    def __post_init__(self) -> None:
        K, distortion = self.K, self.distortion
        if K.shape != (3, 3):
            raise CalibrationRefused("bad_camera_matrix", f"K has shape {K.shape}; a camera matrix is 3x3")
        if not (np.isfinite(K).all() and np.isfinite(distortion).all()):
            raise CalibrationRefused("not_finite", "K or distortion holds NaN or infinity; calibrate the camera first")
        shown = f"K = {np.array2string(K, precision=4, suppress_small=True, separator=', ')}".replace("\n", "")
        form = "[[fx, 0, cx], [0, fy, cy], [0, 0, 1]] in pixels"
        if np.abs(K[2, :2]).max() > 1e-9 and np.abs(K[:2, 2]).max() <= 1e-9:
            raise CalibrationRefused("bad_camera_matrix", f"{shown} is transposed; give {form}")
        if np.abs(K[2] - [0.0, 0.0, 1.0]).max() > 1e-9 or abs(K[1, 0]) > 1e-9:
            raise CalibrationRefused("bad_camera_matrix", f"{shown} is not of the form {form}")
        if min(K[0, 0], K[1, 1]) <= 0.0:
            raise CalibrationRefused(
                "bad_camera_matrix",
                f"{shown} has a focal length that is not above zero: it would see what is behind it; give {form}",
            )
        if min(K[0, 0], K[1, 1]) < 10.0:
            raise CalibrationRefused(
                "bad_camera_matrix", f"{shown} has a focal length below 10 px; give {form}, not metres or ratios"
            )
        if not 0.5 <= K[0, 0] / K[1, 1] <= 2.0:
            raise CalibrationRefused("bad_camera_matrix", f"{shown}: fx and fy differ by more than a factor of 2")
        if abs(K[0, 1]) > 0.1 * K[0, 0]:
            raise CalibrationRefused("bad_camera_matrix", f"{shown}: a skew above a tenth of fx; give {form}")
        if min(K[0, 2], K[1, 2]) <= 0.0:
            raise CalibrationRefused("bad_camera_matrix", f"{shown}: the principal point lies outside of every image")
        if distortion.ndim != 1 or len(distortion) not in DISTORTION_SIZES:
            raise CalibrationRefused(
                "bad_distortion",
                f"distortion has shape {distortion.shape}; OpenCV's vectors have {DISTORTION_SIZES} numbers, "
                "k1 k2 p1 p2 k3 first (zeros: no distortion)",
            )

    @property
    def focal_px(self) -> float:
        """Geometric mean of fx and fy."""
        return float(np.sqrt(self.K[0, 0] * self.K[1, 1]))

    def with_focal(self, factor: float) -> Camera:
        """The same with both focal lengths times ``factor``."""
        return Camera(self.K @ np.diag([factor, factor, 1.0]), self.distortion)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Pixels float64[..., 2] of points float64[..., 3] in the camera's frame, in front of it."""
        # OpenCV reads a vector of length 0 as "none"
        given = self.distortion if len(self.distortion) else None
        pixels, _ = cv2.projectPoints(np.ascontiguousarray(points.reshape(-1, 1, 3)), _ZERO, _ZERO, self.K, given)
        return pixels.reshape(*points.shape[:-1], 2)

    def derivatives(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of the pixels of points float64[N, K, 3]: by the point float64[N, K, 2, 3], by the log of both focal lengths
        float64[N, K, 2].
        """
        given = self.distortion if len(self.distortion) else None
        flat = np.ascontiguousarray(points.reshape(-1, 1, 3))
        _, whole = cv2.projectPoints(flat, _ZERO, _ZERO, self.K, given)
        # OpenCV's columns: rotation 0-2, translation 3-5, which is the point's own motion, focal lengths 6-7
        shape = (*points.shape[:-1], 2)
        return whole[:, 3:6].reshape(*shape, 3), (whole[:, 6:8] @ np.diag(self.K)[:2]).reshape(shape)

    def rays(self, pixels: np.ndarray) -> np.ndarray:
        """Undistorted (x/z, y/z) float64[..., 2] of pixels float64[..., 2]."""
        given = self.distortion if len(self.distortion) else None
        stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 40, 1e-10)
        flat = np.ascontiguousarray(pixels.reshape(-1, 1, 2))
        return cv2.undistortPointsIter(flat, self.K, given, None, None, stop).reshape(pixels.shape)


@dataclass(frozen=True)
class BoardView:
    """A board's pose from one image."""

    T_camera_board: np.ndarray
    residual_px: float
    """Root mean square distance of the corners."""


def board_view(camera: Camera, board_points: np.ndarray, corners: np.ndarray) -> BoardView | None:
    """The pose of a board from its corners; None: no pose in front of the camera fits.

    A planar board is solved by IPPE (Collins and Bartoli 2014), which returns both solutions of the flip that a nearly
    frontal view allows; any other by SQPnP (Terzakis and Lourakis 2020). The better one is refined by
    Levenberg-Marquardt.

    Args:
        board_points: float64[K, 3] in the board's frame.
        corners: float64[K, 2], pixels.
    """
    rays = camera.rays(corners)
    planar, T_plane = plane_of(board_points)
    local = rigid.apply(rigid.inverse(T_plane), board_points) if planar else board_points
    method = cv2.SOLVEPNP_IPPE if planar else cv2.SOLVEPNP_SQPNP
    local = np.ascontiguousarray(local)
    turns, shifts = [], []
    # IPPE fails where a square is seen exactly from the front, so the homography's own answer is tried too
    for flags in (method, cv2.SOLVEPNP_ITERATIVE):
        try:
            _, more_turns, more_shifts, _ = cv2.solvePnPGeneric(local, rays[:, None], np.eye(3), None, flags=flags)
        except cv2.error:
            continue
        turns += more_turns
        shifts += more_shifts
    # IPPE's and SQPnP's own answers are algebraic; refined, a noisy view is several times better.
    # OpenCV's refinement runs away from an answer that is exact, so the better of both counts.
    answers = [(turn, shift) for turn, shift in zip(turns, shifts, strict=True) if np.isfinite([turn, shift]).all()]
    answers += [
        cv2.solvePnPRefineLM(local, rays[:, None], np.eye(3), None, turn.copy(), shift.copy())
        for turn, shift in answers
    ]
    best: BoardView | None = None
    for turn, shift in answers:
        T = rigid.compose(cv2.Rodrigues(turn)[0], shift[:, 0])
        T = T @ rigid.inverse(T_plane) if planar else T
        seen = rigid.apply(T, board_points)
        if not np.isfinite(seen).all() or seen[:, 2].min() <= 0.0:
            continue
        residual = float(np.sqrt(np.mean(np.sum((camera.project(seen) - corners) ** 2, axis=-1))))
        if best is None or residual < best.residual_px:
            best = BoardView(T, residual)
    return best


def plane_of(points: np.ndarray) -> tuple[bool, np.ndarray]:
    """Whether points float64[K, 3] lie in a plane (to a thousandth of their extent), and a frame with z across it."""
    centre = points.mean(axis=0)
    _, spread, axes = np.linalg.svd(points - centre)
    axes[2] *= np.sign(np.linalg.det(axes))
    return bool(spread[2] <= 1e-3 * spread[0]), rigid.compose(axes.T, centre)
