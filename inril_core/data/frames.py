"""The images of a camera at the camera's own rate, from a recording that was made with them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from inril_core.data.container import EpisodeUnreadable, read_recording
from inril_core.data.reader import MAX_EPISODE_BYTES, decode_topics, load_file, stamp_ns
from inril_core.data.schemas import camera_topic


@dataclass(frozen=True)
class Frames:
    """What a camera gave while an episode ran, and its last image before."""

    stamps_ns: np.ndarray
    """int64[N], rising."""
    jpegs: tuple[bytes, ...]

    def __len__(self) -> int:
        return len(self.jpegs)

    def pixels(self) -> Iterator[np.ndarray]:
        """uint8[H, W, 3] of each image in turn, decoded when it is asked for.

        Raises:
            EpisodeUnreadable: an image is damaged.
        """
        for number, jpeg in enumerate(self.jpegs):
            try:
                with Image.open(io.BytesIO(jpeg)) as picture:
                    yield np.asarray(picture.convert("RGB"))
            except (OSError, SyntaxError, Image.DecompressionBombError) as error:
                raise EpisodeUnreadable(f"image {number} of {len(self)} is no JPEG ({error})") from error


def read_frames(path: Path, camera: str, max_bytes: int = MAX_EPISODE_BYTES) -> Frames:
    """The images of one camera of a recording, finished or left by a recorder that died; none where it has none.

    Raises:
        EpisodeUnreadable: missing, damaged, or of other types.
    """
    recording = read_recording(load_file(path, max_bytes), max_bytes)
    found = [(stamp_ns(m.header), bytes(m.data)) for _, _, m in decode_topics(recording, (camera_topic(camera),))]
    found.sort(key=lambda one: one[0])
    return Frames(np.array([stamp for stamp, _ in found], np.int64), tuple(data for _, data in found))
