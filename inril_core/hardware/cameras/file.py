"""A camera played from a file, at the rate at which it was recorded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
from pydantic import Field

from inril_core.hardware.arms.base import Arm
from inril_core.hardware.cameras.base import CameraConfig, CameraLost, CameraSource, Frame
from inril_core.hardware.cameras.realsense import Config as RealSenseConfig
from inril_core.hardware.cameras.realsense import RealSense, library

RECORDINGS = (".db3", ".bag")
LONGEST_WAIT_S = 0.2


class Config(CameraConfig):
    """Settings of a file: a recording of a RealSense (.db3, .bag) or any video."""

    path: Path
    loop: bool = False
    """Begin again at its end; otherwise the end is an unplugged camera, which is plugged in again by the back-off."""
    depth: bool = False
    """Of a RealSense recording: publish its depth too, aligned to the colour image."""
    serial: str = Field("", pattern=r"^[A-Za-z0-9]*$")
    """Of the camera that a video is of; a recording of a RealSense knows its own."""

    def build(self, camera: str, width_px: int, height_px: int, arm: Arm | None) -> CameraSource:
        """See `CameraConfig.build`."""
        if self.path.suffix in RECORDINGS:
            return RealSense(library(), RealSenseConfig(depth=self.depth), self.path, self.loop)
        return Video(self.path, self.loop, self.serial)


class Video(CameraSource):
    """A video file through PyAV.

    Args:
        now_ns: the ROS clock. mono_s, sleep: pace the images.
    """

    def __init__(
        self,
        path: Path,
        loop: bool = False,
        serial: str = "",
        now_ns: Callable[[], int] = time.time_ns,
        mono_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.serial = serial
        self._path, self._loop = path, loop
        self._now_ns, self._mono_s, self._sleep = now_ns, mono_s, sleep
        self._container: Any = None
        self._images: Iterator[Any] = iter(())
        self._next: Any = None
        self._start_s = 0.0
        """Monotonic time at which the video began."""
        self._number = 0

    def open(self) -> None:
        """See `CameraSource.open`."""
        if not self._path.is_file():
            raise CameraLost(f"{self._path} is not there; give the path of a video")
        try:
            self._container = av.open(str(self._path))
        except (av.error.FFmpegError, OSError) as error:
            raise CameraLost(f"{self._path} cannot be read as a video ({error})") from error
        if not self._container.streams.video:
            raise CameraLost(f"{self._path} holds no video")
        self._images = self._container.decode(video=0)
        self._next, self._start_s = None, self._mono_s()

    def read(self) -> Frame | None:
        """See `CameraSource.read`."""
        if self._next is None:
            self._next = self._decoded()
        wait_s = self._start_s + (self._next.time or 0.0) - self._mono_s()
        if wait_s > 0.0:
            self._sleep(min(wait_s, LONGEST_WAIT_S))
            if wait_s > LONGEST_WAIT_S:
                return None
        image, self._next = self._next, None
        self._number += 1
        return Frame(image.to_ndarray(format="rgb24"), self._now_ns(), self._number)

    def close(self) -> None:
        """See `CameraSource.close`."""
        container, self._container, self._next = self._container, None, None
        self._images = iter(())
        if container is not None:
            container.close()

    def _decoded(self) -> Any:
        image = next(self._images, None)
        if image is None and self._loop:
            self.close()
            self.open()
            image = next(self._images, None)
        if image is None:
            raise CameraLost(f"{self._path} has ended")
        return image
