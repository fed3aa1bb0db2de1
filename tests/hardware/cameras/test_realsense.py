"""Pins: the real pyrealsense2 pipeline through record, playback, the end of the file and its return."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from inril_core.errors import ConfigError
from inril_core.hardware.cameras import realsense
from inril_core.hardware.cameras.base import CameraLost, Frame
from inril_core.hardware.cameras.file import Config as FileConfig
from inril_core.hardware.cameras.keeper import CameraKeeper
from inril_core.hardware.cameras.realsense import Config, RealSense

pytest.importorskip("pyrealsense2")

from tests.hardware.cameras.recordings import HEIGHT, SERIAL, WIDTH, brightness, depth_mm, record

IMAGES = 12


@pytest.fixture(scope="module", name="recording")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("realsense") / "shot.db3", IMAGES, skipped=(5, 6))


def played(keeper: CameraKeeper) -> list[Frame]:
    """Everything until the recording has ended; its own time passes, not the machine's."""
    frames: list[Frame] = []
    for second in range(200):
        frame = keeper.poll(second * 1000)
        if frame is not None:
            frames.append(frame)
        if keeper.losses:
            return frames
    raise AssertionError(f"the recording does not end after {len(frames)} images")


def test_a_recording_ends_like_an_unplugged_camera_and_comes_back(recording: Path) -> None:
    for _ in range(3):  # it plays in its own time: a machine that stalls for 0.4 s misses all but one
        keeper = CameraKeeper(FileConfig(path=recording, depth=True).build("front", WIDTH, HEIGHT, None), WIDTH, HEIGHT)
        frames = played(keeper)
        if len(frames) > 1:
            break
        keeper.close()
    assert "has ended" in keeper.trouble and not keeper.ready and keeper.source.serial == SERIAL
    numbers = [frame.number for frame in frames]
    assert numbers == sorted(set(numbers)) and len(numbers) > 1, "each image once, in order"
    for frame in frames:
        assert frame.number is not None and (frame.pixels == brightness(frame.number)).all()
        if frame.depth_mm is None:
            continue  # beside the gap librealsense gives the depth of another time, which is left out
        assert (frame.depth_mm[frame.depth_mm > 0] - depth_mm(frame.number) <= 1).all() and frame.depth_mm.any()
    assert sum(frame.depth_mm is not None for frame in frames) >= len(frames) - 2
    assert not {5, 6} & set(numbers), "they were never delivered"
    assert keeper.missed == numbers[-1] - numbers[0] + 1 - len(numbers)
    assert keeper.poll(10**12) is not None or keeper.poll(10**12) is not None, "and it is there again"
    assert not keeper.trouble
    keeper.close()
    keeper.close()


def test_the_cameras_clock_becomes_the_machines(recording: Path) -> None:
    """Images are 33.3 ms apart on the camera's clock; arrivals here are a second apart by a clock of the test."""
    camera = RealSense(realsense.library(), Config(), recording, now_ns=iter(range(10**18, 2 * 10**18, 10**9)).__next__)
    frames = played(CameraKeeper(camera, 8, 8))
    for before, after in zip(frames, frames[1:], strict=False):
        assert before.number is not None and after.number is not None and before.stamp_ns and after.stamp_ns
        expected_ns = (after.number - before.number) * 1e9 / 30.0
        assert abs(after.stamp_ns - before.stamp_ns - expected_ns) < 2000


def test_a_looped_recording_never_ends(recording: Path) -> None:
    keeper = CameraKeeper(FileConfig(path=recording, loop=True).build("front", WIDTH, HEIGHT, None), WIDTH, HEIGHT)
    numbers: list[int | None] = []
    while len(numbers) < 3 * IMAGES:
        frame = keeper.poll(0)
        assert not keeper.trouble
        if frame is not None:
            numbers.append(frame.number)
    keeper.close()
    assert numbers != sorted(numbers, key=lambda n: n or 0)


def test_an_encoding_that_cannot_be_read_is_named_and_ends_nothing(tmp_path: Path) -> None:
    path = record(tmp_path / "uyvy.db3", 6, pixels="uyvy")
    keeper = CameraKeeper(FileConfig(path=path).build("front", WIDTH, HEIGHT, None), WIDTH, HEIGHT)
    assert not played(keeper)
    assert keeper.refused and "its colour is uyvy" in keeper.refusal


@pytest.mark.parametrize("content", [None, b"", b"no recording"])
def test_a_file_that_is_none_is_a_lost_camera(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "bad.db3"
    if content is not None:
        path.write_bytes(content)
    keeper = CameraKeeper(FileConfig(path=path).build("front", 8, 8, None), 8, 8)
    assert keeper.poll(0) is None and "bad.db3" in keeper.trouble and "CameraLost" in keeper.trouble


class _Device:
    def __init__(self, serial: str) -> None:
        self.serial = serial

    def supports(self, what: str) -> bool:
        return True

    def get_info(self, what: str) -> str:
        return self.serial if what == "serial_number" else "D435"


class _Rs:
    """The library where it lists devices; everything else is the real one."""

    def __init__(self, serials: list[str]) -> None:
        self.camera_info = SimpleNamespace(serial_number="serial_number", name="name")
        self._serials = serials

    def context(self) -> Any:
        return SimpleNamespace(query_devices=lambda: [_Device(serial) for serial in self._serials])

    def __getattr__(self, name: str) -> Any:
        return getattr(realsense.library(), name)


@pytest.mark.parametrize(
    ("serials", "wanted", "reason"),
    [
        ([], "", "no RealSense is plugged in"),
        ([], "12", "serial number 12 is plugged in; there are: none"),
        (["34", "56"], "12", r"there are: 34 \(D435\), 56 \(D435\)"),
        (["34", "56"], "", "several RealSense.*34.*56.*choose one with `serial`"),
        (["34"], "34", "RealSense 34 with 640x480 at 30 Hz cannot be started"),
    ],
)
def test_who_is_not_there_is_named_with_those_that_are(serials: list[str], wanted: str, reason: str) -> None:
    with pytest.raises(CameraLost, match=reason):
        RealSense(_Rs(serials), Config(serial=wanted)).open()


def test_a_missing_library_is_a_setting_to_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyrealsense2", None)
    with pytest.raises(ConfigError, match=r"pip install .*\[realsense\]"):
        Config().build("front", 8, 8, None)


def test_depth_in_other_units_becomes_millimetres() -> None:
    camera = RealSense(realsense.library(), Config())
    camera._depth_mm = 0.1
    raw = np.array([[0, 5, 14, 65535]], np.uint16)
    frame = SimpleNamespace(get_data=lambda: raw)
    assert camera._millimetres(frame).tolist() == [[0, 0, 1, 6554]]
