"""Pins: demonstrations that are not what they seem and are cloned all the same, or that end the program."""

import shutil

import pytest

from inril_core.data.index import EpisodeIndex
from inril_core.errors import ConfigError
from inril_core.finetune.demos import read_demos
from tests.data.recorded_run import record_demos
from tests.data.synthetic import CONTRACT


def read(run_dir):
    problems = []
    return [demo.episode_id for demo in read_demos(run_dir, CONTRACT, problems.append)], problems


def test_a_demonstration_with_a_far_frame_is_left_out_and_named(tmp_path):
    names = record_demos(tmp_path, 5, spoil=2)
    found, (problem,) = read(tmp_path)
    assert found == [name for name in names if name != names[2]]
    assert f"outlier: {names[2]}, step 3, tool_position_m[0] = 10000" in problem and "and 5 more" in problem


def test_a_dropped_demonstration_is_not_used_and_one_taken_in_again_is(tmp_path):
    names = record_demos(tmp_path, 3)
    index = EpisodeIndex(tmp_path / "episodes")
    index.drop(names[0], "ada", 1)
    assert read(tmp_path) == (names[1:], [])
    index.drop(names[0], "ada", 2, dropped=False)
    assert read(tmp_path) == (names, [])


def test_what_is_damaged_missing_changed_or_unlisted_is_named_and_left_out(tmp_path):
    names = record_demos(tmp_path, 6)
    folder = tmp_path / "episodes"
    (folder / f"{names[0]}.mcap").unlink()
    (folder / f"{names[1]}.mcap").write_bytes(b"torn")
    shutil.copy(folder / f"{names[3]}.mcap", folder / f"{names[2]}.mcap")
    shutil.copy(folder / f"{names[3]}.mcap", folder / "copied.mcap")
    lines = (folder / "episodes.jsonl").read_text().splitlines()
    lines[4] = lines[4].replace('"purpose":"demo"', '"purpose":1.5')
    (folder / "episodes.jsonl").write_text("\n".join(lines) + "\n")
    found, problems = read(tmp_path)
    assert found == [names[3], names[5]]
    text = "\n".join(problems)
    assert len(problems) == 6  # the file of the damaged line is unlisted, too
    for word in ("No such file", "MCAP", "has changed", "copied.mcap", "line 5: episode.purpose = 1.5", names[4]):
        assert word in text


def test_what_is_no_run_folder_is_refused_with_the_fix(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "none"):
        with pytest.raises(ConfigError, match="no folder of a run.*--run-dir"):
            read(place)
    record_demos(tmp_path / "run", 1)
    EpisodeIndex(tmp_path / "run" / "episodes").drop("demo-0", "ada", 1)
    with pytest.raises(ConfigError, match="no usable demonstrations"):
        read(tmp_path / "run")
