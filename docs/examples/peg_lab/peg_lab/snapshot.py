"""A camera source: the newest picture that another program, e.g. a camera vendor's, keeps writing to one file."""

from pathlib import Path

import numpy as np
from PIL import Image

from inril_core.hardware.cameras.base import CameraConfig, CameraLost, CameraSource, Frame


class Config(CameraConfig):
    """Settings, as ``cameras: {NAME: {source: snapshot, path: ...}}`` gives them."""

    path: Path
    """Replaced as a whole (written beside it, then renamed), so that no half picture is read."""

    def build(self, camera, width_px, height_px, arm):
        """See `CameraConfig.build`."""
        return Snapshot(self.path, width_px, height_px)


class Snapshot(CameraSource):
    """Gives each picture once, with the time at which the file was written."""

    def __init__(self, path, width_px, height_px):
        self._path, self._size_px, self._given_ns = path, (width_px, height_px), 0

    def open(self):
        """See `CameraSource.open`."""
        if not self._path.exists():
            raise CameraLost(f"{self._path} is not there; start the program that writes it")

    def read(self):
        """See `CameraSource.read`."""
        written_ns = self._path.stat().st_mtime_ns
        if written_ns == self._given_ns:
            return None
        with Image.open(self._path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        height_px, width_px = pixels.shape[:2]
        if width_px < self._size_px[0] or height_px < self._size_px[1]:
            raise CameraLost(f"{self._path} is {width_px} x {height_px}; the contract needs at least {self._size_px}")
        self._given_ns = written_ns
        return Frame(pixels, written_ns)
