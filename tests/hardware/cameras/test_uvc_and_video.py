"""Pins: OpenCV's and PyAV's ways of saying that nothing comes any more. No UVC camera is at hand: files are played
through the same class, whose device part (serial number) is shown on a copy of the system's folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from inril_core.errors import ConfigError
from inril_core.hardware.cameras.base import CameraLost
from inril_core.hardware.cameras.file import Config as FileConfig
from inril_core.hardware.cameras.file import Video
from inril_core.hardware.cameras.keeper import CameraKeeper
from inril_core.hardware.cameras.overlay import blended
from inril_core.hardware.cameras.uvc import Config as UvcConfig
from inril_core.hardware.cameras.uvc import serial_of
from tests.hardware.cameras.recordings import HEIGHT, WIDTH, video

IMAGES = 9


@pytest.fixture(scope="module", name="film")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return video(tmp_path_factory.mktemp("film") / "film.mp4", IMAGES)


def test_opencv_gives_every_image_then_is_lost_and_found(film: Path) -> None:
    keeper = CameraKeeper(UvcConfig(device=str(film)).build("front", WIDTH, HEIGHT, None), WIDTH, HEIGHT)
    frames = [keeper.poll(0) for _ in range(IMAGES + 1)]
    levels = [int(frame.pixels.mean()) for frame in frames[:IMAGES] if frame is not None]
    np.testing.assert_allclose(levels, [10 + 8 * n for n in range(IMAGES)], atol=5)
    assert frames[IMAGES] is None and "gives no image" in keeper.trouble
    assert keeper.poll(10**12) is not None and not keeper.trouble
    keeper.close()


@pytest.mark.parametrize("device", [97, "/dev/video97"])
def test_a_device_that_is_not_there_is_named_with_those_that_are(device: int | str) -> None:
    with pytest.raises(CameraLost, match="/dev/video97 is not there; there are"):
        UvcConfig(device=device).build("front", 8, 8, None).open()


def test_the_serial_number_is_that_of_the_usb_device(tmp_path: Path) -> None:
    usb = tmp_path / "devices" / "1-2"
    (usb / "1-2:1.0").mkdir(parents=True)
    (usb / "serial").write_text("A12B\n")
    (tmp_path / "class" / "video3").mkdir(parents=True)
    (tmp_path / "class" / "video3" / "device").symlink_to(usb / "1-2:1.0")
    assert serial_of("video3", tmp_path / "class") == "A12B"
    assert serial_of("video4", tmp_path / "class") == ""


def test_a_video_is_played_at_its_own_rate_and_ends(film: Path) -> None:
    clock = [100.0]

    def sleep(time_s: float) -> None:
        clock[0] += time_s

    camera = Video(film, now_ns=lambda: round(clock[0] * 1e9), mono_s=lambda: clock[0], sleep=sleep)
    camera.open()
    stamps, numbers = [], []
    with pytest.raises(CameraLost, match="has ended"):
        while True:
            frame = camera.read()
            assert frame is not None and frame.pixels.shape == (HEIGHT, WIDTH, 3)
            stamps.append(frame.stamp_ns)
            numbers.append(frame.number)
    np.testing.assert_allclose(np.diff(stamps), 1e9 / 30.0, atol=1000)
    assert numbers == list(range(1, IMAGES + 1))
    camera.close()
    looped = FileConfig(path=film, loop=True).build("front", 8, 8, None)
    looped.open()
    assert len([f for f in (looped.read() for _ in range(2 * IMAGES + 1)) if f is not None]) > IMAGES
    looped.close()


@pytest.mark.parametrize("content", [None, b"", b"not a film" * 100])
def test_a_file_that_is_no_video_is_a_lost_camera(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "bad.mp4"
    if content is not None:
        path.write_bytes(content)
    for source in (
        FileConfig(path=path).build("front", 8, 8, None),
        UvcConfig(device=str(path)).build("f", 8, 8, None),
    ):
        with pytest.raises(CameraLost, match="bad.mp4"):
            source.open()
        source.close()


def test_the_reference_lies_over_the_live_image() -> None:
    live, reference = np.full((20, 40, 3), 100, np.uint8), np.full((10, 20, 3), 200, np.uint8)
    assert (blended(live, reference, 0.25) == 125).all()
    assert (blended(live, reference, 0.0) == live).all()
    with pytest.raises(ConfigError, match="other proportions"):
        blended(live, np.zeros((40, 40, 3), np.uint8))
    with pytest.raises(ConfigError, match="share"):
        blended(live, reference, 1.5)
