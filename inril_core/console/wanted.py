"""Pictures of how the cell is to be laid out.

A person puts them into the run's folder; the page lays them over the live camera while the session waits for them.
"""

from __future__ import annotations

import base64
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from inril_core.console.cameras import encode
from inril_core.console.messages import WantedPicture, WantedStart

SUFFIXES = (".png", ".jpg", ".jpeg")
LARGEST_BYTES = 32 << 20
"""A larger file is not read."""


class WantedStarts:
    """The pictures in a folder: `START-CAMERA.png` for one start, `CAMERA.png` for every start without its own.

    Args:
        folder: need not be there.
        cameras: names of the contract's cameras.
    """

    def __init__(self, folder: Path, cameras: Sequence[str]) -> None:
        self._folder, self._cameras = folder, tuple(cameras)
        self._known: tuple[object, WantedStart] = ((), WantedStart(-1, ()))

    def of(self, start: int) -> WantedStart:
        """What the page shows while this start is laid out; -1: none is. Files are read again when they change."""
        files = ((camera, self._file(start, camera)) for camera in self._cameras) if start >= 0 else ()
        found = [(camera, path) for camera, path in files if path is not None]
        if not found:
            return WantedStart(-1, ())
        key = (start, *((camera, path, _changed_ns(path)) for camera, path in found))
        if key != self._known[0]:
            self._known = key, WantedStart(start, tuple(_picture(camera, path) for camera, path in found))
        return self._known[1]

    def _file(self, start: int, camera: str) -> Path | None:
        names = [f"{stem}{suffix}" for stem in (f"{start}-{camera}", camera) for suffix in SUFFIXES]
        return next((path for name in names if (path := self._folder / name).is_file()), None)


def _changed_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return -1


def _picture(camera: str, path: Path) -> WantedPicture:
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise ValueError(f"has more than {LARGEST_BYTES >> 20} MiB")
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                jpeg = encode(np.asarray(image.convert("RGB")))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        said = f"{path.name}: {error}; put a picture there, as `inril camera snapshot {camera}` takes it"
        return WantedPicture(camera, "", said)
    return WantedPicture(camera, base64.b64encode(jpeg).decode(), "")
