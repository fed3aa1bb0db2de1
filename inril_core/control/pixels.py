"""From the encodings in which cameras send images to uint8 RGB."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from inril_core.control.measurement import BadMeasurement

MAX_SIDE_PX = 16384


class _Encoding(NamedTuple):
    order: tuple[int, int, int]
    """Channels that hold red, green and blue."""
    channels: int
    bytes_per_value: int


_RGB, _BGR, _GREY = (0, 1, 2), (2, 1, 0), (0, 0, 0)
ENCODINGS = {
    "rgb8": _Encoding(_RGB, 3, 1),
    "bgr8": _Encoding(_BGR, 3, 1),
    "rgba8": _Encoding(_RGB, 4, 1),
    "bgra8": _Encoding(_BGR, 4, 1),
    "mono8": _Encoding(_GREY, 1, 1),
    "rgb16": _Encoding(_RGB, 3, 2),
    "bgr16": _Encoding(_BGR, 3, 2),
    "rgba16": _Encoding(_RGB, 4, 2),
    "bgra16": _Encoding(_BGR, 4, 2),
    "mono16": _Encoding(_GREY, 1, 2),
}
"""Encodings of sensor_msgs/Image that are converted. Others do not say which value is which colour (8UC3), are no
colours (depth), or need an interpolation that is the driver's to choose (Bayer, YUV)."""


def check_layout(encoding: str, height_px: int, width_px: int, step_bytes: int, length_bytes: int) -> None:
    """Check that an image of `sensor_msgs/Image` fields can be converted; costs nothing that grows with the image.

    Raises:
        BadMeasurement: an unknown encoding, no pixels, rows shorter than their pixels, or a buffer of another length.
    """
    known = ENCODINGS.get(encoding)
    if known is None:
        raise BadMeasurement(
            f"encoding {encoding[:40]!r}: known are {', '.join(ENCODINGS)}; set one of them in the camera's driver"
        )
    if not (0 < height_px <= MAX_SIDE_PX and 0 < width_px <= MAX_SIDE_PX):
        raise BadMeasurement(f"{width_px}x{height_px} pixels: each side must have 1 to {MAX_SIDE_PX}")
    row_bytes = width_px * known.channels * known.bytes_per_value
    if step_bytes < row_bytes:
        raise BadMeasurement(f"step = {step_bytes} bytes: a row of {width_px} pixels in {encoding} has {row_bytes}")
    if length_bytes != step_bytes * height_px:
        raise BadMeasurement(
            f"{length_bytes} bytes of data: {height_px} rows of {step_bytes} bytes (step) are {step_bytes * height_px}"
        )


def rgb_pixels(
    encoding: str, height_px: int, width_px: int, step_bytes: int, big_endian: bool, data: bytes | memoryview
) -> np.ndarray:
    """uint8[height_px, width_px, 3], red first. Alpha is dropped, grey is repeated, of 16 bits the upper 8 are kept.

    step_bytes: length of a row with its padding. A view of `data` where nothing must be changed.

    Raises:
        BadMeasurement: as `check_layout`.
    """
    check_layout(encoding, height_px, width_px, step_bytes, len(data))
    order, channels, size = ENCODINGS[encoding]
    row_bytes = width_px * channels * size
    rows = np.frombuffer(data, np.uint8).reshape(height_px, step_bytes)[:, :row_bytes]
    values = rows.reshape(height_px, width_px, channels, size)[..., 0 if big_endian else size - 1]
    if order == _RGB:
        return values[..., :3]
    return values[..., list(order)]
