"""Pins: a camera that is unplugged ends the node, is asked again without a pause, or loses images unseen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from inril_core.hardware.cameras.base import BadImage, CameraLost, CameraSource, Frame
from inril_core.hardware.cameras.keeper import SILENT_NS, CameraKeeper

S = 1_000_000_000


class Scripted(CameraSource):
    """Does what the test says."""

    def __init__(self) -> None:
        self.opened = self.closed = 0
        self.on_open: Callable[[], Any] = lambda: None
        self.on_read: Callable[[], Any] = lambda: None

    def open(self) -> None:
        """See `CameraSource`."""
        self.opened += 1
        self.on_open()

    def read(self) -> Frame | None:
        """See `CameraSource`."""
        return self.on_read()

    def close(self) -> None:
        """See `CameraSource`."""
        self.closed += 1


def image(number: int | None = None, height: int = 8, width: int = 8) -> Frame:
    return Frame(np.zeros((height, width, 3), np.uint8), 1, number)


def raising(error: Exception) -> Callable[[], Any]:
    def fail() -> Any:
        raise error

    return fail


@pytest.fixture(name="made")
def scripted() -> tuple[Scripted, CameraKeeper]:
    source = Scripted()
    return source, CameraKeeper(source, 8, 8)


def test_a_lost_camera_is_closed_and_opened_again_with_growing_waits(made: tuple[Scripted, CameraKeeper]) -> None:
    source, keeper = made
    source.on_read = lambda: image()
    assert keeper.poll(0) is not None and keeper.ready
    source.on_read, source.on_open = raising(OSError("no such device")), raising(CameraLost("cable"))
    assert keeper.poll(1 * S) is None and not keeper.ready and source.closed == 1
    assert keeper.trouble == "it is lost (OSError: no such device); tried again in 0.5 s"
    tried = []
    for tenth in range(11, 400):
        before = source.opened
        keeper.poll(tenth * S // 10)
        if source.opened > before:
            tried.append(tenth)
    assert np.diff(tried).tolist()[:4] == [10, 20, 40, 80] and np.diff(tried).max() == 80
    assert "CameraLost: cable" in keeper.trouble
    source.on_open, source.on_read = lambda: None, lambda: image()
    assert keeper.poll(60 * S) is not None and not keeper.trouble


def test_silence_is_a_loss(made: tuple[Scripted, CameraKeeper]) -> None:
    source, keeper = made
    assert keeper.poll(0) is None and keeper.ready
    keeper.poll(SILENT_NS - 1)
    assert keeper.ready
    keeper.poll(SILENT_NS)
    assert not keeper.ready and "plugged in" in keeper.trouble


@pytest.mark.parametrize(
    ("read", "reason"),
    [
        (lambda: image(height=7), "8x7 pixels, the contract takes 8x8"),
        (lambda: Frame(np.zeros((8, 8), np.uint8), 1), r"uint8\[8, 8\], not uint8\[H, W, 3\]"),
        (lambda: Frame(np.zeros((8, 8, 3)), 1), "float64"),
        (lambda: Frame([1], 1), "its pixels are list"),
        (lambda: image()._replace(depth_mm=np.zeros((4, 4), np.uint16)), "its depth is uint16"),
        (raising(BadImage("its colour is uyvy")), "uyvy"),
    ],
)
def test_an_image_that_cannot_be_used_is_left_out_by_name(
    made: tuple[Scripted, CameraKeeper], read: Callable[[], Any], reason: str
) -> None:
    source, keeper = made
    source.on_read = read
    for tenth in range(100):  # the camera is there, so it is not opened again and again
        assert keeper.poll(tenth * S // 10) is None
    assert keeper.refused == 100 and source.opened == 1 and not keeper.trouble
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(keeper.refusal)


def test_what_is_no_frame_is_a_loss_and_no_exception(made: tuple[Scripted, CameraKeeper]) -> None:
    source, keeper = made
    source.on_read = lambda: "picture"
    assert keeper.poll(0) is None and "str, not Frame" in keeper.trouble


def test_gaps_in_the_cameras_count_are_counted_and_a_restart_is_none(made: tuple[Scripted, CameraKeeper]) -> None:
    source, keeper = made
    for at, number in enumerate([5, 6, 9, 9, 10]):
        source.on_read = lambda number=number: image(number)
        keeper.poll(at)
    assert (keeper.images, keeper.missed) == (5, 2)
    source.on_read = raising(CameraLost("gone"))
    keeper.poll(10)
    source.on_read = lambda: image(100)
    keeper.poll(10 * S)
    assert keeper.missed == 2, "another count after the camera came back"
