"""Pins: a full disk that costs steps already written, or an episode begun that cannot fit."""

import errno

import numpy as np
import pytest
from rclpy.serialization import serialize_message

from inril_core.data import EpisodeWriter, RecordingFailed, read_episode
from inril_core.data.episode_router import EpisodeRouter, RouterSettings
from inril_core.data.episode_writer import AppendFile, estimate_episode_bytes
from tests.data.synthetic import CONTRACT, Synthetic, schemas


class SmallDisk(AppendFile):
    """A disk with room for so many bytes, which like a real one takes a part of what does not fit."""

    def __init__(self, path, room_bytes):
        super().__init__(path)
        self.room_bytes = room_bytes

    def write(self, data):
        room = self.room_bytes - self.tell()
        if room < len(data):
            super().write(data[: max(0, room)])
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


HEAD_BYTES = 29_000
"""Not less than a file's definitions and metadata take."""


def test_a_disk_too_full_for_the_first_byte_leaves_no_file(tmp_path):
    with pytest.raises(RecordingFailed, match="No space left"):
        EpisodeWriter(tmp_path / "e.mcap", "e", Synthetic().metadata(), schemas(), lambda path: SmallDisk(path, 999))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("room_bytes", range(HEAD_BYTES, HEAD_BYTES + 8_000, 613))
def test_what_was_written_before_the_disk_was_full_is_intact(tmp_path, room_bytes):
    made, path = Synthetic(steps=9), tmp_path / "episode-0.mcap"
    writer = EpisodeWriter(path, "episode-0", made.metadata(), schemas(), lambda path: SmallDisk(path, room_bytes))
    with pytest.raises(RecordingFailed, match=r"No space left.*Free space"):
        made.write(writer)
    assert path.stat().st_size == writer.size_bytes, "cut back to the last whole message"
    steps = writer.last_step_on_disk + 1
    if steps:
        np.testing.assert_array_equal(read_episode(path).actions, made.arrays["actions"][:steps])


def recorder(folder, free_bytes, needed_bytes=lambda purpose, steps: 1000):
    """A recorder on a disk with `free_bytes` left."""
    made = Synthetic()
    return EpisodeRouter(
        folder,
        schemas(),
        RouterSettings(min_free_bytes=500),
        lambda event, purpose: made.metadata(),
        needed_bytes,
        free_bytes=lambda path: free_bytes,
    )


def test_no_episode_starts_that_might_not_fit(tmp_path):
    full = recorder(tmp_path, 1499)
    for topic, message in Synthetic().messages():
        if topic == "/episode_event" and message.event == message.END:
            assert "free" in full.refusal and "run_dir" in full.refusal
        full.handle(topic, serialize_message(message), 0, 0)
    assert not full.recording and list(tmp_path.iterdir()) == []
    assert full.refusal == "", "the episode that was refused is over"


def test_one_byte_more_is_enough(tmp_path):
    recording = recorder(tmp_path, 1500)
    recording.handle("/episode_event", serialize_message(Synthetic().begin()), 0, 0)
    assert recording.recording and recording.refusal == ""


def test_a_disk_that_fills_ends_the_episode_cleanly(tmp_path, monkeypatch):
    made = Synthetic(steps=9)
    monkeypatch.setattr(EpisodeWriter.__init__, "__defaults__", (lambda path: SmallDisk(path, HEAD_BYTES + 3_000), {}))
    filling = recorder(tmp_path, 10**9)
    for topic, message in made.messages():
        if topic == "/episode_event" and message.event == message.END:
            assert "No space left" in filling.refusal
        filling.handle(topic, serialize_message(message), 0, 0)
    (path,) = filling.poll(0)
    episode = read_episode(path)
    assert 0 < episode.steps < 9 and not episode.complete
    assert episode.steps == filling.last_step_on_disk + 1


def test_the_estimate_is_not_below_what_an_episode_takes(tmp_path):
    for purpose, images in (("train", False), ("eval", True)):
        made = Synthetic(steps=20, purpose=purpose, images=images, measured=True, episode_id=purpose)
        assert estimate_episode_bytes(CONTRACT, purpose, 20) > 2 * made.record(tmp_path).stat().st_size
