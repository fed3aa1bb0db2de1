"""Images of replayed transitions, as bytes, each stored once however many transitions show it."""

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from inril_core.errors import ConfigError
from inril_core.networks.encoder import PixelColumns, draw_shifts, shifted

Slots = npt.NDArray[np.int64]
Shift = Tensor


def to_bytes(pixels: Tensor) -> Tensor:
    """Pixels as uint8.

    Raises:
        ValueError: a number is not a whole one from 0 to 255.
    """
    pixels = pixels.cpu()
    frames = pixels.to(torch.uint8)
    if not torch.equal(frames.to(pixels.dtype), pixels):
        raise ValueError("a pixel is not a whole number from 0 to 255")
    return frames


class Frames:
    """The pixels of observations, by slot. Two transitions that follow one another share a frame.

    Memory: 1 byte per number, so 21,168 per 84 x 84 image; only what was ever in use at once is taken from the machine.

    Args:
        capacity: slots; twice the transitions, for the case that none follow one another.
        pixels: what a frame holds.

    Raises:
        ConfigError: the machine cannot give so much memory.
    """

    def __init__(self, capacity: int, pixels: PixelColumns) -> None:
        self.pixels = pixels
        try:
            # numpy's, because torch may fill what it allocates, and so take all of it at once
            self._bytes = torch.from_numpy(np.empty((capacity, pixels.size), np.uint8))
        except MemoryError as error:
            raise ConfigError(
                f"schedule.replay_capacity: {capacity} frames of {pixels.size} bytes do not fit; choose a smaller one"
            ) from error
        self._users = np.zeros(capacity, np.int64)
        self._free: list[int] = []
        self._used = 0

    def __len__(self) -> int:
        """Frames stored."""
        return self._used - len(self._free)

    def put(self, frames: Tensor) -> Slots:
        """Store ``frames`` uint8 ``[N, size]``, equal ones once; returns the slot of each."""
        known: dict[bytes, int] = {}
        slots = np.empty(len(frames), np.int64)
        for n, frame in enumerate(frames.numpy()):
            content = hashlib.blake2b(frame, digest_size=16).digest()
            if content not in known:
                known[content] = self._take()
                self._bytes[known[content]] = frames[n]
            slots[n] = known[content]
        np.add.at(self._users, slots, 1)
        return slots

    def release(self, slots: Slots) -> None:
        """One user less of each; a frame without users is forgotten."""
        np.subtract.at(self._users, slots, 1)
        self._free += [int(slot) for slot in np.unique(slots) if self._users[slot] == 0]

    def draw(self, count: int, generator: torch.Generator) -> list[Shift]:
        """Random shifts of the images of ``count`` frames."""
        return [draw_shifts(count, self.pixels.shift_px, generator) for _ in self.pixels.shapes]

    def write(self, rows: Tensor, slots: Slots, shifts: Sequence[Shift] | None) -> None:
        """Fill the pixel columns of ``rows [B, D_in]``, their images moved by ``shifts`` (`draw`), if there are any."""
        p, begin = self.pixels, 0
        picked = self._bytes.index_select(0, torch.from_numpy(slots)).to(rows.device)
        for number, shape in enumerate(p.shapes):
            image = picked[:, begin : begin + shape.size].reshape(-1, shape.height_px, shape.width_px, 3)
            if shifts is not None and p.shift_px > 0:
                image = shifted(image, shifts[number])
            rows[:, p.first + begin : p.first + begin + shape.size] = image.flatten(1)
            begin += shape.size

    def _take(self) -> int:
        if self._free:
            return self._free.pop()
        self._used += 1
        return self._used - 1

    def state(self) -> Tensor:
        """The slots in use so far, uint8 ``[n, size]``, not copied."""
        return self._bytes[: self._used]

    def load(self, frames: Tensor, slots: Slots) -> None:
        """Continue from what `state` returned, used at ``slots`` (one entry per use)."""
        self._used = len(frames)
        self._bytes[: self._used] = frames
        self._users = np.bincount(slots, minlength=len(self._users)).astype(np.int64)
        self._free = [int(slot) for slot in np.flatnonzero(self._users[: self._used] == 0)]
