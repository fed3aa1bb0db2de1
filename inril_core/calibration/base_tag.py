"""Where a fixed camera is, from tags on the table whose place in the base frame is known."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from inril_core.calibration import rigid
from inril_core.calibration.camera import Camera
from inril_core.calibration.intrinsics import IMAGES_MAX, SUFFIXES
from inril_core.calibration.refused import CalibrationRefused
from inril_core.calibration.tags import BodyView, TagLayout, find_tags, locate

BODY = "base"
RESIDUAL_MAX_PX = 3.0
SPREAD_MAX_M, SPREAD_MAX_RAD = 5e-3, math.radians(1.0)
"""The camera does not move between the images: views further than this from their median are left out."""


@dataclass(frozen=True)
class BaseTag:
    """Result of `calibrate`."""

    T: np.ndarray
    """float64[4, 4]: the camera's optical frame in the base's."""
    residual_px: float
    position_std_m: float
    """Of one image, from image to image."""
    angle_std_rad: float
    used: tuple[str, ...]
    rejected: dict[str, str]
    tags: tuple[int, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON and YAML."""
        return {
            "name": "T_base_camera",
            "T": self.T.tolist(),
            "residual_px": self.residual_px,
            "position_std_m": self.position_std_m,
            "angle_std_rad": self.angle_std_rad,
            "used": list(self.used),
            "rejected": self.rejected,
            "tags": list(self.tags),
        }


def read_grey(paths: list[Path]) -> dict[str, np.ndarray]:
    """Images by file name; folders stand for their images.

    Raises:
        CalibrationRefused: a file or folder cannot be read.
    """
    files: list[Path] = []
    for path in paths:
        try:
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
        except OSError as error:
            raise CalibrationRefused("unreadable", f"{path}: cannot be read ({error.strerror or error})") from error
        files += inside
    if not files or len(files) > IMAGES_MAX:
        raise CalibrationRefused("no_images", f"{len(files)} images; give 1 to {IMAGES_MAX}")
    images = {}
    for path in files:
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if image is None:
            raise CalibrationRefused("unreadable", f"{path}: not an image that can be read")
        images[path.name] = image
    return images


def calibrate(camera: Camera, size_px: tuple[int, int], layout: TagLayout, images: dict[str, np.ndarray]) -> BaseTag:
    """The camera in the base frame: the median of its views, and the mean of those near it.

    Raises:
        CalibrationRefused: the layout has no body ``base``, an image has another size, or no tag is seen well.
    """
    tags = layout.bodies.get(BODY)
    if tags is None:
        raise CalibrationRefused("no_base", f"layout {layout.name}: no body {BODY!r}; add its tags")
    views: dict[str, BodyView] = {}
    rejected: dict[str, str] = {}
    for name, image in images.items():
        if (image.shape[1], image.shape[0]) != size_px:
            raise CalibrationRefused(
                "different_sizes",
                f"{name} has {image.shape[1]} x {image.shape[0]} pixels, the intrinsics are of {size_px[0]} x "
                f"{size_px[1]}; give images at that resolution",
            )
        view = locate(camera, tags, find_tags(image))
        if view is None:
            rejected[name] = f"none of the tags {sorted(tags)} seen"
        elif view.residual_px > RESIDUAL_MAX_PX:
            rejected[name] = (
                f"residual {view.residual_px:.1f} px: tags elsewhere than in the layout, or of another size"
            )
        else:
            views[name] = view
    if not views:
        why = "; ".join(f"{name}: {reason}" for name, reason in list(rejected.items())[:3])
        raise CalibrationRefused("no_tags", f"no image shows the tags well; {why}")
    T = np.array([rigid.inverse(view.T_camera_body) for view in views.values()])
    middle = rigid.compose(rigid.nearest_rotation(np.median(T[:, :3, :3], axis=0)), np.median(T[:, :3, 3], axis=0))
    near = []
    for i, name in enumerate(list(views)):
        distance_m, angle = rigid.difference(T[i], middle)
        if distance_m <= SPREAD_MAX_M and angle <= SPREAD_MAX_RAD:
            near.append(i)
        else:
            rejected[name] = f"{1e3 * distance_m:.1f} mm and {math.degrees(angle):.2f} deg from the others; moved?"
            del views[name]
    if 2 * len(near) <= len(T):
        raise CalibrationRefused(
            "no_agreement", f"only {len(near)} of {len(T)} images agree on the camera's place; fix camera and tags"
        )
    mean = rigid.compose(rigid.nearest_rotation(T[near, :3, :3].mean(axis=0)), T[near, :3, 3].mean(axis=0))
    turns = Rotation.from_matrix(mean[:3, :3].T @ T[near, :3, :3]).magnitude()
    residuals = np.array([view.residual_px for view in views.values()])
    return BaseTag(
        T=mean,
        residual_px=float(np.sqrt(np.mean(residuals**2))),
        position_std_m=float(np.sqrt(np.mean(np.sum((T[near, :3, 3] - mean[:3, 3]) ** 2, axis=1)))),
        angle_std_rad=float(np.sqrt(np.mean(turns**2))),
        used=tuple(views),
        rejected=rejected,
        tags=tuple(sorted({n for view in views.values() for n in view.tags})),
    )
