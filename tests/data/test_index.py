"""Pins: a list that loses, reorders or invents episodes, or forgets who labelled what."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inril_core.data import EpisodeStore
from inril_core.data.index import INDEX_NAME, EpisodeIndex
from inril_core.files import write_lines
from tests.strategies import JSON


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
def test_damage_in_the_middle_is_named_and_costs_no_other_episode(tmp_path, line):
    index = EpisodeIndex(tmp_path)
    index.add(**facts(0))
    with open(tmp_path / INDEX_NAME, "a") as file:
        file.write(line + "\n")
    left = EpisodeIndex(tmp_path)
    added = left.add(**facts(2))
    assert added.index == 2, "the index of what cannot be read is not used again"
    for seen in (index, left, EpisodeIndex(tmp_path)):
        seen.refresh()
        assert [entry.episode_id for entry in seen.entries] == ["episode-0", "episode-2"]
        assert len(seen.problems) == 1 and "line 2: " in seen.problems[0]


@settings(max_examples=300, deadline=None)
@given(key=st.sampled_from([*facts(0), "index", "kind", "other"]), value=JSON)
def test_a_field_of_any_other_value_is_read_as_it_is_meant_or_its_line_is_left_out(tmp_path_factory, key, value):
    folder = tmp_path_factory.mktemp("index")
    first, second, third = ({"kind": "episode", **facts(number)} for number in range(3))
    write_lines(folder / INDEX_NAME, [first, {**second, key: value}, third])
    index = EpisodeIndex(folder)
    assert [e.episode_id for e in index.entries if e.index != 1] == ["episode-0", "episode-2"]
    for entry in index.entries:
        assert entry.purpose in ("demo", "train", "eval") and bytes.fromhex(entry.sha256) and type(entry.steps) is int
    assert len(index.entries) + len(index.problems) == 3 and all("line 2: " in problem for problem in index.problems)


def test_a_dropped_episode_stays_listed_and_can_be_taken_in_again(tmp_path):
    index, follower = EpisodeIndex(tmp_path), EpisodeIndex(tmp_path)
    index.add(**facts(0))
    index.drop("episode-0", "ada", 1)
    follower.refresh()
    assert follower.dropped("episode-0") and EpisodeStore(tmp_path).entries() == []
    index.drop("episode-0", "bob", 2, dropped=False)
    assert not EpisodeIndex(tmp_path).dropped("episode-0")
    assert [entry.episode_id for entry in EpisodeStore(tmp_path).entries()] == ["episode-0"]
    with pytest.raises(KeyError):
        index.drop("episode-9", "ada", 3)


def test_a_file_that_no_line_names_is_found(tmp_path):
    index = EpisodeIndex(tmp_path)
    index.add(**facts(0))
    for name in ("episode-0.mcap", "copied.mcap", "note.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in index.unlisted_files(".mcap")] == ["copied.mcap"]


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
