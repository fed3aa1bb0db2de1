"""Pins: a recording that is not, bit for bit, what was published."""

from pathlib import Path

import numpy as np
import pytest
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory

from inril_core.data import EpisodeIndex, finalise, read_episode
from inril_core.data.schemas import IMAGE_TOPIC
from tests.data.synthetic import Synthetic


@pytest.fixture(params=["raw", "finished"])
def stored(request, tmp_path):
    """Stores an episode, unfinished or finished, and returns its path."""

    def store(episode: Synthetic) -> Path:
        raw = episode.record(tmp_path)
        if request.param == "raw":
            return raw
        (tmp_path / "episodes").mkdir()
        finalise(raw, tmp_path / "episodes", EpisodeIndex(tmp_path / "episodes"))
        return tmp_path / "episodes" / raw.name

    return store


def test_arrays_come_back_bit_for_bit(stored):
    made = Synthetic(steps=7, human_from=4)
    episode = read_episode(stored(made))
    for name in ("observations", "actions", "proposed", "raw", "log_prob", "qpos"):
        np.testing.assert_array_equal(getattr(episode, name), made.arrays[name], err_msg=name)
    assert episode.steps == 7 and episode.complete and episode.succeeded
    assert episode.terminated and not episode.truncated
    assert (episode.outcome_source, episode.outcome_reason) == ("cell", "seated")
    assert episode.source.tolist() == [0] * 4 + [1] * 3
    assert episode.policy_n.tolist() == [7] * 7 and set(episode.policy_run_ids) == {"run"}
    assert episode.limits[1] == ("translation_step",) and episode.limits[2] == ()
    assert episode.stamps_ns.tolist() == [made.stamp_ns(step) for step in range(8)]
    assert episode.tool_pose[3].tolist() == [3 * 0.1, 0, 0, 0, 0, 0, 1]
    np.testing.assert_array_equal(episode.link_age_s[0], np.array([0.01, 0.02, np.nan], np.float32))
    assert (episode.seed, episode.purpose, episode.run_id) == (made.seed, made.purpose, "run")
    assert episode.interface_digest and "insert_leg" in episode.contract_text


def test_images_come_back_bit_for_bit(stored):
    made = Synthetic(steps=3, purpose="eval", images=True)
    path = stored(made)
    episode = read_episode(path)
    np.testing.assert_array_equal(episode.images["front"], made.arrays["images"])
    assert episode.image_steps["front"].tolist() == [0, 1, 2, 3]
    assert not read_episode(path, images=False).images


def test_arrays_cannot_be_changed_by_a_reader(stored):
    with pytest.raises(ValueError, match="read-only"):
        read_episode(stored(Synthetic())).observations[0] = 0.0


def test_a_finished_file_is_indexed_and_shows_its_images(tmp_path):
    """Ordinary MCAP tools must find an index and ordinary image messages."""
    made = Synthetic(steps=3, purpose="demo", images=True)
    (tmp_path / "episodes").mkdir()
    finalise(made.record(tmp_path), tmp_path / "episodes", EpisodeIndex(tmp_path / "episodes"))
    with open(tmp_path / "episodes" / "episode-0.mcap", "rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        summary = reader.get_summary()
        assert summary is not None and summary.chunk_indexes[0].compression == "zstd"
        records = {record.name: record.metadata for record in reader.iter_metadata()}
        frames = [decoded for *_, decoded in reader.iter_decoded_messages(topics=[IMAGE_TOPIC + "front"])]
    assert records["inril.result"] == {
        "steps": "3",
        "complete": "True",
        "success": "True",
        "by": "cell",
        "problems": "[]",
        "corrections": "[]",
    }
    assert records["inril.episode"]["seed"] == str(made.seed)
    assert len(frames) == 4
    for step, frame in enumerate(frames):
        assert (frame.height, frame.width, frame.encoding, frame.step) == (84, 84, "rgb8", 252)
        assert frame.header.frame_id == "front"
        assert bytes(frame.data) == made.arrays["images"][step].tobytes()


@pytest.mark.parametrize(
    ("outcome", "label", "expected"),
    [
        ({"terminated": True, "success": True, "source": "cell"}, 0, True),
        ({"truncated": True, "source": "episode_length"}, 0, False),
        ({"truncated": True, "source": "operator"}, 0, None),
        ({"truncated": True, "source": "operator"}, 1, True),
        ({"terminated": True, "success": True, "source": "cell"}, 2, False),
    ],
)
def test_unlabelled_is_not_failure(tmp_path, monkeypatch, outcome, label, expected):
    """A label beats the outcome; an episode that a person cut short without a word has no verdict."""
    observation = Synthetic.observation

    def ended_by(self, step):
        message = observation(self, step)
        if message.last:
            for name, value in {"terminated": False, "truncated": False, "success": False, **outcome}.items():
                setattr(message.outcome, name, value)
        return message

    monkeypatch.setattr(Synthetic, "observation", ended_by)
    made = Synthetic(label=label, succeeds=outcome.get("success", False))
    assert read_episode(made.record(tmp_path)).success is expected
