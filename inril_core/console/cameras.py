"""The newest picture of each camera, as JPEG, made only when somebody could look at it."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from inril_core.console.messages import Frame

QUALITY = 80
LARGEST_PX = 640
"""Larger pictures are sent at this width or height."""
SHORTEST_NS = 50_000_000
"""Between two pictures of one camera."""

Pixels = Callable[[], np.ndarray]
"""Gives uint8[height, width, 3], red first; may raise ValueError."""


class Cameras:
    """Kept by one thread (`put`), read by another (`newest`)."""

    def __init__(self, names: Sequence[str]) -> None:
        self._lock = threading.Lock()
        self._raw: dict[str, tuple[int, int, Pixels]] = {}
        self._made: dict[str, Frame] = {}
        self._count = 0
        self.names = tuple(names)

    def put(self, camera: str, pixels: Pixels, now_ns: int) -> None:
        """A new picture; it costs nothing until it is wanted."""
        with self._lock:
            self._count += 1
            self._raw[camera] = self._count, now_ns, pixels

    def has_news(self, camera: str, now_ns: int) -> bool:
        """There is a picture that was not made into a frame, and the last one is not too recent."""
        with self._lock:
            raw, made = self._raw.get(camera), self._made.get(camera)
        return raw is not None and (made is None or (raw[0] > made.frame_id and now_ns - made.heard_ns >= SHORTEST_NS))

    def made(self, camera: str) -> Frame | None:
        """The newest frame that was made."""
        with self._lock:
            return self._made.get(camera)

    def make(self, camera: str) -> Frame | None:
        """Encode the newest picture; some milliseconds. None: it cannot be read."""
        with self._lock:
            frame_id, heard_ns, pixels = self._raw[camera]
        try:
            jpeg = encode(pixels())
        except ValueError:
            jpeg = b""
        frame = Frame(camera, frame_id, heard_ns, jpeg)
        with self._lock:
            self._made[camera] = frame
        return frame if jpeg else None


def encode(pixels: np.ndarray) -> bytes:
    """JPEG of uint8[height, width, 3].

    Raises:
        ValueError: it is no such array.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ValueError(f"pixels are {pixels.dtype}{list(pixels.shape)}; must be uint8[height, width, 3]")
    image = Image.fromarray(pixels)
    image.thumbnail((LARGEST_PX, LARGEST_PX), Image.Resampling.BILINEAR)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY)
    return out.getvalue()
