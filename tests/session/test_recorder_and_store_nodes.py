"""Pins: an episode that is lost, doubled or changed on its way through the recorder, the store and DDS."""

import signal

import numpy as np
import pytest
from inril_msgs.msg import EpisodeEvent, RecorderStatus

from inril_core.data import read_episode
from tests.data.synthetic import Synthetic
from tests.session.recording_bench import RecordingBench


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """One recorder and one store for all tests of this file, which use episodes of their own."""
    with RecordingBench(tmp_path_factory.mktemp("recording") / "run") as bench:
        bench.start("recorder_node", record_purposes="[train, eval]")
        bench.start("store_node", label_timeout_s=0.5)
        yield bench


def test_an_episode_is_pulled_as_it_was_published(bench, tmp_path):
    made = Synthetic(steps=30, purpose="eval", episode_id="whole", images=True, measured=True, human_from=20)
    bench.record(made)
    ready = bench.announced("whole")
    assert (ready.steps, ready.complete, ready.label) == (30, True, EpisodeEvent.LABEL_SUCCESS)
    episode = read_episode(bench.pull(ready, tmp_path / "pulled.mcap"), measured=True)
    assert episode.sha256 == bytes(ready.sha256).hex()
    for name in ("observations", "actions", "proposed", "raw", "log_prob", "qpos"):
        np.testing.assert_array_equal(getattr(episode, name), made.arrays[name], err_msg=name)
    np.testing.assert_array_equal(episode.images["front"], made.arrays["images"])
    np.testing.assert_array_equal(episode.measured.joint_torque_nm, made.arrays["joint_torque_nm"])
    assert [e.episode_id for e in bench.listed()].count("whole") == 1
    bench.until(lambda: bench.statuses[-1].state == RecorderStatus.IDLE, "the recorder to be idle")
    assert bench.statuses[-1].episodes_on_disk == len(bench.listed())


def test_a_person_may_label_later(bench):
    made = Synthetic(steps=2, episode_id="unlabelled", label=EpisodeEvent.LABEL_UNKNOWN)
    messages = [m for m in made.messages() if m[0] != "/cell_truth"]
    outcome = next(m for t, m in messages if t == "/observation" and m.last).outcome
    outcome.terminated, outcome.truncated, outcome.source = False, True, "operator"
    bench.publish(messages)
    assert bench.announced("unlabelled").label == EpisodeEvent.LABEL_UNKNOWN, "unlabelled is not failure"
    bench.publish([("/episode_event", made.end(EpisodeEvent.LABEL_FAILURE, EpisodeEvent.LABEL))])
    bench.until(lambda: bench.ready[-1].label == EpisodeEvent.LABEL_FAILURE, "the label")
    assert bench.ready[-1].episode_id == "unlabelled"


def test_other_purposes_and_used_ids_are_not_recorded(bench):
    bench.record(Synthetic(steps=2, episode_id="used"))
    bench.announced("used")
    bench.publish([("/episode_event", Synthetic(purpose="demo", episode_id="demo").begin())])
    bench.publish([("/episode_event", Synthetic(steps=2, episode_id="used", seed=99).begin())])
    refused = bench.until(lambda: bench.statuses[-1].state == RecorderStatus.REFUSING and bench.statuses[-1], "refusal")
    assert "used was recorded before" in refused.reason
    bench.record(Synthetic(steps=2, episode_id="next"))
    bench.announced("next")
    names = [e.episode_id for e in bench.listed()]
    assert names.count("used") == 1 and "demo" not in names


def test_an_id_that_names_no_file_is_refused_once_and_for_all(bench):
    bad = Synthetic(steps=2, episode_id="my demos/0")
    bench.publish([("/episode_event", bad.begin())])
    refused = bench.until(lambda: bench.statuses[-1].state == RecorderStatus.REFUSING and bench.statuses[-1], "refusal")
    assert "'my demos/0'" in refused.reason and "run_dir" in refused.reason
    bench.publish([("/episode_event", bad.end())])
    heard = len(bench.statuses)
    bench.until(lambda: len(bench.statuses) > heard + 2, "later statuses")
    assert bench.statuses[-1].state == RecorderStatus.REFUSING, "who tried again would be refused again"
    bench.record(Synthetic(steps=2, episode_id="after-my-demos"))
    assert bench.announced("after-my-demos").complete


@pytest.mark.parametrize("topic", ["/observation", "/robot_state", "/episode_event"])
def test_bytes_that_are_no_message_end_nothing(bench, topic):
    bench.publish_raw(topic, b"\x00\x01\x00\x00\xff")
    bench.record(Synthetic(steps=2, episode_id=f"after-garbage-on{topic.replace('/', '-')}"))
    assert bench.announced(f"after-garbage-on{topic.replace('/', '-')}").complete


def test_kill_in_mid_episode_costs_nothing_that_was_on_disk(bench, tmp_path):
    """What was reported on disk is recovered, incomplete; the next episode is recorded as ever."""
    made = Synthetic(steps=20, episode_id="killed")
    bench.publish([("/episode_event", made.begin())])
    for step in range(9):
        bench.publish(made.tick(step))
    on_disk = bench.on_disk("killed")
    bench.kill("recorder_node", signal.SIGKILL)
    bench.start("recorder_node", record_purposes="[train, eval]")
    ready = bench.announced("killed")
    assert not ready.complete and ready.label == EpisodeEvent.LABEL_UNKNOWN
    episode = read_episode(bench.pull(ready, tmp_path / "pulled.mcap"))
    assert on_disk == 7 and episode.steps == 8, "observation 8 closes step 7"
    np.testing.assert_array_equal(episode.actions, made.arrays["actions"][:8])
    assert not list(bench.paths.raw.glob("*.mcap"))
    bench.record(Synthetic(steps=2, episode_id="afterwards"))
    assert bench.announced("afterwards").complete
    names = [e.episode_id for e in bench.listed()]
    assert len(names) == len(set(names))


def test_a_store_that_was_killed_lists_the_same(bench):
    before = bench.listed()
    bench.kill("store_node")
    bench.start("store_node", label_timeout_s=0.0)
    bench.until(lambda: len(bench.listed()) == len(before), "the list")
    assert bench.listed() == before


def test_a_second_recorder_in_the_same_run_is_refused(bench):
    """Two writers of one list would lose episodes."""
    with RecordingBench(bench.paths.root) as other, pytest.raises(AssertionError):
        other.start("recorder_node")


def test_a_clean_stop_finishes_the_running_episode(bench):
    """Runs last: it stops the recorder."""
    made = Synthetic(steps=9, episode_id="stopped")
    bench.publish(list(made.messages())[: 1 + 6 * 5])
    assert bench.kill("recorder_node", signal.SIGTERM) == 0
    assert not list(bench.paths.raw.glob("*.mcap"))
    ready = bench.announced("stopped")
    assert not ready.complete and ready.steps == 4
