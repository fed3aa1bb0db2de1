"""Pins: images and steps that a recorder which is killed in mid-episode takes with it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy")

from inril_common.convert import byte_array, ns_to_stamp
from inril_common.qos import TICK
from inril_hardware.camera_topics import encode_jpeg
from sensor_msgs.msg import CompressedImage

from inril_core.data import read_episode
from inril_core.data.frames import read_frames
from inril_core.data.schemas import camera_topic
from tests.data.synthetic import CONTRACT, Synthetic
from tests.session.recording_bench import RecordingBench

CAMERAS = ("close", "front", "wrist")
KILLS = 20
STEPS = 8
PER_STEP = 3


class Cameras:
    """Three cameras whose images say which they are."""

    def __init__(self, bench: RecordingBench) -> None:
        self._said = {name: bench.node.create_publisher(CompressedImage, camera_topic(name), TICK) for name in CAMERAS}
        self.sent = 0
        bench.until(lambda: all(p.get_subscription_count() for p in self._said.values()), "the cameras' subscriptions")

    def say(self) -> None:
        """The next image of each camera."""
        for place, publisher in enumerate(self._said.values()):
            message = CompressedImage(format="jpeg")
            message.header.stamp = ns_to_stamp(10**9 + self.sent)
            message.data = byte_array(encode_jpeg(picture(place, self.sent)))
            publisher.publish(message)
        self.sent += 1


def picture(place: int, number: int) -> np.ndarray:
    """uint8[48, 64, 3] of one colour."""
    return np.full((48, 64, 3), (number * 5 % 250, 80 * place, 100), np.uint8)


@pytest.fixture(name="bench")
def recorder(tmp_path: Path) -> Any:
    content = yaml.safe_load(CONTRACT.text)
    content["images"] = [{"name": n, "camera": n, "width_px": 84, "height_px": 84} for n in CAMERAS]
    with RecordingBench(tmp_path / "run", yaml.safe_dump(content)) as bench:
        yield bench


@pytest.mark.timeout(900)
def test_what_was_on_disk_outlives_the_recorder_with_its_images(bench: RecordingBench) -> None:
    """20 kills, each at a random message of an episode. Red: `last_step_on_disk` told before the write."""
    rng = random.Random(5)
    for attempt in range(KILLS):
        bench.start("recorder_node", full_rate="true", real_time_factor=1.0)
        cameras = Cameras(bench)
        made = Synthetic(steps=STEPS, episode_id=f"killed-{attempt}", measured=True)
        bench.publish([("/episode_event", made.begin())])
        bench.until(lambda made=made: bench.statuses and bench.statuses[-1].episode_id == made.episode_id, "its begin")
        sent = [message for step in range(STEPS + 1) for message in made.tick(step)]
        for topic, message in sent[: rng.randrange(8, len(sent))]:
            if topic == "/observation":
                for _ in range(PER_STEP):
                    cameras.say()
            bench.publish([(topic, message)])
        on_disk = bench.on_disk(made.episode_id)
        bench.kill("recorder_node")
        raw = bench.paths.raw / f"{made.episode_id}.mcap"
        _look_at(raw, made, on_disk, cameras.sent)
    bench.start("recorder_node", full_rate="true", real_time_factor=1.0)
    finished = [bench.paths.episodes / f"killed-{attempt}.mcap" for attempt in range(KILLS)]
    bench.until(lambda: not list(bench.paths.raw.glob("*.mcap")), "the episodes that were left")
    assert all(path.exists() for path in finished if not path.with_suffix(".unreadable").exists())


def _look_at(path: Path, made: Synthetic, on_disk: int, sent: int) -> None:
    if on_disk >= 0:
        episode = read_episode(path)
        assert episode.steps > on_disk, "every step that was told is there"
        np.testing.assert_array_equal(episode.actions, made.arrays["actions"][: episode.steps])
    for place, camera in enumerate(CAMERAS):
        frames = read_frames(path, camera)
        numbers = [int(stamp) - 10**9 for stamp in frames.stamps_ns]
        assert numbers == list(range(len(numbers))) and len(numbers) <= sent, "in order, without a gap"
        for number, pixels in zip(numbers, frames.pixels(), strict=True):
            np.testing.assert_allclose(pixels[20, 20], picture(place, number)[20, 20], atol=6)
    assert on_disk < 0 or len(read_frames(path, CAMERAS[0])) > 0
