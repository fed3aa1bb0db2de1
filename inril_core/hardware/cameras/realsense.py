"""RealSense cameras through pyrealsense2, plugged in or played from a recording."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from inril_core.errors import missing_package
from inril_core.hardware.arms.base import Arm
from inril_core.hardware.cameras.base import BadImage, CameraConfig, CameraLost, CameraSource, Frame
from inril_core.hardware.cameras.clock import ClockFit

WAIT_MS = 200
MAX_DEPTH_APART_MS = 20.0
"""A depth image that was taken further from the colour image in time is of another scene, and is left out."""
_ORDERS: dict[str, tuple[int, ...]] = {"rgb8": (0, 1, 2), "bgr8": (2, 1, 0), "rgba8": (0, 1, 2), "bgra8": (2, 1, 0)}
"""Channels that hold red, green and blue."""


def library() -> Any:
    """pyrealsense2, imported when a RealSense camera is chosen and not before.

    Raises:
        ConfigError: it is not installed, or the system's libusb is missing.
    """
    try:
        with suppress(ImportError, OSError, AttributeError):  # the wheel finds libusb only where it is loaded already
            import libusb_package

            ctypes.CDLL(str(libusb_package.get_library_path()), mode=ctypes.RTLD_GLOBAL)
        import pyrealsense2
    except ImportError as error:
        raise missing_package("source 'realsense' needs pyrealsense2", "realsense", error) from error
    return pyrealsense2


class Config(CameraConfig):
    """Settings of a RealSense camera."""

    serial: str = Field("", pattern=r"^[A-Za-z0-9]*$")
    """Of the device; empty: the only one that is plugged in."""
    width_px: int = Field(640, ge=64, le=4096)
    height_px: int = Field(480, ge=64, le=4096)
    rate_hz: int = Field(30, ge=5, le=300)
    depth: bool = False
    """Publish depth too, aligned to the colour image."""
    exposure_us: float | None = Field(None, gt=0.0, le=200_000.0)
    """Of the colour sensor; None: the camera chooses, and changes it with the light."""
    gain: float | None = Field(None, ge=0.0, le=1000.0)
    """As the camera counts it; None: the camera chooses."""
    white_balance_k: float | None = Field(None, ge=2000.0, le=10_000.0)
    """Kelvin; None: the camera chooses."""

    def build(self, camera: str, width_px: int, height_px: int, arm: Arm | None) -> RealSense:
        """See `CameraConfig.build`."""
        return RealSense(library(), self)


class RealSense(CameraSource):
    """One device and its pipeline; several devices have one each.

    Args:
        rs: pyrealsense2, see `library`.
        recording: a .db3 or .bag to play instead of a device, at its own rate; `Config.serial` and resolution are the
            recording's.
        loop: begin the recording again at its end; otherwise its end is a lost camera.
        now_ns: the ROS clock.
    """

    def __init__(
        self,
        rs: Any,
        config: Config,
        recording: Path | None = None,
        loop: bool = False,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.clock = ClockFit()
        self._rs, self._config, self._recording, self._loop, self._now_ns = rs, config, recording, loop, now_ns
        self._pipeline: Any = None
        self._playback: Any = None
        self._align: Any = None
        self._depth_mm = 1.0
        """Millimetres of one unit of depth."""
        self._number: int | None = None
        self._domain: Any = None

    def open(self) -> None:
        """See `CameraSource.open`."""
        rs, config = self._rs, self._rs.config()
        if self._recording is not None:
            if not self._recording.is_file():
                raise CameraLost(f"{self._recording} is not there; give the path of a .db3 or .bag recording")
            rs.config.enable_device_from_file(config, str(self._recording), self._loop)
            config.enable_stream(rs.stream.color)
            if self._config.depth:
                config.enable_stream(rs.stream.depth)
        else:
            self._choose(config)
        self._pipeline = rs.pipeline()
        try:
            profile = self._pipeline.start(config)
        except RuntimeError as error:
            raise CameraLost(f"{self._wanted()} cannot be started: {error}") from error
        device = profile.get_device()
        self.serial = _info(device, rs.camera_info.serial_number)
        self._playback = device.as_playback() if self._recording is not None else None
        self._align = rs.align(rs.stream.color) if self._config.depth else None
        self._number = self._domain = None
        self.clock = ClockFit()
        for sensor in device.query_sensors():
            if sensor.supports(rs.option.depth_units):
                self._depth_mm = 1000.0 * float(sensor.get_option(rs.option.depth_units))
            if self._recording is None:
                self._set_options(sensor)

    def read(self) -> Frame | None:
        """See `CameraSource.read`."""
        came, frames = self._pipeline.try_wait_for_frames(WAIT_MS)
        arrived_ns = self._now_ns()
        if not came:
            self._look_for_end()
            return None
        if self._align is not None:
            frames = self._align.process(frames)
        colour, depth = frames.get_color_frame(), frames.get_depth_frame() if self._align is not None else None
        if not colour or (self._align is not None and not depth):
            return None
        number = int(colour.get_frame_number())
        if number == self._number:
            return None  # the same colour came with another depth image
        if self._number is not None and number < self._number:
            self.clock = ClockFit()  # the camera, or its recording, began anew
        self._number = number
        pixels = _rgb(colour)
        # librealsense gives milliseconds as a double: to half a microsecond, for a clock that counts from 1970
        stamp_ns = self._stamp_ns(colour.get_frame_timestamp_domain(), round(colour.get_timestamp() * 1e6), arrived_ns)
        apart_ms = 0.0 if depth is None else abs(depth.get_timestamp() - colour.get_timestamp())
        belongs = depth is not None and apart_ms <= MAX_DEPTH_APART_MS
        return Frame(pixels, stamp_ns, number, self._millimetres(depth) if belongs else None)

    def close(self) -> None:
        """See `CameraSource.close`."""
        pipeline, self._pipeline, self._playback = self._pipeline, None, None
        if pipeline is not None:
            with suppress(RuntimeError):  # it was not started, or the device is gone
                pipeline.stop()

    def _choose(self, config: Any) -> None:
        rs, wanted = self._rs, self._config
        devices = list(rs.context().query_devices())
        found = {_info(device, rs.camera_info.serial_number): _info(device, rs.camera_info.name) for device in devices}
        shown = ", ".join(f"{serial} ({name})" for serial, name in sorted(found.items())) or "none"
        if wanted.serial and wanted.serial not in found:
            raise CameraLost(f"no RealSense with serial number {wanted.serial} is plugged in; there are: {shown}")
        if not found:
            raise CameraLost(
                "no RealSense is plugged in, or this user may not open it; use a USB 3 port, install the udev rules "
                "of librealsense"
            )
        if not wanted.serial and len(found) > 1:
            raise CameraLost(f"several RealSense cameras are plugged in: {shown}; choose one with `serial`")
        config.enable_device(wanted.serial or next(iter(found)))
        size_px = wanted.width_px, wanted.height_px
        config.enable_stream(rs.stream.color, *size_px, rs.format.rgb8, wanted.rate_hz)
        if wanted.depth:
            config.enable_stream(rs.stream.depth, *size_px, rs.format.z16, wanted.rate_hz)

    def _wanted(self) -> str:
        if self._recording is not None:
            return str(self._recording)
        wanted = self._config
        return (
            f"RealSense {wanted.serial or '(the only one)'} with {wanted.width_px}x{wanted.height_px} at "
            f"{wanted.rate_hz} Hz{' and depth' if wanted.depth else ''}"
        )

    def _set_options(self, sensor: Any) -> None:
        option = self._rs.option
        if sensor.supports(option.global_time_enabled):
            sensor.set_option(option.global_time_enabled, 0.0)  # the camera's own clock, which `ClockFit` measures
        if not sensor.supports(option.white_balance):
            return  # not the colour sensor
        chosen = {
            option.exposure: (self._config.exposure_us, option.enable_auto_exposure),
            option.gain: (self._config.gain, option.enable_auto_exposure),
            option.white_balance: (self._config.white_balance_k, option.enable_auto_white_balance),
        }
        for what, (value, automatic) in chosen.items():
            if value is None:
                continue
            allowed = sensor.get_option_range(what)
            if not allowed.min <= value <= allowed.max:
                raise CameraLost(f"{what.name} = {value:g}: this camera takes {allowed.min:g} to {allowed.max:g}")
            sensor.set_option(automatic, 0.0)
            sensor.set_option(what, value)

    def _look_for_end(self) -> None:
        playback = self._playback
        if playback is not None and playback.current_status() == self._rs.playback_status.stopped and not self._loop:
            raise CameraLost(f"{self._recording} has ended")

    def _stamp_ns(self, domain: Any, device_ns: int, arrived_ns: int) -> int:
        if domain != self._domain:  # another clock, as when metadata of the kernel's driver come or go
            self._domain, self.clock = domain, ClockFit()
        return self.clock.add(device_ns, arrived_ns)

    def _millimetres(self, depth: Any) -> np.ndarray:
        raw = np.asanyarray(depth.get_data())
        if abs(self._depth_mm - 1.0) < 1e-6:
            return raw.copy()
        return np.minimum(np.rint(raw * self._depth_mm), 65535).astype(np.uint16)


def _rgb(frame: Any) -> np.ndarray:
    """A copy: librealsense lends the memory of a frame, and takes it back."""
    kind = frame.profile.format().name
    pixels = np.asanyarray(frame.get_data())
    if kind == "y8":
        return np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, axis=2)
    if kind not in _ORDERS:
        raise BadImage(f"its colour is {kind}; record or stream one of {', '.join(_ORDERS)}, y8")
    return np.ascontiguousarray(pixels[..., list(_ORDERS[kind])]) if kind != "rgb8" else pixels.copy()


def _info(device: Any, what: Any) -> str:
    return str(device.get_info(what)) if device.supports(what) else ""
