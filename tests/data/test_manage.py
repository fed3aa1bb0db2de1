"""Pins: an episode that cannot be looked at or left out without a graph, and a copied file that nobody hears of."""

import shutil

import pytest

from inril_core.data.manage import add_episode, drop_episode, list_episodes
from inril_core.errors import ConfigError
from tests.data.recorded_run import record_demos


def test_the_listing_says_length_success_outliers_and_what_is_wrong(tmp_path):
    names = record_demos(tmp_path / "run", 6, spoil=1)
    folder = tmp_path / "run" / "episodes"
    drop_episode(tmp_path / "run", names[2], "ada", 1)
    (folder / f"{names[3]}.mcap").unlink()
    whole = (folder / f"{names[4]}.mcap").read_bytes()
    (folder / f"{names[4]}.mcap").write_bytes(whole[: len(whole) // 2])
    shutil.copy(folder / f"{names[0]}.mcap", folder / "copied.mcap")
    with open(folder / "episodes.jsonl", "a") as file:
        file.write('{"kind":"episode","episode_id":3}\n')
    listing = list_episodes(tmp_path / "run")
    assert [listed.entry.episode_id for listed in listing.episodes] == names
    assert [(listed.entry.steps, listed.success) for listed in listing.episodes] == [(6, True)] * 6
    assert [bool(listed.dropped) for listed in listing.episodes] == [False, False, True, False, False, False]
    assert [len(listed.outliers) for listed in listing.episodes] == [0, 6, 0, 0, 0, 0]
    assert listing.episodes[1].outliers[0].field == "tool_position_m[0]"
    assert [bool(listed.problem) for listed in listing.episodes] == [False, False, False, True, True, False]
    assert [path.name for path in listing.unlisted] == ["copied.mcap"]
    assert len(listing.problems) == 1 and "line 8: " in listing.problems[0]


def test_a_file_of_another_run_is_listed_once(tmp_path):
    record_demos(tmp_path / "a", 3)
    record_demos(tmp_path / "b", 1)
    file = tmp_path / "a" / "episodes" / "demo-2.mcap"
    added = add_episode(tmp_path / "b", file)
    assert (added.index, added.steps, added.success) == (1, 6, True)
    listing = list_episodes(tmp_path / "b")
    assert [(listed.entry.episode_id, listed.problem) for listed in listing.episodes] == [
        ("demo-0", ""),
        ("demo-2", ""),
    ]
    with pytest.raises(ConfigError, match="already"):
        add_episode(tmp_path / "b", file)
    copied = tmp_path / "b" / "episodes" / "demo-1.mcap"
    shutil.copy(tmp_path / "a" / "episodes" / "demo-1.mcap", copied)
    add_episode(tmp_path / "b", copied)
    assert not list_episodes(tmp_path / "b").unlisted


def test_what_cannot_be_done_is_refused_with_the_fix(tmp_path):
    record_demos(tmp_path / "run", 1)
    (tmp_path / "text.mcap").write_text("no episode")
    with pytest.raises(ConfigError, match="only an episode that inril recorded"):
        add_episode(tmp_path / "run", tmp_path / "text.mcap")
    with pytest.raises(ConfigError, match="No such file"):
        add_episode(tmp_path / "run", tmp_path / "none.mcap")
    with pytest.raises(ConfigError, match="no episode 'demo-9'.*inril data list"):
        drop_episode(tmp_path / "run", "demo-9", "ada", 1)
    for place in (tmp_path / "none", tmp_path / "text.mcap"):
        with pytest.raises(ConfigError, match="no folder of a run"):
            list_episodes(place)
