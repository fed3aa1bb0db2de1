"""Pins: images and steps that a recorder which is killed in mid-episode takes with it."""

from __future__ import annotations

import random
from pathlib import Path

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


def three_cameras() -> str:
    """The contract's YAML."""
    content = yaml.safe_load(CONTRACT.text)
    content["images"] = [{"name": n, "camera": n, "width_px": 84, "height_px": 84} for n in CAMERAS]
    return yaml.safe_dump(content)


@pytest.mark.timeout(1200)
def test_what_was_on_disk_outlives_the_recorder_with_its_images(tmp_path: Path) -> None:
    """20 kills, each at a random message of an episode. Red: `last_step_on_disk` told before the write."""
    rng, contract = random.Random(5), three_cameras()
    for attempt in range(KILLS):
        made = Synthetic(steps=STEPS, episode_id=f"killed-{attempt}", measured=True)
        with RecordingBench(tmp_path / "run", contract) as bench:  # a domain of its own: nobody hears who is dead
            on_disk, sent = _killed(bench, made, rng)
        _look_at(bench.paths.raw / f"{made.episode_id}.mcap", made, on_disk, sent)


def _killed(bench: RecordingBench, made: Synthetic, rng: random.Random) -> tuple[int, int]:
    """The last step that a recorder told before its death, and the images that each camera had sent."""
    messages = [message for step in range(STEPS + 1) for message in made.tick(step)]
    bench.start("recorder_node", full_rate="true", real_time_factor=1.0)
    cameras = Cameras(bench)
    bench.publish([("/episode_event", made.begin())])
    bench.until(lambda: bench.statuses and bench.statuses[-1].episode_id == made.episode_id, "its begin")
    for topic, message in messages[: rng.randrange(8, len(messages))]:
        if topic == "/observation":
            for _ in range(PER_STEP):
                cameras.say()
        bench.publish([(topic, message)])
    on_disk = bench.on_disk(made.episode_id)
    bench.kill("recorder_node")
    return on_disk, cameras.sent


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
