"""Why poses do not agree: the mistakes that people make, tried one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from inril_core.calibration import rigid
from inril_core.calibration.camera import Camera, plane_of
from inril_core.calibration.hand_eye_data import HandEyeData
from inril_core.calibration.hand_eye_fit import Consensus, Problem, agree
from inril_core.calibration.refused import CalibrationRefused

_AGREEING_MIN = 0.6
"""Least part of the poses that must agree."""
_ANGLE_OFF_RAD = np.radians(1.5)
_RAYLEIGH_75 = 1.665


def limit_px(problem: Problem) -> float:
    """Largest median error of poses that are said to agree: five milliradians, or six times the corners' noise."""
    return max(6.0 * _RAYLEIGH_75 * problem.noise_px, 0.005 * problem.camera.focal_px)


def agrees(problem: Problem, found: Consensus) -> bool:
    """Whether these poses are enough and fit well enough."""
    return len(found.inliers) >= _AGREEING_MIN * len(problem.A) and found.typical_px <= limit_px(problem)


def check_views(problem: Problem) -> None:
    """Refuses corners that do not look like the board, each image for itself.

    Raises:
        CalibrationRefused: K, the order of the corners or the shape of the board is wrong.
    """
    allowed = max(3.0, 0.005 * problem.camera.focal_px)
    if problem.view_residual_px <= allowed:
        return
    flipped = Problem.of(problem.A, problem.corners, problem.board_points * [-1.0, 1.0, 1.0], problem.camera)
    if flipped.view_residual_px < 0.3 * problem.view_residual_px:
        raise CalibrationRefused(
            "mirrored_board",
            f"mirrored board: board_points fit the corners to {flipped.view_residual_px:.1f} px with the sign of x "
            f"changed, and to {problem.view_residual_px:.1f} px as given; x, y and z must be right-handed",
        )
    focal = _fitting_focal(problem)
    if focal is not None:
        factor, residual = focal
        raise CalibrationRefused(
            "corners_do_not_fit_K",
            f"corners do not fit K: a focal length of about {problem.camera.focal_px * factor:.0f} px would fit to "
            f"{residual:.1f} px, K has {problem.camera.focal_px:.0f} px; calibrate the intrinsics of this camera at "
            f"this "
            "resolution",
        )
    raise CalibrationRefused(
        "corners_do_not_fit_board",
        f"corners do not fit board_points and K: in the median image they are {problem.view_residual_px:.1f} px off "
        f"(at "
        f"most {allowed:.1f} px), and no other focal length fits; check that corners and board_points have the same "
        "order, and that rows and columns are not exchanged",
    )


def _fitting_focal(problem: Problem) -> tuple[float, float] | None:
    """The factor of the focal length that fits the images alone, and its residual in pixels; None: none fits well."""
    camera = problem.camera
    centre = camera.K[:2, 2]
    flags = (
        cv2.CALIB_USE_INTRINSIC_GUESS | cv2.CALIB_FIX_PRINCIPAL_POINT | cv2.CALIB_FIX_ASPECT_RATIO
        | cv2.CALIB_ZERO_TANGENT_DIST | cv2.CALIB_FIX_K1 | cv2.CALIB_FIX_K2 | cv2.CALIB_FIX_K3
    )  # fmt: skip
    planar, T_plane = plane_of(problem.board_points)
    if not planar:
        return None
    flat = rigid.apply(rigid.inverse(T_plane), problem.board_points).astype(np.float32)
    flat[:, 2] = 0.0
    chosen = [problem.corners[i] for i in _flat_views(flat, problem.corners)]
    points = [flat] * len(chosen)
    views = [corners.astype(np.float32) for corners in chosen]
    size = (int(2 * centre[0]), int(2 * centre[1]))
    best: tuple[float, float] | None = None
    for start in (0.5, 1.0, 2.0):
        K = camera.with_focal(start).K.copy()
        try:
            residual, found, _, _, _ = cv2.calibrateCamera(points, views, size, K, np.zeros(5), flags=flags)
        except cv2.error:
            continue
        if best is None or residual < best[1]:
            best = (float(found[0, 0] / camera.K[0, 0]), float(residual))
    if best is None or not 0.02 < best[0] < 50.0 or best[1] > 0.4 * problem.view_residual_px:
        return None
    return best


def _flat_views(flat: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Images that a flat board explains whatever K is: its homography fits as well as in the better half of them."""
    off = np.full(len(corners), np.inf)
    for i, seen in enumerate(corners):
        H, _ = cv2.findHomography(flat[:, :2], seen)
        if H is not None:
            fitted = cv2.perspectiveTransform(flat[:, None, :2].astype(np.float64), H)[:, 0]
            off[i] = np.sqrt(np.mean(np.sum((fitted - seen) ** 2, axis=1)))
    return np.flatnonzero(off <= 3.0 * max(float(np.median(off)), 0.1))


@dataclass(frozen=True)
class _Mistake:
    reason: str
    problem: Problem
    text: str
    """What is said of it; ``{scale}`` stands for the factor of the board's size."""
    free_scale: bool = False


def _mistakes(problem: Problem, data: HandEyeData) -> Iterator[_Mistake]:
    A, corners, points, camera, views = (
        problem.A, problem.corners, problem.board_points, problem.camera, problem.views
    )  # fmt: skip
    other = "eye_to_hand" if data.mode == "eye_in_hand" else "eye_in_hand"
    swapped = (
        f"swapped convention: the poses agree if T_base_gripper is inverted. Either it holds T_gripper_base (the base "
        f"in "
        f"the gripper): invert it; or the camera is not mounted as mode = {data.mode} says: give mode = {other}"
    )
    inverted = Problem(rigid.inverse(A), corners, points, camera, views)
    yield _Mistake("swapped_convention", inverted, swapped)
    yield _Mistake("wrong_board_size", problem, "", free_scale=True)
    centre = camera.K[0, 2]
    mirrored = corners * [-1.0, 1.0] + [2 * centre, 0.0]
    yield _Mistake(
        "mirrored_board",
        Problem.of(A, mirrored, points, camera),
        "mirrored board: the poses agree if the image is mirrored; the camera or its driver flips it (or the corners "
        "were "
        "flipped on the way): turn that off, or change the sign of x in the corners and in K",
    )
    transposed = data.T_base_gripper.copy()
    transposed[:, :3, :3] = np.swapaxes(transposed[:, :3, :3], 1, 2)
    yield _Mistake(
        "swapped_convention",
        Problem(
            rigid.inverse(transposed) if data.mode == "eye_in_hand" else transposed, corners, points, camera, views
        ),
        "swapped convention: the poses agree if the rotations in T_base_gripper are transposed; give the gripper's "
        "axes, "
        "in the base's frame, as columns",
    )
    yield _Mistake("swapped_convention", inverted, swapped + "; and the board is {scale:.4f} times its said size", True)
    for shift in (1, -1):
        before = slice(0, -1), slice(1, None)
        mine, theirs = before if shift == 1 else before[::-1]
        yield _Mistake(
            "out_of_step",
            Problem(A[mine], corners[theirs], points, camera, views[theirs]),
            f"out of step: the poses agree if corners[i + {shift}] belongs to T_base_gripper[i]; record pose and "
            f"image of "
            "the arm at rest, together".replace("i + -1", "i - 1"),
        )


def other_convention(problem: Problem, found: Consensus, data: HandEyeData) -> None:
    """Refuses poses that agree, and would agree much better if they were read in another way.

    Raises:
        CalibrationRefused: names the way.
    """
    if found.typical_px <= 3.0 * _RAYLEIGH_75 * max(problem.noise_px, 0.1):
        return
    for mistake in _mistakes(problem, data):
        if mistake.free_scale:
            continue
        other = agree(mistake.problem)
        if other and agrees(mistake.problem, other) and other.typical_px < 0.4 * found.typical_px:
            raise CalibrationRefused(mistake.reason, _measured(mistake, other, found))


def explain(problem: Problem, found: Consensus | None, data: HandEyeData) -> CalibrationRefused:
    """Why the poses do not agree."""
    for mistake in _mistakes(problem, data):
        other = agree(mistake.problem, mistake.free_scale)
        better = other is not None and (
            found is None or other.typical_px < 0.5 * found.typical_px or len(other.inliers) > len(found.inliers)
        )
        if other is not None and better and agrees(mistake.problem, other):
            return CalibrationRefused(mistake.reason, _measured(mistake, other, found))
    focal = _fitting_focal(problem)
    if focal is not None and abs(focal[0] - 1.0) > 0.03:
        camera = Camera(problem.camera.K, problem.camera.distortion).with_focal(focal[0])
        refitted = Problem.of(problem.A, problem.corners, problem.board_points, camera)
        other = agree(refitted)
        if other and agrees(refitted, other):
            return CalibrationRefused(
                "corners_do_not_fit_K",
                f"corners do not fit K: the poses agree with a focal length of about {camera.focal_px:.0f} px, K has "
                f"{problem.camera.focal_px:.0f} px; calibrate the intrinsics of this camera at this resolution",
            )
    return CalibrationRefused("no_agreement", _no_agreement(problem, found))


def _measured(mistake: _Mistake, other: Consensus, found: Consensus | None) -> str:
    given = f"{found.typical_px:.1f} px as given" if found else "no solution as given"
    fits = f" ({len(other.inliers)} of {len(mistake.problem.A)} poses to {other.typical_px:.1f} px; {given})"
    if mistake.text:
        return mistake.text.format(scale=other.fit.scale) + fits
    std = other.fit.scale * float(np.sqrt(other.fit.covariance(len(other.inliers))[12, 12]))
    return size_text(other.fit.scale, std) + fits


def size_text(value: float, std: float) -> str:
    """What is said of a board of another size."""
    if 0.9e3 < value < 1.1e3:
        return (
            f"wrong scale: the translations of T_base_gripper are {value:.1f} times too large for the board; give "
            f"metres "
            "(they look like millimetres: divide by 1000)"
        )
    return (
        f"wrong board size: the robot's translations fit a board {value:.4f} +- {std:.4f} times as large as "
        f"board_points "
        f"say (a square of 30 mm would be {30 * value:.2f} mm); measure the print and multiply board_points by "
        f"{value:.4f}"
    )


def _no_agreement(problem: Problem, found: Consensus | None) -> str:
    known = [i for i, view in enumerate(problem.views) if view is not None]
    differences = []
    for i, j in zip(known, known[1:], strict=False):
        seen_i, seen_j = problem.views[i], problem.views[j]
        assert seen_i is not None and seen_j is not None
        arm = rigid.angle_rad(problem.A[i, :3, :3].T @ problem.A[j, :3, :3])
        eye = rigid.angle_rad(seen_i.T_camera_board[:3, :3].T @ seen_j.T_camera_board[:3, :3])
        differences.append(abs(float(arm) - float(eye)))
    best = (
        f"at best {len(found.inliers)} of {len(problem.A)} agree, to {found.typical_px:.1f} px"
        if found
        else "none agree"
    )
    off = float(np.median(differences)) if differences else 0.0
    if off > _ANGLE_OFF_RAD:
        why = (
            f"arm and camera turn by different angles from pose to pose (median difference {np.degrees(off):.1f} "
            f"deg), so "
            "poses and images do not belong together, or rotations were converted wrongly (quaternions xyzw or wxyz?)"
        )
    else:
        why = (
            "arm and camera turn by the same angles, so too many poses are wrong, or the board or the camera moved in "
            "its "
            "mount; record again with both fixed"
        )
    return (
        f"the poses do not agree on one place of the camera: {best} (at most {limit_px(problem):.1f} px allowed); {why}"
    )
