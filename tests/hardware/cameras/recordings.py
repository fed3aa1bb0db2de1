"""Recordings of a RealSense that was never there: a software device, recorded by librealsense itself."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from inril_core.hardware.cameras.realsense import library

WIDTH, HEIGHT = 320, 240
PERIOD_MS = 1000.0 / 30.0
SERIAL = "841512070001"


def brightness(number: int) -> int:
    """Of the image with this frame number; each has another one."""
    return number * 8 % 256


def depth_mm(number: int) -> int:
    """Everywhere in the depth image with this number."""
    return 500 + number


def record(path: Path, images: int, skipped: tuple[int, ...] = (), pixels: str = "rgb8") -> Path:
    """A .db3 of numbered images, colour and depth, 30 of them per second of the camera's clock.

    skipped: frame numbers that the device counts and never delivers. pixels: encoding of the colour.
    """
    rs = library()
    device = rs.software_device()
    device.register_info(rs.camera_info.serial_number, SERIAL)
    device.register_info(rs.camera_info.name, "RealSense of software")
    stereo, rgb = device.add_sensor("Stereo Module"), device.add_sensor("RGB Camera")
    stereo.add_read_only_option(rs.option.depth_units, 0.001)
    colour_format, colour_bytes = {"rgb8": (rs.format.rgb8, 3), "uyvy": (rs.format.uyvy, 2)}[pixels]
    depth_stream = stereo.add_video_stream(_stream(rs, rs.stream.depth, rs.format.z16, 2))
    colour_stream = rgb.add_video_stream(_stream(rs, rs.stream.color, colour_format, colour_bytes))
    same_place = rs.extrinsics()
    same_place.rotation, same_place.translation = [1, 0, 0, 0, 1, 0, 0, 0, 1], [0.0, 0.0, 0.0]
    depth_stream.register_extrinsics_to(colour_stream, same_place)
    recorder = rs.recorder(str(path), device)
    queue = rs.frame_queue(2)
    sensors = list(zip(recorder.query_sensors(), (depth_stream, colour_stream), strict=True))
    for sensor, stream in sensors:
        sensor.open(stream)
        sensor.start(queue)
    for number in range(1, images + 1):
        if number in skipped:
            continue
        depth = np.full((HEIGHT, WIDTH), depth_mm(number), np.uint16)
        colour = np.full((HEIGHT, WIDTH * colour_bytes), brightness(number), np.uint8)
        for sensor, stream, values, size in (
            (stereo, depth_stream, depth, 2),
            (rgb, colour_stream, colour, colour_bytes),
        ):
            frame = rs.software_video_frame()
            frame.pixels, frame.stride, frame.bpp = values, WIDTH * size, size
            frame.timestamp, frame.domain = 1000.0 + number * PERIOD_MS, rs.timestamp_domain.hardware_clock
            frame.frame_number, frame.profile = number, stream.as_video_stream_profile()
            frame.depth_units = 0.001
            sensor.on_video_frame(frame)
    for sensor, _ in sensors:
        sensor.stop()
        sensor.close()
    return path


def video(path: Path, images: int, rate_hz: int = 30, width: int = WIDTH, height: int = HEIGHT) -> Path:
    """A film of grey images, each brighter."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(rate_hz))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(images):
            image = av.VideoFrame.from_ndarray(np.full((height, width, 3), 10 + number * 8 % 240, np.uint8), "rgb24")
            container.mux(stream.encode(image))
        container.mux(stream.encode())
    return path


def _stream(rs: Any, kind: Any, encoding: Any, size: int) -> Any:
    lens = rs.intrinsics()
    lens.width, lens.height, lens.ppx, lens.ppy = WIDTH, HEIGHT, WIDTH / 2, HEIGHT / 2
    lens.fx = lens.fy = 300.0
    lens.model, lens.coeffs = rs.distortion.none, [0.0] * 5
    stream = rs.video_stream()
    stream.type, stream.index, stream.uid = kind, 0, 10 + int(kind)
    stream.width, stream.height, stream.fps, stream.bpp, stream.fmt, stream.intrinsics = (
        WIDTH,
        HEIGHT,
        30,
        size,
        encoding,
        lens,
    )
    return stream
