"""Poses of a task's parts from the AprilTags on them: smoothed, with age and confidence."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import scipy

from inril_core.calibration import rigid
from inril_core.calibration.camera import Camera
from inril_core.calibration.tags import TagLayout, find_tags, locate

BASE = "base"
"""Body of a layout that is no part."""
RESIDUAL_MAX_PX = 3.0
_RESIDUAL_GOOD_PX = 1.0
_JUMP_M, _JUMP_RAD = 0.05, math.radians(30.0)
"""A part that seems to have jumped further between two images is believed when a second image says the same: a small
tag seen from the front has two nearly equal poses, and its detection flips between them."""


@dataclass(frozen=True)
class PartPose:
    """Where a part is."""

    name: str
    T_base_part: np.ndarray
    """float64[4, 4], metres."""
    age_s: float
    """Since the image in which it was last seen."""
    confidence: float
    """In [0, 1]: 1 with two tags or more that fit within a pixel, just seen; 0 when it is forgotten. It ranks and
    filters; it is no probability."""


@dataclass(frozen=True)
class _Track:
    T: np.ndarray
    seen_s: float
    quality: float
    doubt: np.ndarray | None = None
    """A pose far from T that one image gave."""


class PartTracker:
    """Follows the bodies of a layout in the images of one camera. Its owner feeds it; time is the images' own.

    Args:
        smoothing_s: time constant of the low-pass filter of position and rotation; 0: none.
        forget_s: a part that was not seen for so long is not reported any more.
    """

    def __init__(
        self,
        layout: TagLayout,
        camera: Camera,
        T_base_camera: np.ndarray,
        smoothing_s: float = 0.1,
        forget_s: float = 1.0,
    ) -> None:
        self._bodies = {name: tags for name, tags in layout.bodies.items() if name != BASE}
        self._camera, self._T_base_camera = camera, T_base_camera
        self._smoothing_s, self._forget_s = smoothing_s, forget_s
        self._tracks: dict[str, _Track] = {}
        self._now_s = -math.inf

    def image(self, stamp_s: float, pixels: np.ndarray) -> None:
        """Look for the tags in an image uint8[H, W] or uint8[H, W, 3]. One that is not newer than the last is left."""
        if stamp_s <= self._now_s:
            return
        self._now_s = stamp_s
        seen = find_tags(pixels)
        for name, tags in self._bodies.items():
            view = locate(self._camera, tags, seen)
            if view is not None and view.residual_px <= RESIDUAL_MAX_PX:
                good = math.exp(-max(0.0, view.residual_px - _RESIDUAL_GOOD_PX))
                quality = good * (1.0 if len(view.tags) > 1 else 0.7)
                self._see(name, self._T_base_camera @ view.T_camera_body, stamp_s, quality)

    def _see(self, name: str, T: np.ndarray, stamp_s: float, quality: float) -> None:
        old = self._tracks.get(name)
        if old is None or stamp_s - old.seen_s > self._forget_s:
            self._tracks[name] = _Track(T, stamp_s, quality)
            return
        if _far(T, old.T):
            if old.doubt is None or _far(T, old.doubt):
                self._tracks[name] = replace(old, doubt=T)
            else:
                self._tracks[name] = _Track(T, stamp_s, quality)
            return
        gain = 1.0
        if self._smoothing_s > 0.0:
            gain = 1.0 - math.exp(-(stamp_s - old.seen_s) / self._smoothing_s)
        turn = scipy.spatial.transform.Rotation.from_matrix(old.T[:3, :3].T @ T[:3, :3]).as_rotvec()
        step = np.concatenate([gain * turn, gain * (old.T[:3, :3].T @ (T[:3, 3] - old.T[:3, 3]))])
        self._tracks[name] = _Track(rigid.moved(old.T, step), stamp_s, quality)

    def parts(self, now_s: float) -> list[PartPose]:
        """Those seen within `forget_s`, in the layout's order."""
        found = []
        for name in self._bodies:
            track = self._tracks.get(name)
            if track is not None and 0.0 <= now_s - track.seen_s < self._forget_s:
                age_s = now_s - track.seen_s
                found.append(PartPose(name, track.T, age_s, track.quality * (1.0 - age_s / self._forget_s)))
        return found


def _far(a: np.ndarray, b: np.ndarray) -> bool:
    distance_m, angle = rigid.difference(a, b)
    return distance_m > _JUMP_M or angle > _JUMP_RAD
