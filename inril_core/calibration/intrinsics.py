"""Intrinsics from images of a board: focal lengths, principal point, distortion."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from inril_core.calibration.board import CORNERS_MIN, Board
from inril_core.calibration.camera import Camera
from inril_core.calibration.hand_eye_data import numeric, read_arrays
from inril_core.calibration.refused import CalibrationRefused

IMAGES_MIN = 8
REGIONS = 3
"""The image is looked at in 3 x 3 regions."""
TILT_MIN_RAD = math.radians(15.0)
"""Without views that are tilted so much about both axes, focal length and distance cannot be told apart."""
TILTED_MIN = 3
FOCAL_STD_MAX = 0.005
RESIDUAL_MAX = 0.004
"""Of the focal length: a larger residual is no corner noise."""
_FAR = 3.0
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
IMAGES_MAX = 1000
_ROUNDS_MAX = 8


@dataclass(frozen=True)
class View:
    """The corners of a board in one image."""

    name: str
    corners: np.ndarray
    """float64[n, 2], pixels."""
    numbers: np.ndarray
    """int64[n]: which of the board's points they are."""


@dataclass(frozen=True)
class Views:
    """Views of one board by one camera."""

    board_points: np.ndarray
    """float64[K, 3], metres."""
    width_px: int
    height_px: int
    views: tuple[View, ...]
    unused: dict[str, str] = field(default_factory=dict)
    """Images without a view, and why."""


@dataclass(frozen=True)
class Intrinsics:
    """Result of `calibrate`."""

    camera: Camera
    width_px: int
    height_px: int
    residual_px: float
    """Root mean square distance of all corners that were used."""
    held_out_px: float
    """The same on every fifth image, under intrinsics from the others."""
    std: np.ndarray
    """float64[4 + n]: deviations of fx, fy, cx, cy (px) and of the distortion."""
    used: tuple[str, ...]
    rejected: dict[str, str]
    """Images that were not used, and why."""
    missing: tuple[str, ...]
    """What images are missing: regions without corners, tilts that were not seen."""
    overlay: tuple[tuple[str, np.ndarray, np.ndarray], ...] = ()
    """(image, corners seen, corners predicted)."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON and YAML."""
        return {
            "K": self.camera.K.tolist(),
            "distortion": self.camera.distortion.tolist(),
            "width_px": self.width_px,
            "height_px": self.height_px,
            "residual_px": self.residual_px,
            "held_out_px": self.held_out_px,
            "std": self.std.tolist(),
            "used": list(self.used),
            "rejected": self.rejected,
            "missing": list(self.missing),
        }


def read_images(folder: Path, board: Board) -> Views:
    """Find the board in all images of a folder.

    Raises:
        CalibrationRefused: no folder, no images, too many, or of different sizes.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    except OSError as error:
        raise CalibrationRefused("unreadable", f"{folder}: cannot be read ({error.strerror or error})") from error
    if not paths or len(paths) > IMAGES_MAX:
        raise CalibrationRefused(
            "no_images",
            f"{folder}: {len(paths)} images ({' '.join(SUFFIXES)}); give 1 to {IMAGES_MAX}, better 20 to 50",
        )
    size: tuple[int, int] | None = None
    views, unused = [], {}
    for path in paths:
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if image is None:
            unused[path.name] = "not an image that can be read"
            continue
        size = size or (image.shape[1], image.shape[0])
        if (image.shape[1], image.shape[0]) != size:
            raise CalibrationRefused(
                "different_sizes",
                f"{path.name} has {image.shape[1]} x {image.shape[0]} pixels and others {size[0]} x {size[1]}; give "
                "images of one camera at one resolution",
            )
        corners, numbers = board.find(image)
        if len(numbers) < CORNERS_MIN:
            unused[path.name] = f"{len(numbers)} corners of {board.name} found, {CORNERS_MIN} are needed"
        else:
            views.append(View(path.name, corners, numbers))
    if size is None:
        raise CalibrationRefused("no_images", f"{folder}: none of {len(paths)} images can be read")
    return Views(board.points, *size, tuple(views), unused)


def read_corners(path: Path) -> Views:
    """Views from an ``.npz`` with ``corners`` (N, K, 2; NaN: not seen), ``board_points`` (K, 3), ``image_size`` (W, H).

    Raises:
        CalibrationRefused: as `read_arrays`, or an array has another shape.
    """
    arrays = read_arrays(path, ("corners", "board_points", "image_size"))
    corners, points, size = (numeric(arrays[name], name, path) for name in ("corners", "board_points", "image_size"))
    if corners.ndim != 3 or points.ndim != 2 or corners.shape[1:] != (len(points), 2) or points.shape[1] != 3:
        raise CalibrationRefused(
            "bad_shape", f"{path}: corners {corners.shape}, board_points {points.shape}; give (N, K, 2) and (K, 3)"
        )
    if size.shape != (2,) or not np.isfinite(size).all() or size.min() < 8 or size.max() > 16384:
        raise CalibrationRefused("bad_shape", f"{path}: image_size must be (width, height) in pixels")
    if not np.isfinite(points).all() or np.isinf(corners).any():
        raise CalibrationRefused("not_finite", f"{path}: board_points or corners hold infinity, or board_points NaN")
    views, unused = [], {}
    for i, seen in enumerate(corners):
        numbers = np.flatnonzero(np.isfinite(seen).all(axis=1))
        if len(numbers) < CORNERS_MIN:
            unused[str(i)] = f"{len(numbers)} corners, {CORNERS_MIN} are needed"
        else:
            views.append(View(str(i), seen[numbers], numbers))
    return Views(points, int(size[0]), int(size[1]), tuple(views), unused)


def calibrate(given: Views) -> Intrinsics:
    """Bundle adjustment (Zhang 2000, OpenCV) over the images that agree.

    Images whose residual is more than three times the median are left out, one round after the other.

    Raises:
        CalibrationRefused: too few images, no tilt, or they do not determine the focal length to 0.5 %.
    """
    if np.ptp(given.board_points[:, 2]) > 1e-9:
        raise CalibrationRefused("bad_board", "board_points: intrinsics are made from a flat board with z = 0")
    rejected = dict(given.unused)
    views = [view for view in given.views if _sound(given, view, rejected)]
    while True:
        if len(views) < IMAGES_MIN:
            why = "; ".join(f"{name}: {reason}" for name, reason in list(rejected.items())[:5])
            raise CalibrationRefused(
                "too_few_images", f"too few images: {len(views)} can be used, {IMAGES_MIN} are needed; {why}"[:400]
            )
        K, distortion, turns, _, std, each = _solve(given, views)
        limit = _FAR * max(float(np.median(each)), 0.05)
        bad = [i for i, residual in enumerate(each) if residual > limit]
        if not bad or len(views) - len(bad) < IMAGES_MIN:
            break
        for i in bad:
            rejected[views[i].name] = f"residual {each[i]:.2f} px, the median is {np.median(each):.2f} px"
        views = [view for i, view in enumerate(views) if i not in bad]
    missing = _missing(given, views, turns)
    focal = float(math.sqrt(K[0, 0] * K[1, 1]))
    residual = float(np.sqrt(np.average(each**2, weights=[len(view.numbers) for view in views])))
    if residual > RESIDUAL_MAX * focal:
        raise CalibrationRefused(
            "corners_do_not_fit_board",
            f"the images fit to {residual:.1f} px only; the board is not flat, not this one, or the zoom changed",
        )
    relative = float(max(std[0] / K[0, 0], std[1] / K[1, 1]))
    tilted = int(np.sum(np.linalg.norm(_tilts(turns), axis=1) > math.sin(TILT_MIN_RAD)))
    # the deviations are of the solution that was found; where frontal views leave a family of them they say nothing
    if tilted < TILTED_MIN:
        raise CalibrationRefused(
            "not_determined",
            f"the board is tilted by {math.degrees(TILT_MIN_RAD):.0f} deg or more in {tilted} images, {TILTED_MIN} are "
            f"needed: focal length and distance cannot be told apart; missing: {'; '.join(missing)}",
        )
    if relative > FOCAL_STD_MAX:
        raise CalibrationRefused(
            "not_determined",
            f"the focal length is known to {100 * relative:.1f} % only (at most {100 * FOCAL_STD_MAX:.1f} %); missing: "
            f"{'; '.join(missing) or 'more images'}",
        )
    camera = Camera(K, distortion)
    shown = _overlay(given, views, camera)
    return Intrinsics(
        camera, given.width_px, given.height_px, residual, _hold_out(given, views), std,
        tuple(view.name for view in views), rejected, missing, shown,
    )  # fmt: skip


def _sound(given: Views, view: View, rejected: dict[str, str]) -> bool:
    """A view whose corners are a flat board's to a pixel or so: a homography fits them, apart from distortion."""
    flat = given.board_points[view.numbers, :2]
    spread = np.linalg.svd(flat - flat.mean(axis=0), compute_uv=False)
    if spread[1] < 0.02 * spread[0]:
        rejected[view.name] = "all corners on one line"
        return False
    H, _ = cv2.findHomography(flat, view.corners)
    if H is None:
        rejected[view.name] = "the corners are not those of a flat board"
        return False
    fitted = cv2.perspectiveTransform(flat[:, None], H)[:, 0]
    off = float(np.sqrt(np.mean(np.sum((fitted - view.corners) ** 2, axis=1))))
    if off > 0.02 * given.width_px:
        rejected[view.name] = f"the corners are not those of a flat board ({off:.1f} px)"
        return False
    return True


def _solve(
    given: Views, views: list[View]
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray], list[np.ndarray], np.ndarray, np.ndarray]:
    points = [given.board_points[view.numbers].astype(np.float32)[:, None] for view in views]
    corners = [view.corners.astype(np.float32)[:, None] for view in views]
    try:
        _, K, distortion, turns, shifts, std, _, each = cv2.calibrateCameraExtended(
            points, corners, (given.width_px, given.height_px), None, None
        )
    except cv2.error as error:
        raise CalibrationRefused(
            "not_determined", f"the images do not determine a camera ({str(error).strip()[:120]}); tilt the board more"
        ) from error
    if not np.isfinite(K).all():
        raise CalibrationRefused("not_determined", "the images do not determine a camera; tilt the board more")
    flat = np.asarray(std, dtype=np.float64).reshape(-1)
    count = 4 + np.asarray(distortion).size
    return K, np.asarray(distortion).reshape(-1), list(turns), list(shifts), flat[:count], np.asarray(each).reshape(-1)


def _hold_out(given: Views, views: list[View]) -> float:
    squares = []
    out, rest = views[::5], [view for i, view in enumerate(views) if i % 5]
    try:
        K, distortion, *_ = _solve(given, rest)
        camera = Camera(K, distortion)
    except CalibrationRefused:
        return math.nan
    for view in out:
        _, predicted = _posed(given, view, camera)
        squares.append(np.sum((predicted - view.corners) ** 2, axis=1))
    return float(np.sqrt(np.mean(np.concatenate(squares))))


def _posed(given: Views, view: View, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """The board's rotation vector in a view, and its corners there under these intrinsics."""
    points = given.board_points[view.numbers]
    _, turn, shift = cv2.solvePnP(points, view.corners, camera.K, camera.distortion)
    predicted, _ = cv2.projectPoints(points, turn, shift, camera.K, camera.distortion)
    return turn, predicted[:, 0]


def _overlay(given: Views, views: list[View], camera: Camera) -> tuple[tuple[str, np.ndarray, np.ndarray], ...]:
    return tuple((view.name, view.corners, _posed(given, view, camera)[1]) for view in views)


def _missing(given: Views, views: list[View], turns: list[np.ndarray]) -> tuple[str, ...]:
    return missing_views(given.width_px, given.height_px, [view.corners for view in views], _tilts(turns))


def _tilts(turns: list[np.ndarray]) -> np.ndarray:
    return np.array([np.asarray(cv2.Rodrigues(turn)[0])[2, :2] for turn in turns])


def missing_views(width_px: int, height_px: int, corners: list[np.ndarray], tilts: np.ndarray) -> tuple[str, ...]:
    """Regions without corners, and tilts that were not seen.

    Args:
        tilts: float64[N, 2]: the last row of each view's rotation matrix without its last number: sines of the angles
            by which the board's x and y axes point away from the camera.
    """
    found = np.concatenate(corners) if corners else np.zeros((0, 2))
    missing = []
    names = (("top left", "top", "top right"), ("left", "middle", "right"), ("bottom left", "bottom", "bottom right"))
    cells: Mapping[tuple[int, int], int] = {
        (row, column): int(
            np.sum((found[:, 0] * REGIONS // width_px == column) & (found[:, 1] * REGIONS // height_px == row))
        )
        for row in range(REGIONS)
        for column in range(REGIONS)
    }
    missing += [f"no corners in the {names[r][c]} of the image" for (r, c), count in cells.items() if count == 0]
    least = math.sin(TILT_MIN_RAD)
    for axis, text in ((0, "left or right edge"), (1, "upper or lower edge")):
        seen = int(np.sum(np.abs(tilts[:, axis]) > least)) if len(tilts) else 0
        if seen < TILTED_MIN:
            missing.append(
                f"{TILTED_MIN - seen} more images with the board's {text} {math.degrees(TILT_MIN_RAD):.0f} deg or more "
                "nearer than the other"
            )
    return tuple(missing)
