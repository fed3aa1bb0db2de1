"""Pins: a list that loses, reorders or invents episodes, or forgets who labelled what."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inril_core.data.index import INDEX_NAME, EpisodeIndex, IndexDamaged


def facts(number, success=None):
    """Fields of an entry."""
    return {
        "episode_id": f"episode-{number}",
        "run_id": "run",
        "purpose": "train",
        "steps": 4,
        "complete": True,
        "success": success,
        "by": "",
        "sha256": f"{number:064x}",
        "size_bytes": 10,
    }


def test_annotations_are_numbered_and_the_newest_counts(tmp_path):
    index = EpisodeIndex(tmp_path)
    entry = index.add(**facts(0, success=True))
    assert index.label(entry) == (True, "")
    assert index.annotate("episode-0", False, "ada", 1).number == 1
    assert index.annotate("episode-0", None, "bob", 2).number == 2
    again = EpisodeIndex(tmp_path)
    assert again.label(entry) == (None, "bob")
    assert again.entries == [entry], "what was listed is not rewritten"
    with pytest.raises(KeyError):
        index.annotate("episode-9", True, "ada", 3)


def test_a_follower_sees_what_is_appended(tmp_path):
    writer, follower = EpisodeIndex(tmp_path), EpisodeIndex(tmp_path)
    assert not follower.refresh()
    writer.add(**facts(0))
    assert follower.refresh() and not follower.refresh()
    assert follower.find("episode-0") == writer.entries[0]


@settings(max_examples=40, deadline=None)
@given(cut=st.integers(1, 400))
def test_a_torn_last_line_is_overwritten_by_the_next(tmp_path_factory, cut):
    folder = tmp_path_factory.mktemp("index")
    index = EpisodeIndex(folder)
    for number in range(3):
        index.add(**facts(number))
    content = (folder / INDEX_NAME).read_bytes()
    (folder / INDEX_NAME).write_bytes(content[: max(0, len(content) - cut)])
    left = EpisodeIndex(folder)
    kept = [entry.episode_id for entry in left.entries]
    assert kept == ["episode-0", "episode-1", "episode-2"][: len(kept)]
    left.add(**facts(7))
    assert [entry.episode_id for entry in EpisodeIndex(folder).entries] == [*kept, "episode-7"]


def test_a_long_torn_line_leaves_nothing_behind_a_short_one(tmp_path):
    index = EpisodeIndex(tmp_path)
    index.add(**facts(0))
    with open(tmp_path / INDEX_NAME, "a") as file:
        file.write("x" * 5000)
    EpisodeIndex(tmp_path).annotate("episode-0", True, "ada", 1)
    assert "x" not in (tmp_path / INDEX_NAME).read_text().replace("index", "")
    assert len(EpisodeIndex(tmp_path).annotations["episode-0"]) == 1


@pytest.mark.parametrize("line", ["{}", "[]", "nonsense", '{"kind":"episode"}', '{"kind":"other"}'])
def test_damage_in_the_middle_is_named(tmp_path, line):
    index = EpisodeIndex(tmp_path)
    index.add(**facts(0))
    with open(tmp_path / INDEX_NAME, "a") as file:
        file.write(line + "\n")
    with pytest.raises(IndexDamaged, match="line 2"):
        EpisodeIndex(tmp_path)


def test_a_full_disk_lists_nothing(tmp_path, monkeypatch):
    index = EpisodeIndex(tmp_path)
    index.add(**facts(0))
    before = (tmp_path / INDEX_NAME).read_bytes()

    def full(fd):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            index.add(**facts(1))
    assert (tmp_path / INDEX_NAME).read_bytes() == before
    assert index.add(**facts(1)).index == 1
