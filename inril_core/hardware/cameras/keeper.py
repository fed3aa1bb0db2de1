"""Keeps a camera at hand: opens it, reads it, names what is wrong, and gets it back. Reads no clock."""

from __future__ import annotations

import numpy as np

from inril_core.backoff import wait_s
from inril_core.hardware.cameras.base import BadImage, CameraSource, Frame

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 8.0
"""Between a failure and the next attempt to open: doubled with each failure in a row."""
STABLE_NS = 5_000_000_000
"""A camera that has worked for so long begins with the first wait again."""
SILENT_NS = 3_000_000_000
"""A camera that is open and gives no image for so long is lost; after an unplugging a driver may raise nothing."""


class CameraKeeper:
    """A camera and its state. Whatever the camera raises or returns, no exception leaves this class.

    Called by one thread; the counts may be read by others.

    Args:
        width_px, height_px: least size of an image.
    """

    def __init__(self, source: CameraSource, width_px: int, height_px: int) -> None:
        self.source = source
        self.trouble = ""
        """What is wrong and what is done about it; empty: nothing."""
        self.losses = 0
        """How often it was lost, or could not be opened."""
        self.images = 0
        self.missed = 0
        """Images that the camera counted and that never came."""
        self.refused = 0
        """Images that were left out."""
        self.refusal = ""
        """Why the newest of them was."""
        self._size_px = width_px, height_px
        self._open = False
        self._in_a_row = 0
        self._next_open_ns = self._opened_ns = self._heard_ns = 0
        self._number: int | None = None

    @property
    def ready(self) -> bool:
        """The camera is open."""
        return self._open

    def poll(self, mono_ns: int) -> Frame | None:
        """The next image that can be used; None: none yet. Opens the camera where it is time to."""
        if not self._open and not self._opens(mono_ns):
            return None
        try:
            frame = self._checked(self.source.read())
        except BadImage as error:
            self.refused += 1
            self.refusal = str(error)
            self._heard_ns = mono_ns
            return None
        except Exception as error:  # code of somebody else: whatever it raises, the node goes on
            self._lost(f"{type(error).__name__}: {error}", mono_ns)
            return None
        if frame is None:
            if mono_ns - self._heard_ns >= SILENT_NS:
                self._lost(f"no image for {SILENT_NS / 1e9:g} s; is it still plugged in?", mono_ns)
            return None
        self._count(frame)
        self.trouble, self._heard_ns = "", mono_ns
        if mono_ns - self._opened_ns >= STABLE_NS:
            self._in_a_row = 0
        return frame

    def close(self) -> None:
        """Close the camera."""
        self._open = False
        try:
            self.source.close()
        except Exception as error:  # as in `poll`
            self.trouble = f"it cannot be closed ({type(error).__name__}: {error})"

    def _opens(self, mono_ns: int) -> bool:
        if mono_ns < self._next_open_ns:
            return False
        try:
            self.source.open()
        except Exception as error:  # as in `poll`
            self._lost(f"{type(error).__name__}: {error}", mono_ns)
            return False
        self._open, self._number = True, None
        self._opened_ns = self._heard_ns = mono_ns
        return True

    def _lost(self, what: str, mono_ns: int) -> None:
        again_s = wait_s(self._in_a_row, FIRST_WAIT_S, LONGEST_WAIT_S)
        self._in_a_row += 1
        self.losses += 1
        self._next_open_ns = mono_ns + round(again_s * 1e9)
        self.close()
        self.trouble = f"it is lost ({what}); tried again in {again_s:g} s"

    def _checked(self, frame: Frame | None) -> Frame | None:
        if frame is None:
            return None
        if not isinstance(frame, Frame):
            raise TypeError(f"read() gave {type(frame).__name__}, not Frame")
        pixels = frame.pixels
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            shown = f"{pixels.dtype}{list(pixels.shape)}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
            raise BadImage(f"its pixels are {shown}, not uint8[H, W, 3]; correct the camera's source")
        (height_px, width_px), (least_width_px, least_height_px) = pixels.shape[:2], self._size_px
        if width_px < least_width_px or height_px < least_height_px:
            raise BadImage(
                f"it is {width_px}x{height_px} pixels, the contract takes {least_width_px}x{least_height_px} of it; "
                "set the camera's resolution, or crop_px in the contract"
            )
        depth = frame.depth_mm
        if depth is not None and (depth.dtype != np.uint16 or depth.shape != pixels.shape[:2]):
            raise BadImage(f"its depth is {depth.dtype}{list(depth.shape)}, not uint16{list(pixels.shape[:2])}")
        return frame

    def _count(self, frame: Frame) -> None:
        self.images += 1
        if frame.number is None:
            return
        if self._number is not None and frame.number > self._number + 1:
            self.missed += frame.number - self._number - 1
        self._number = frame.number
