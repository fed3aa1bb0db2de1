"""Videos of many episodes one behind the other, written and read frame by frame with PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from inril_core.errors import ConfigError
from inril_core.exchange.tables import next_file

FILE_BYTES = 200 << 20
CODEC = "libx264"
OPTIONS = {"crf": "18", "g": "2", "bf": "0", "preset": "veryfast"}
"""A key frame every second frame, so that a training loop can jump to any; crf 18 is about transparent."""
MAX_PIXELS = 1 << 25
"""Of a frame that is read."""


class VideoWriter:
    """One camera's frames in ``pattern`` below ``root`` (with ``chunk_index`` and ``file_index``)."""

    def __init__(self, root: Path, pattern: str, rate_hz: int, file_bytes: int = FILE_BYTES) -> None:
        self._root, self._pattern, self._rate_hz, self._file_bytes = root, pattern, rate_hz, file_bytes
        self._place = (0, 0)
        self._container: Any = None
        self._stream: Any = None
        self._frames = 0
        self.pix_fmt = ""

    def write(self, pixels: np.ndarray) -> tuple[int, int, float, float]:
        """Append an episode, ``uint8[n, H, W, 3]``; returns (chunk, file, begin in s, end in s)."""
        if self._container is not None and self._path().stat().st_size > self._file_bytes:
            self.close()
            self._place = next_file(*self._place)
        if self._container is None:
            self._open(pixels.shape[1], pixels.shape[2])
        begin = self._frames
        for image in pixels:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = self._frames, Fraction(1, self._rate_hz)
            self._container.mux(self._stream.encode(frame))
            self._frames += 1
        return (*self._place, begin / self._rate_hz, self._frames / self._rate_hz)

    def close(self) -> None:
        """End the file; may be called again."""
        if self._container is not None:
            self._container.mux(self._stream.encode(None))
            self._container.close()
            self._container = None

    def _path(self) -> Path:
        return self._root / self._pattern.format(chunk_index=self._place[0], file_index=self._place[1])

    def _open(self, height_px: int, width_px: int) -> None:
        path = self._path()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._container, self._frames = av.open(str(path), "w"), 0
        self._stream = self._container.add_stream(CODEC, rate=self._rate_hz, options=OPTIONS)
        # with 4:2:0 a width or height that is odd cannot be halved
        self.pix_fmt = "yuv444p" if height_px % 2 or width_px % 2 else "yuv420p"
        self._stream.width, self._stream.height, self._stream.pix_fmt = width_px, height_px, self.pix_fmt


def read_frames(path: Path, begin_s: float, count: int, rate_hz: float) -> np.ndarray:
    """``uint8[count, H, W, 3]``: the frames nearest to begin_s, begin_s + 1 / rate_hz, ...

    Raises:
        ConfigError: the file is damaged, or a frame is missing there.
    """
    found: dict[int, np.ndarray] = {}
    try:
        for time_s, image in _decoded(path, begin_s - 0.5 / rate_hz):
            index = round((time_s - begin_s) * rate_hz)
            if index >= count:
                break
            if index >= 0:
                found.setdefault(index, image)
    except (av.FFmpegError, OSError, ValueError, IndexError) as error:
        raise ConfigError(f"{path}: not a readable video ({error})") from error
    missing = [index for index in range(count) if index not in found]
    if missing:
        raise ConfigError(
            f"{path}: has no frame at {begin_s + missing[0] / rate_hz:.3f} s ({len(missing)} are missing)"
        )
    return np.stack([found[index] for index in range(count)])


def _decoded(path: Path, begin_s: float) -> Iterator[tuple[float, np.ndarray]]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        if stream.width * stream.height > MAX_PIXELS:
            raise ValueError(f"frames of {stream.width}x{stream.height}")
        tick_s = stream.time_base
        if tick_s is None:
            raise ValueError("no time base")
        if begin_s > 0.0:
            container.seek(int(begin_s / tick_s), stream=stream, backward=True)
        for frame in container.decode(stream):
            if frame.pts is not None:
                yield float(frame.pts * tick_s), frame.to_ndarray(format="rgb24")
