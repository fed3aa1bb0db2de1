"""Pins: a kill between any two steps of finishing an episode that loses it or leaves two of it."""

import json
import signal
import subprocess
import sys

import pytest

from inril_core.data import EpisodeConflict, EpisodeIndex, finalise, read_episode, recover
from inril_core.data.finalise import STAGES
from inril_core.data.index import INDEX_NAME
from tests.data.synthetic import Synthetic

CHILD = """
import os, signal, sys
from pathlib import Path
from inril_core.data import EpisodeIndex, finalise
root, fatal = Path(sys.argv[1]), sys.argv[2]
finalise(root / "raw" / "episode-0.mcap", root / "episodes", EpisodeIndex(root / "episodes"),
         on_stage=lambda stage: stage == fatal and os.kill(os.getpid(), signal.SIGKILL))
"""


@pytest.fixture
def root(tmp_path):
    """A run's folders."""
    for name in ("raw", "episodes"):
        (tmp_path / name).mkdir()
    return tmp_path


def recovered(root):
    """Recover as a starting recorder does."""
    return recover(root / "raw", root / "episodes", EpisodeIndex(root / "episodes"))


def assert_exactly_one(root, steps):
    """One listed episode, one file that is what the list says, nothing else."""
    index = EpisodeIndex(root / "episodes")
    assert [(e.episode_id, e.steps, e.index) for e in index.entries] == [("episode-0", steps, 0)]
    assert sorted(p.name for p in (root / "episodes").iterdir()) == ["episode-0.mcap", INDEX_NAME]
    assert not list((root / "raw").iterdir())
    assert read_episode(root / "episodes" / "episode-0.mcap").sha256 == index.entries[0].sha256


@pytest.mark.parametrize("stage", STAGES)
def test_killed_after_any_stage_there_is_exactly_one_copy(root, stage):
    made = Synthetic()
    made.record(root / "raw")
    child = subprocess.run([sys.executable, "-c", CHILD, root, stage], timeout=60)
    assert child.returncode == -signal.SIGKILL
    recovered(root)
    recovered(root)
    assert_exactly_one(root, made.steps)


@pytest.mark.parametrize("part", [0.0, 0.3, 0.99])
def test_killed_while_rewriting(root, part):
    made = Synthetic()
    raw = made.record(root / "raw")
    whole = raw.read_bytes()
    (root / "episodes" / "episode-0.mcap.tmp").write_bytes(whole[: int(len(whole) * part)])
    recovered(root)
    assert_exactly_one(root, made.steps)


@pytest.mark.parametrize("part", [0.1, 0.999])
def test_killed_while_listing(root, part):
    """The torn line does not count, and does not stay in the way of the next."""
    made = Synthetic()
    raw = made.record(root / "raw")
    content = raw.read_bytes()
    finalise(raw, root / "episodes", EpisodeIndex(root / "episodes"))
    raw.write_bytes(content)
    listed = (root / "episodes" / INDEX_NAME).read_bytes()
    (root / "episodes" / INDEX_NAME).write_bytes(listed[: int(len(listed) * part)])
    assert EpisodeIndex(root / "episodes").entries == []
    recovered(root)
    assert_exactly_one(root, made.steps)


def test_a_recorder_that_died_leaves_an_incomplete_episode(root):
    Synthetic(steps=8).record(root / "raw", until=6 * 4 + 3)  # BEGIN, four ticks, then two messages of the fifth
    (recovery,) = recovered(root)
    assert recovery.entry is not None and not recovery.entry.complete
    assert recovery.entry.success is None, "unlabelled is not failure"
    assert_exactly_one(root, 4)


def test_an_episode_without_a_whole_step_is_kept_and_listed_as_such(root):
    Synthetic().record(root / "raw", until=3)
    (recovery,) = recovered(root)
    assert recovery.entry is not None and recovery.entry.steps == 0
    assert (root / "episodes" / "episode-0.mcap").exists()


def test_a_raw_file_that_is_no_episode_is_set_aside_with_the_reason(root):
    (root / "raw" / "lost.mcap").write_bytes(b"")
    (recovery,) = recovered(root)
    assert recovery.entry is None and "lost.unreadable" in recovery.problem
    assert (root / "raw" / "lost.unreadable").exists()
    assert recovered(root) == []


def test_the_same_id_with_other_content_is_refused(root):
    finalise(Synthetic(seed=1).record(root / "raw"), root / "episodes", EpisodeIndex(root / "episodes"))
    before = (root / "episodes" / "episode-0.mcap").read_bytes()
    raw = Synthetic(seed=2).record(root / "raw")
    with pytest.raises(EpisodeConflict, match="episode-0 is listed with sha256"):
        finalise(raw, root / "episodes", EpisodeIndex(root / "episodes"))
    assert (root / "episodes" / "episode-0.mcap").read_bytes() == before
    assert raw.exists(), "nothing is thrown away"
    assert sorted(p.name for p in (root / "episodes").iterdir()) == ["episode-0.mcap", INDEX_NAME]


def test_a_full_disk_while_finishing_loses_nothing(root, monkeypatch):
    made = Synthetic()
    raw = made.record(root / "raw")

    def full(fd):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        (recovery,) = recovered(root)
        assert recovery.entry is None and "No space left" in recovery.problem
        assert raw.exists() and not list((root / "episodes").glob("*"))
    recovered(root)
    assert_exactly_one(root, made.steps)


def test_every_fact_is_one_line(root):
    finalise(Synthetic().record(root / "raw"), root / "episodes", EpisodeIndex(root / "episodes"))
    index = EpisodeIndex(root / "episodes")
    index.annotate("episode-0", False, "a person\nwith a line break", 5)
    lines = (root / "episodes" / INDEX_NAME).read_text().splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["episode", "annotation"]
