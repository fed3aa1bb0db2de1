"""Pins: a recorder that dies takes steps with it which were on disk, or leaves half a step behind."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.serialization import serialize_message

from inril_core.data import EpisodeEmpty, EpisodeUnreadable, EpisodeWriter, read_episode
from tests.data.synthetic import Synthetic, schemas

MADE = Synthetic(steps=5)


@pytest.fixture(scope="module")
def torn():
    """The raw file's bytes; for each message its end in the file; and last_step_on_disk after it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "episode-0.mcap"
        writer = EpisodeWriter(path, MADE.episode_id, MADE.metadata(), schemas())
        head_bytes = writer.size_bytes
        marks = []
        for topic, message in MADE.messages():
            writer.write(topic, serialize_message(message), 0, 0, getattr(message, "step", None))
            marks.append((writer.size_bytes, topic, getattr(message, "step", None), writer.last_step_on_disk))
            assert path.stat().st_size == writer.size_bytes, "a message is with the kernel when write returns"
        writer.close()
        yield path.read_bytes(), head_bytes, marks


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_every_whole_step_survives_a_cut_anywhere(torn, data):
    content, head_bytes, marks = torn
    cut = data.draw(st.integers(0, len(content)))
    written = [(topic, step, last) for end, topic, step, last in marks if end <= cut]
    observed = {step for topic, step, _ in written if topic == "/observation"}
    executed = {step for topic, step, _ in written if topic == "/executed_action"}
    whole = sum(1 for step in executed if step + 1 in observed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cut.mcap"
        path.write_bytes(content[:cut])
        if not whole:
            with pytest.raises(EpisodeUnreadable if cut < head_bytes else EpisodeEmpty):
                read_episode(path)
            return
        episode = read_episode(path)
    assert episode.steps == whole == written[-1][2] + 1
    np.testing.assert_array_equal(episode.observations, MADE.arrays["observations"][: whole + 1])
    np.testing.assert_array_equal(episode.actions, MADE.arrays["actions"][:whole])
    assert episode.complete == (whole == MADE.steps)


def test_zeros_after_the_last_message_are_a_torn_tail(torn, tmp_path):
    """A file system may leave them after a power cut."""
    content, _, _ = torn
    path = tmp_path / "zeros.mcap"
    path.write_bytes(content + b"\x00" * 5000)
    assert read_episode(path).steps == MADE.steps


def test_a_missing_step_cuts_the_episode_there(tmp_path):
    path = tmp_path / "gap.mcap"
    writer = EpisodeWriter(path, MADE.episode_id, MADE.metadata(), schemas())
    for topic, message in MADE.messages():
        if topic != "/executed_action" or message.step != 3:
            writer.write(topic, serialize_message(message), 0, 0, getattr(message, "step", None))
    assert writer.last_step_on_disk == 2, "what a reader will get"
    episode = read_episode(path)
    assert episode.steps == 3 and not episode.complete


def test_repeated_messages_count_once(tmp_path):
    path = tmp_path / "twice.mcap"
    writer = EpisodeWriter(path, MADE.episode_id, MADE.metadata(), schemas())
    for topic, message in MADE.messages():
        for _ in range(2):
            writer.write(topic, serialize_message(message), 0, 0, getattr(message, "step", None))
    episode = read_episode(path)
    assert episode.steps == MADE.steps and episode.complete
    np.testing.assert_array_equal(episode.actions, MADE.arrays["actions"])


def test_steps_of_another_boot_do_not_continue_an_episode(tmp_path):
    """k counts within a boot of the observation clock; what another boot says belongs to another count."""
    path = tmp_path / "boots.mcap"
    other = Synthetic(steps=5, boot_id="boot-b")
    writer = EpisodeWriter(path, MADE.episode_id, MADE.metadata(), schemas())
    for step in range(6):
        for topic, message in (MADE if step < 3 else other).tick(step):
            writer.write(topic, serialize_message(message), 0, 0, getattr(message, "step", None))
    episode = read_episode(path)
    assert episode.steps == 2 and not episode.complete
