"""Pins: an episode that is given up because the disk was full for a moment, or a label that overtakes its
episode."""

import time

import pytest

from inril_core.data import EpisodeIndex, finisher
from inril_core.data.episode_router import Label
from inril_core.data.finisher import MAX_BACKLOG, Finisher
from tests.data.synthetic import Synthetic


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A run's folders, and no patience."""
    monkeypatch.setattr(finisher, "RETRY_S", 0.01)
    for name in ("raw", "episodes"):
        (tmp_path / name).mkdir()
    return tmp_path


def start(root):
    """A finisher and its list."""
    index = EpisodeIndex(root / "episodes")
    return Finisher(root / "raw", root / "episodes", index), index


def until(condition):
    """Wait, at most 20 s."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_what_an_earlier_process_left_comes_first_and_labels_follow_their_episode(root):
    Synthetic(episode_id="left").record(root / "raw")
    working, index = start(root)
    working.submit(Synthetic(episode_id="new").record(root))
    working.submit(Label("new", False, "ada", 1))
    working.submit(Label("nobody", False, "ada", 1))
    assert working.stop(20.0)
    assert [entry.episode_id for entry in index.entries] == ["left", "new"]
    assert index.label(index.entries[1]) == (False, "ada")
    assert "nobody" in working.results()[-1]


def assert_backlog(working):
    assert working.backlog == 1
    return True


def test_a_full_disk_is_tried_again(root, monkeypatch):
    def full(fd):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        working, index = start(root)
        working.submit(Synthetic().record(root / "raw"))
        until(lambda: any("No space" in result.problem for result in working.results()))
        for _ in range(3):  # also while it is being tried once more
            until(lambda: assert_backlog(working) and working.results())
        assert index.entries == []
    until(lambda: index.entries)
    until(lambda: working.backlog == 0)
    assert working.stop(20.0) and not list((root / "raw").iterdir())


def test_it_says_when_it_cannot_keep_up(root, monkeypatch):
    working, _ = start(root)
    assert working.keeps_up
    assert working.stop(20.0)
    for number in range(MAX_BACKLOG):
        working.submit(root / f"{number}.mcap")
    assert not working.keeps_up
