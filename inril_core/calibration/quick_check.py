"""Whether a stored hand-eye calibration still holds, from a board that is seen anew."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from inril_core.calibration import rigid
from inril_core.calibration.camera import Camera
from inril_core.calibration.hand_eye_closed import board_given_camera
from inril_core.calibration.hand_eye_data import check_poses, read_raw
from inril_core.calibration.hand_eye_fit import Problem, pose_errors_px
from inril_core.calibration.refused import CalibrationRefused
from inril_core.calibration.stored import Stored, StoredCheck, now
from inril_core.errors import ConfigError


def check(stored: Stored, path: Path, limit_px: float | None, board_moved: bool) -> StoredCheck:
    """Predict the board's corners from the arm's pose and compare.

    With the board where it was at the calibration one pose is enough. A board that was moved since is put, by the
    stored camera's place, where all poses see it on average; then the poses must agree with each other.

    Args:
        path: an ``.npz`` as for the calibration; one pose or more.
        limit_px: largest median error of a pose that passes; None: 3 px or 0.005 focal lengths.

    Raises:
        CalibrationRefused: the poses cannot be used.
        ConfigError: the stored file is no hand-eye calibration, or the limit is none.
    """
    if stored.T is None or stored.mode is None or stored.T_board is None:
        raise ConfigError(f"{stored.name}: no hand-eye calibration but {stored.kind}; its check is to make it anew")
    if limit_px is not None and not 0.0 < limit_px < 1000.0:
        raise ConfigError(f"--limit-px {limit_px}: give a number above 0")
    arrays, mode = read_raw(path)
    if mode != stored.mode:
        raise CalibrationRefused("wrong_mode", f"{path}: mode is {mode}, {stored.name} was made with {stored.mode}")
    camera = Camera(arrays["K"], arrays["distortion"].reshape(-1))
    check_poses(arrays["T_base_gripper"], arrays["corners"], arrays["board_points"], camera.K, least=1)
    poses = arrays["T_base_gripper"]
    A = rigid.inverse(poses) if mode == "eye_in_hand" else poses
    X, Y = np.array(stored.T), np.array(stored.T_board)
    problem = Problem.of(A, arrays["corners"], arrays["board_points"], camera)
    if board_moved:
        seen = [i for i, view in enumerate(problem.views) if view is not None]
        if len(seen) < 2:
            raise CalibrationRefused("too_few_poses", f"{path}: a moved board needs 2 poses that see it")
        C = np.array([view.T_camera_board for view in problem.views if view is not None])
        Y = board_given_camera(A[seen], C, X)
    error = float(np.median(pose_errors_px(problem, X, Y)))
    limit = limit_px if limit_px is not None else max(3.0, 0.005 * camera.focal_px)
    shown = error if math.isfinite(error) else 1e6  # behind the camera; the file knows no infinity
    return StoredCheck(created=now(), passed=shown <= limit, residual_px=shown, limit_px=limit)
