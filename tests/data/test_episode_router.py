"""Pins: messages lost, or filed under another episode, because topics do not keep each other's order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inril_msgs.msg import EpisodeEvent
from rclpy.serialization import serialize_message

from inril_core.data import EpisodeIndex, EpisodeStore, read_episode
from inril_core.data.container import read_recording
from inril_core.data.episode_router import WAITING_MESSAGES, EpisodeRouter, RouterSettings
from inril_core.data.finisher import Finisher
from inril_core.data.reader import load_file
from inril_core.data.schemas import EVENT_DISCARD
from tests.data.synthetic import Synthetic, schemas

SECOND = 1_000_000_000
LONG = 10**6 * SECOND


def recorder(folder, known=lambda episode_id: False, **settings):
    """A recorder that describes every episode alike."""
    return EpisodeRouter(
        folder,
        schemas(),
        RouterSettings(min_free_bytes=0, **settings),
        lambda event, purpose: Synthetic(purpose=purpose).metadata(),
        known=known,
    )


def feed(target, messages, now_ns=0):
    """Hand over messages as DDS would."""
    for topic, message in messages:
        target.handle(topic, serialize_message(message), 0, now_ns)


def interleaved(data, messages):
    """The messages in some order that keeps each topic's own."""
    queues = {}
    for topic, message in messages:
        queues.setdefault(topic, []).append((topic, message))
    while queues:
        topic = data.draw(st.sampled_from(sorted(queues)))
        yield queues[topic].pop(0)
        if not queues[topic]:
            del queues[topic]


def kinds(path):
    """How many messages of each topic a file has."""
    recording = read_recording(load_file(path), 1 << 30)
    topics = [recording.channels[message.channel_id].topic for message in recording.messages]
    return {topic: topics.count(topic) for topic in set(topics)}


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_order_between_topics_gives_the_same_episode(tmp_path_factory, data):
    made, folder = Synthetic(steps=3, measured=True), tmp_path_factory.mktemp("order")
    recording = recorder(folder)
    feed(recording, interleaved(data, made.messages()))
    (path,) = recording.poll(LONG)
    episode = read_episode(path, measured=True)
    assert episode.complete and episode.succeeded
    for name in ("observations", "actions", "raw", "qpos"):
        np.testing.assert_array_equal(getattr(episode, name), made.arrays[name])
    np.testing.assert_array_equal(episode.measured.joint_torque_nm, made.arrays["joint_torque_nm"])
    assert kinds(path) == {
        "/episode_event": 2,
        "/observation": 4,
        "/cell_truth": 4,
        "/robot_state": 4,
        "/part_poses": 4,
        "/policy_action": 3,
        "/teleop_action": 3,
        "/executed_action": 3,
        "/target": 3,
    }


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_episodes_that_overlap_are_kept_apart(tmp_path_factory, data):
    """In lockstep the next episode begins before the last messages of the one before have arrived."""
    folder = tmp_path_factory.mktemp("two")
    first, second = Synthetic(steps=2), Synthetic(steps=2, episode_id="episode-1", seed=9, first_k=43)
    recording = recorder(folder)
    feed(recording, interleaved(data, [*first.messages(), *second.messages()]))
    paths = {path.stem: path for path in recording.poll(LONG)}
    for made in (first, second):
        episode = read_episode(paths[made.episode_id])
        assert episode.complete
        np.testing.assert_array_equal(episode.raw, made.arrays["raw"])
        np.testing.assert_array_equal(episode.qpos, made.arrays["qpos"])
        assert kinds(paths[made.episode_id])["/teleop_action"] == 2


def test_an_episode_is_closed_as_soon_as_everybody_answered(tmp_path):
    recording = recorder(tmp_path)
    feed(recording, Synthetic().messages(), now_ns=SECOND)
    assert len(recording.poll(SECOND)) == 1 and not recording.recording


@pytest.mark.parametrize("missing", ["/policy_action", "/teleop_action", "/target"])
def test_an_answer_that_is_on_its_way_is_waited_for(tmp_path, missing):
    messages = list(Synthetic().messages())
    final = max(number for number, (topic, _) in enumerate(messages) if topic == missing)
    late = messages.pop(final)
    recording = recorder(tmp_path, linger_s=0.05)
    feed(recording, messages, now_ns=SECOND)
    assert recording.poll(SECOND + 49_000_000) == []
    feed(recording, [late], now_ns=SECOND + 49_000_000)
    assert len(recording.poll(SECOND + 49_000_000)) == 1


def test_an_answer_that_never_comes_is_waited_for_briefly(tmp_path):
    recording = recorder(tmp_path, linger_s=0.05)
    messages = [m for m in Synthetic().messages() if m[0] != "/policy_action" or m[1].k != 42]
    feed(recording, messages, now_ns=SECOND)
    assert len(recording.poll(SECOND + 50_000_000)) == 1


@pytest.mark.parametrize("lost", ["/episode_event", "/observation"])
def test_an_end_that_is_missing_does_not_keep_it_open(tmp_path, lost):
    made = Synthetic()
    messages = list(made.messages())
    final = max(number for number, (topic, _) in enumerate(messages) if topic == lost)
    recording = recorder(tmp_path, close_timeout_s=2.0)
    feed(recording, messages[:final] + messages[final + 1 :], now_ns=SECOND)
    assert recording.poll(3 * SECOND - 1) == []
    (path,) = recording.poll(3 * SECOND)
    assert read_episode(path).steps == (made.steps if lost == "/episode_event" else made.steps - 1)


def test_a_next_episode_ends_the_one_before(tmp_path):
    recording = recorder(tmp_path, close_timeout_s=2.0)
    feed(recording, list(Synthetic().messages())[:20])
    feed(recording, Synthetic(episode_id="episode-1").messages(), now_ns=SECOND)
    assert [path.stem for path in recording.poll(3 * SECOND)] == ["episode-0", "episode-1"]


def test_silence_ends_an_episode(tmp_path):
    recording = recorder(tmp_path, idle_timeout_s=30.0)
    feed(recording, list(Synthetic().messages())[:20], now_ns=SECOND)
    assert recording.poll(31 * SECOND - 1) == []
    assert len(recording.poll(31 * SECOND)) == 1


def test_only_the_purposes_asked_for_are_recorded(tmp_path):
    recording = recorder(tmp_path, purposes=("demo",))
    feed(recording, Synthetic(purpose="train").messages())
    feed(recording, Synthetic(purpose="demo", episode_id="episode-1").messages())
    assert [path.stem for path in recording.poll(LONG)] == ["episode-1"]


def test_an_id_that_was_used_before_is_refused(tmp_path):
    recording = recorder(tmp_path, known=lambda episode_id: episode_id == "episode-0")
    feed(recording, [("/episode_event", Synthetic().begin())])
    assert "episode-0 was recorded before" in recording.refusal and not recording.recording
    feed(recording, [("/episode_event", Synthetic(episode_id="episode-1").begin())])
    assert recording.refusal == "" and recording.recording


@pytest.mark.parametrize("episode_id", ["", "../escape", "a/b", ".hidden", "x" * 129, "my demos", "läuft", "_old"])
def test_an_id_that_is_no_file_name_is_refused_until_another_comes(tmp_path, episode_id):
    """The next attempt would have such an id too: who waits for the recorder waits, and tries no more."""
    recording, made = recorder(tmp_path, idle_timeout_s=30.0), Synthetic(episode_id=episode_id)
    feed(recording, [("/episode_event", made.begin())])
    assert "episode_id" in recording.refusal and "run_dir" in recording.refusal and list(tmp_path.iterdir()) == []
    feed(recording, [("/episode_event", made.end())])
    recording.poll(100 * SECOND)
    assert recording.refusal, "the end of the episode, and time, change nothing"
    feed(recording, [("/episode_event", Synthetic().begin())])
    assert not recording.refusal and recording.recording


def test_an_idle_cell_fills_no_memory(tmp_path):
    """What belongs to no episode waits, bounded, and is counted when it is dropped."""
    recording = recorder(tmp_path)
    truth = next(Synthetic(episode_id="never-begun").tick(0))
    feed(recording, [truth] * (WAITING_MESSAGES + 100))
    assert recording.unrecorded == 100
    feed(recording, Synthetic().messages())
    assert len(recording.poll(LONG)) == 1


def test_labels_after_the_end_are_handed_on(tmp_path):
    made = Synthetic(label=EpisodeEvent.LABEL_UNKNOWN)
    recording = recorder(tmp_path, known=lambda episode_id: episode_id == "of-an-earlier-process")
    feed(recording, made.messages())
    recording.poll(LONG)
    other = Synthetic(episode_id="of-an-earlier-process")
    feed(recording, [("/episode_event", s.end(2, EpisodeEvent.LABEL)) for s in (made, other)])
    assert [(label.episode_id, label.success) for label in recording.words] == [
        ("episode-0", False),
        ("of-an-earlier-process", False),
    ]


def test_a_label_before_the_end_goes_into_the_file(tmp_path):
    made = Synthetic(label=EpisodeEvent.LABEL_UNKNOWN, succeeds=False)
    recording = recorder(tmp_path)
    messages = list(made.messages())
    feed(recording, [*messages[:-1], ("/episode_event", made.end(2, EpisodeEvent.LABEL)), messages[-1]])
    assert read_episode(recording.poll(LONG)[0]).success is False


def test_progress_is_what_is_on_disk(tmp_path):
    made, recording = Synthetic(steps=4), recorder(tmp_path)
    seen = []
    for topic, message in made.messages():
        feed(recording, [(topic, message)])
        if not seen or seen[-1] != recording.last_step_on_disk:
            seen.append(recording.last_step_on_disk)
    assert seen == [-1, 0, 1, 2, 3], "readable back whole"
    assert recording.episode_id == "episode-0"


def test_bytes_that_are_no_message_are_refused(tmp_path):
    with pytest.raises(ValueError, match="/observation"):
        recorder(tmp_path).handle("/observation", b"\x00\x01", 0, 0)


@pytest.mark.parametrize("said", ["while it runs", "after the end"])
def test_a_discarded_episode_is_listed_and_dropped(tmp_path, said):
    """Pins: a learner that learns from what a person took out."""
    made = Synthetic(label=EpisodeEvent.LABEL_UNKNOWN, succeeds=False)
    raw, episodes = tmp_path / "raw", tmp_path / "episodes"
    for folder in (raw, episodes):
        folder.mkdir()
    recording, index = recorder(raw), EpisodeIndex(episodes)
    finisher = Finisher(raw, episodes, index)
    messages, discard = list(made.messages()), ("/episode_event", made.end(0, EVENT_DISCARD))
    late = said == "after the end"
    feed(recording, messages if late else [*messages[:-1], discard, messages[-1]])
    finisher.submit(*recording.poll(LONG))
    if late:
        feed(recording, [discard])
        finisher.submit(recording.words.popleft())
    assert not recording.words and finisher.stop(60.0)
    (entry,) = index.entries
    assert index.dropped(entry.episode_id) and (episodes / f"{entry.episode_id}.mcap").exists()
    store = EpisodeStore(episodes, label_timeout_s=10.0)
    assert store.poll(0) == [] and store.listed(0, 10) == []
    assert store.total == 1, "nobody says any more how it went: those after it do not wait for that"
