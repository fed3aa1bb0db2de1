"""Any camera that OpenCV opens: UVC cameras by number or device file, also its files and network streams."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pydantic import Field

from inril_core.hardware.arms.base import Arm
from inril_core.hardware.cameras.base import BadImage, CameraConfig, CameraLost, CameraSource, Frame

SYSFS = Path("/sys/class/video4linux")


class Config(CameraConfig):
    """Settings of a UVC camera."""

    device: int | str = 0
    """Number N of /dev/videoN, or a path; /dev/v4l/by-id/... does not change with the order of plugging."""
    serial: str = ""
    """That it must have; empty: any. It is read from the system."""
    width_px: int = Field(640, ge=64, le=8192)
    height_px: int = Field(480, ge=64, le=8192)
    rate_hz: float = Field(30.0, ge=1.0, le=300.0)
    fourcc: str = Field("MJPG", pattern=r"^[A-Za-z0-9 ]{4}$|^$")
    """Encoding on the cable; empty: the camera's first. Uncompressed ones (YUYV) fill a USB bus with few cameras."""
    exposure: float | None = None
    """In the driver's own unit, for V4L2 mostly 100 us; None: the camera chooses."""

    def build(self, camera: str, width_px: int, height_px: int, arm: Arm | None) -> Uvc:
        """See `CameraConfig.build`."""
        return Uvc(self)


class Uvc(CameraSource):
    """One `cv2.VideoCapture`. A stamp is the time of arrival; `inril calibrate latency` measures what that is late by.

    Args:
        now_ns: the ROS clock.
    """

    def __init__(self, config: Config, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._config, self._now_ns = config, now_ns
        self._capture: Any = None
        device = str(config.device)
        self._live = isinstance(config.device, int) or device.startswith("/dev/")
        self._path = f"/dev/video{device}" if device.isdecimal() else device

    def open(self) -> None:
        """See `CameraSource.open`."""
        config = self._config
        if self._live:
            self._check_device()
        capture = cv2.VideoCapture(self._path, cv2.CAP_V4L2 if self._live else cv2.CAP_FFMPEG)
        self._capture = capture
        if not capture.isOpened():
            raise CameraLost(f"{self._path} cannot be opened; does another program use it? may this user read it?")
        if not self._live:
            return
        wanted = {cv2.CAP_PROP_BUFFERSIZE: 1.0, cv2.CAP_PROP_FPS: config.rate_hz}
        if config.fourcc:
            wanted = {cv2.CAP_PROP_FOURCC: float(cv2.VideoWriter.fourcc(*config.fourcc)), **wanted}
        wanted |= {cv2.CAP_PROP_FRAME_WIDTH: config.width_px, cv2.CAP_PROP_FRAME_HEIGHT: config.height_px}
        if config.exposure is not None:
            wanted |= {cv2.CAP_PROP_AUTO_EXPOSURE: 1.0, cv2.CAP_PROP_EXPOSURE: config.exposure}  # 1: by hand, in V4L2
        for what, value in wanted.items():
            capture.set(what, value)  # what a camera refuses is seen by its images

    def read(self) -> Frame | None:
        """See `CameraSource.read`."""
        came, image = self._capture.read()
        arrived_ns = self._now_ns()
        if not came:
            raise CameraLost(f"{self._path} gives no image; is it still plugged in?")
        if image.ndim != 3 or image.shape[2] != 3:
            raise BadImage(f"it comes as {image.dtype}{list(image.shape)}, not as colour; choose another `fourcc`")
        return Frame(np.ascontiguousarray(image[..., ::-1]), arrived_ns)

    def close(self) -> None:
        """See `CameraSource.close`."""
        capture, self._capture = self._capture, None
        if capture is not None:
            capture.release()

    def _check_device(self) -> None:
        if not Path(self._path).exists():
            there = sorted(str(path) for path in Path("/dev").glob("video*"))
            raise CameraLost(f"{self._path} is not there; there are: {', '.join(there) or 'none'}")
        self.serial = serial_of(Path(self._path).resolve().name)
        if self._config.serial and self._config.serial != self.serial:
            raise CameraLost(f"{self._path} has the serial number {self.serial or 'none'}, not {self._config.serial}")


def serial_of(name: str, sysfs: Path = SYSFS) -> str:
    """Serial number of the USB device behind a video device, e.g. ``video0``; empty: it has none."""
    interface = (sysfs / name / "device").resolve()
    for folder in (interface, interface.parent):
        if (folder / "serial").is_file():
            return (folder / "serial").read_text().strip()
    return ""
