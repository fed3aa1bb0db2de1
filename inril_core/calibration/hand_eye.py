"""Hand-eye calibration: where the camera is on the gripper, or beside the arm."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from inril_core.calibration import hand_eye_closed, rigid
from inril_core.calibration.hand_eye_data import POSES_MIN, HandEyeData
from inril_core.calibration.hand_eye_diagnosis import agrees, check_views, explain, other_convention, size_text
from inril_core.calibration.hand_eye_fit import Consensus, Fit, Problem, agree, predicted, refine
from inril_core.calibration.refused import CalibrationRefused

SPREAD_MIN_RAD = math.radians(3.0)
"""Least turn (root mean square) about the second axis. About one axis alone the camera's place along it stays open."""
POSITION_STD_MAX_M, ANGLE_STD_MAX_RAD = 5e-3, math.radians(0.5)
SCALE_OFF_MIN, FOCAL_OFF_MIN, SIGNIFICANT = 0.003, 0.005, 5.0
"""A board or focal length is called wrong if it is off by more than this and by so many standard deviations."""
FOLDS = 5


@dataclass(frozen=True)
class HeldOut:
    """Errors on poses that the calibration did not see: each fifth of them, predicted from the others."""

    residual_px: float
    """Root mean square distance of the corners."""
    position_m: float
    """Root mean square distance of the board from where its image alone puts it."""
    angle_rad: float
    """Root mean square angle of the same."""


@dataclass(frozen=True)
class HandEye:
    """A hand-eye calibration."""

    data: HandEyeData
    T: np.ndarray
    """float64[4, 4]: the camera's optical frame in the gripper's (eye in hand) or in the base's (eye to hand)."""
    T_board: np.ndarray
    """float64[4, 4]: the board in the base's frame (eye in hand) or in the gripper's (eye to hand)."""
    residual_px: float
    """Root mean square distance of the corners that were used, as OpenCV counts it: noise of deviation s in both
    coordinates gives 1.41 s."""
    used: tuple[int, ...]
    rejected: tuple[int, ...]
    """Outlier poses."""
    rejected_corners: dict[int, tuple[int, ...]]
    """Outlier corners of the poses that were used; the robust loss leaves them little weight."""
    errors_px: np.ndarray
    """float64[N]: of every pose, the 75th percentile of its corners' distances."""
    limit_px: float
    """Poses and corners with larger errors were rejected."""
    covariance: np.ndarray
    """float64[6, 6] of a step of T in the camera's own frame: rotation vector (rad), then translation (m)."""
    board_scale: float
    """Factor of the board's size that would fit best."""
    board_scale_std: float
    spread_rad: np.ndarray
    """float64[3]: how much the used poses turn about their three main axes."""
    held_out: HeldOut
    methods: dict[str, tuple[float, float]]
    """Distance (m, rad) of each closed-form solution from T."""

    @property
    def position_std_m(self) -> float:
        """Standard deviation of the camera's place, along its worst direction."""
        return float(np.sqrt(np.linalg.eigvalsh(self.covariance[3:, 3:])[-1]))

    @property
    def angle_std_rad(self) -> float:
        """Standard deviation of the camera's orientation, about its worst axis."""
        return float(np.sqrt(np.linalg.eigvalsh(self.covariance[:3, :3])[-1]))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON and YAML."""
        return {
            "name": self.data.name_X,
            "mode": self.data.mode,
            "T": self.T.tolist(),
            "residual_px": self.residual_px,
            "rejected": list(self.rejected),
            "rejected_corners": {str(pose): list(corners) for pose, corners in self.rejected_corners.items()},
            "used": list(self.used),
            "errors_px": [float(e) if math.isfinite(e) else None for e in self.errors_px],
            "limit_px": self.limit_px,
            self.data.name_Y: self.T_board.tolist(),
            "position_std_m": self.position_std_m,
            "angle_std_rad": self.angle_std_rad,
            "covariance": self.covariance.tolist(),
            "board_scale": self.board_scale,
            "board_scale_std": self.board_scale_std,
            "rotation_spread_rad": self.spread_rad.tolist(),
            "held_out": vars(self.held_out).copy(),
            "methods": {name: {"position_m": m, "angle_rad": rad} for name, (m, rad) in self.methods.items()},
        }


def calibrate(data: HandEyeData) -> HandEye:
    """Find the poses that agree, refine camera and board over all of them, and check what comes out.

    Raises:
        CalibrationRefused: the data give no calibration; the message says what is wrong with them.
    """
    _check_rotation(data.A, "")
    problem = Problem.of(data.A, data.corners, data.board_points, data.camera)
    check_views(problem)
    found = agree(problem)
    if found is None or not agrees(problem, found):
        raise explain(problem, found, data)
    used = found.inliers
    if len(used) < POSES_MIN:
        raise CalibrationRefused(
            "too_few_poses", f"too few poses: {len(used)} of {len(problem.A)} agree; give {POSES_MIN} good ones or more"
        )
    rejected = tuple(i for i in range(len(problem.A)) if i not in set(used.tolist()))
    spread = _check_rotation(data.A[used], f" that agree ({len(used)}; rejected: {list(rejected)})" if rejected else "")
    some = problem.take(used)
    scale, scale_std = _check_size(some, found)
    other_convention(problem, found, data)
    covariance = found.fit.covariance(len(used))[:6, :6]
    distances = np.linalg.norm(found.fit.residuals.reshape(len(used), -1, 2), axis=2)
    sound = distances <= found.limit_px
    result = HandEye(
        data=data,
        T=found.fit.X,
        T_board=found.fit.Y,
        residual_px=float(np.sqrt(np.mean(distances[sound] ** 2))),
        used=tuple(used.tolist()),
        rejected=rejected,
        rejected_corners={
            int(i): tuple(np.flatnonzero(~ok).tolist()) for i, ok in zip(used, sound, strict=True) if not ok.all()
        },
        errors_px=found.errors_px,
        limit_px=found.limit_px,
        covariance=covariance,
        board_scale=scale,
        board_scale_std=scale_std,
        spread_rad=spread,
        held_out=_hold_out(some, found.fit, 2.0 * found.limit_px),
        methods=_methods(some, found.fit.X),
    )
    if result.position_std_m > POSITION_STD_MAX_M or result.angle_std_rad > ANGLE_STD_MAX_RAD:
        raise CalibrationRefused(
            "not_determined",
            f"the camera's place is known to {1e3 * result.position_std_m:.1f} mm and "
            f"{math.degrees(result.angle_std_rad):.2f} deg only (at most {1e3 * POSITION_STD_MAX_M:.0f} mm and "
            f"{math.degrees(ANGLE_STD_MAX_RAD):.1f} deg); give more poses, turned by 20 to 40 deg about several axes",
        )
    return result


def _rms(fit: Fit) -> float:
    return float(np.sqrt(2.0 * np.mean(fit.residuals**2)))


def _check_rotation(A: np.ndarray, which: str) -> np.ndarray:
    spread = rigid.rotation_spread_rad(A)
    if spread[1] < SPREAD_MIN_RAD:
        first, second = np.degrees(spread[:2])
        raise CalibrationRefused(
            "too_little_rotation",
            f"too little rotation: the poses{which} turn by {first:.1f} deg about one axis and {second:.1f} deg about "
            f"a "
            f"second one (root mean square; at least {math.degrees(SPREAD_MIN_RAD):.0f} deg about two axes are "
            f"needed); "
            "turn the gripper by 20 to 40 deg about two axes or more",
        )
    return spread


def _check_size(problem: Problem, found: Consensus) -> tuple[float, float]:
    """Refuses a board or focal length whose size the robot's motion contradicts; returns the board's factor."""
    count, fit = len(problem.A), found.fit
    tried = {}
    for name in ("scale", "focal"):
        free = refine(problem, fit.X, fit.Y, noise_px=max(found.typical_px / 1.665, 1e-3), free=(name,))
        if free is None:
            continue
        value = free.scale if name == "scale" else free.focal
        tried[name] = (value, value * float(np.sqrt(free.covariance(count)[12, 12])), _rms(free))
    wrong = []
    for name, least in (("scale", SCALE_OFF_MIN), ("focal", FOCAL_OFF_MIN)):
        if name in tried:
            value, std, rms = tried[name]
            if abs(value - 1.0) > max(least, SIGNIFICANT * std):
                wrong.append((rms, name, value, std))
    if wrong:
        rms, name, value, std = min(wrong)
        if name == "scale":
            raise CalibrationRefused("wrong_board_size", size_text(value, std))
        raise CalibrationRefused(
            "corners_do_not_fit_K",
            f"K does not fit: a focal length times {value:.4f} +- {std:.4f} ({problem.camera.focal_px * value:.1f} px) "
            f"fits the poses ({rms:.2f} px instead of {_rms(fit):.2f} px); calibrate the intrinsics at this focus and "
            "resolution",
        )
    return (tried["scale"][0], tried["scale"][1]) if "scale" in tried else (1.0, math.inf)


def _hold_out(problem: Problem, fit: Fit, limit_px: float) -> HeldOut:
    count = len(problem.A)
    folds = min(FOLDS, count)
    squares: list[np.ndarray] = []
    shifts: list[float] = []
    turns: list[float] = []
    for fold in range(folds):
        out = np.arange(fold, count, folds)
        rest = np.setdiff1d(np.arange(count), out)
        trained = refine(problem.take(rest), fit.X, fit.Y, noise_px=max(problem.noise_px, 0.05)) or fit
        held = problem.take(out)
        seen = predicted(held, trained.X, trained.Y)
        distance = np.linalg.norm(held.camera.project(seen) - held.corners, axis=-1)
        squares.append(distance[distance <= limit_px] ** 2)
        for view, C in zip(held.views, rigid.inverse(trained.X) @ held.A @ trained.Y, strict=True):
            if view is not None:
                shift, turn = rigid.difference(C, view.T_camera_board)
                shifts.append(shift)
                turns.append(turn)
    return HeldOut(
        float(np.sqrt(np.mean(np.concatenate(squares)))),
        float(np.sqrt(np.mean(np.square(shifts)))),
        float(np.sqrt(np.mean(np.square(turns)))),
    )


def _methods(problem: Problem, X: np.ndarray) -> dict[str, tuple[float, float]]:
    known = np.array([view is not None for view in problem.views])
    A, C = problem.A[known], np.array([view.T_camera_board for view in problem.views if view is not None])
    found: dict[str, np.ndarray | None] = {name: hand_eye_closed.opencv(name, A, C) for name in hand_eye_closed.METHODS}
    found["shah"] = hand_eye_closed.shah(A[None], C[None])[0][0]
    return {name: rigid.difference(value, X) for name, value in found.items() if value is not None}
