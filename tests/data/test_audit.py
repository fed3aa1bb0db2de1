"""Pins: an episode with holes that is kept without a word."""

import json

import numpy as np
import pytest
from mcap.reader import make_reader

from inril_core.data.audit import audit
from inril_core.data.container import read_recording
from inril_core.data.finalise import RESULT, finalise
from inril_core.data.index import EpisodeIndex
from inril_core.data.inspect import describe_run, verify_run
from inril_core.data.manage import add_episode, drop_episode
from inril_core.run import RunPaths
from tests.data.recorded_run import record_demos
from tests.data.synthetic import Synthetic


def audited(made: Synthetic, folder, until=None):
    return audit(read_recording(made.record(folder, until).read_bytes(), 1 << 30))


class Lacking(Synthetic):
    """Messages of one topic at one step never come."""

    topic, step = "/executed_action", 3

    def tick(self, step):
        for topic, message in super().tick(step):
            if step != self.step or topic != self.topic:
                yield topic, message


class Pausing(Synthetic):
    """Stamps that pause after a step."""

    def stamp_ns(self, step):
        return super().stamp_ns(step) + (500_000_000 if step >= 4 else 0)


def test_a_whole_episode_has_no_problem(tmp_path):
    found = audited(Synthetic(steps=8, measured=True, images=True), tmp_path)
    assert found.problems == () and (found.steps_expected, found.steps_written, found.closed, found.gaps) == (
        8,
        8,
        True,
        0,
    )
    observations = found.topics["/observation"]
    assert (observations.messages, observations.expected) == (9, 9)
    assert observations.rate_hz == pytest.approx(10.0) and observations.largest_gap_s == pytest.approx(0.1)


def test_a_missing_action_is_counted_and_placed(tmp_path):
    found = audited(Lacking(steps=8), tmp_path)
    assert found.problems == ("1 of 8 steps are not whole: 3",) and found.steps_written == 7


def test_a_missing_observation_and_a_torn_end_are_told(tmp_path):
    Lacking.topic = "/observation"
    try:
        found = audited(Lacking(steps=8), tmp_path)
    finally:
        Lacking.topic = "/executed_action"
    assert "2 of 8 steps are not whole: 2, 3" in found.problems and found.gaps == 0
    torn = audited(Synthetic(steps=8, episode_id="torn"), tmp_path, until=30)
    assert "the closing observation is missing" in torn.problems and not torn.closed


def test_pauses_and_rates_that_are_not_the_contracts_are_told(tmp_path):
    found = audited(Pausing(steps=8), tmp_path)
    assert found.gaps == 1
    assert "1 gaps between observations; the longest, 0.60 s, after step 3" in found.problems
    assert any("observations came at 6.15 Hz, the contract says 10 Hz" in problem for problem in found.problems)


def test_pictures_that_are_due_and_lack_are_told(tmp_path):
    made = Synthetic(steps=4, purpose="demo", images=False)
    assert audited(made, tmp_path).problems == ("5 of 5 observations lack an image of front",)


def test_the_mark_is_in_the_list_and_in_the_file(tmp_path):
    paths = RunPaths(tmp_path)
    for folder in (paths.raw, paths.episodes):
        folder.mkdir()
    entry = finalise(Lacking(steps=8).record(paths.raw), paths.episodes, EpisodeIndex(paths.episodes))
    assert entry.problems == ("1 of 8 steps are not whole: 3",) and not entry.complete
    assert EpisodeIndex(paths.episodes).entries[0].problems == entry.problems
    with open(paths.episodes / "episode-0.mcap", "rb") as file:
        records = {record.name: record.metadata for record in make_reader(file).iter_metadata()}
    assert json.loads(records[RESULT]["problems"]) == list(entry.problems)
    other = RunPaths(tmp_path / "other")
    other.episodes.mkdir(parents=True)
    assert add_episode(other.root, paths.episodes / "episode-0.mcap").problems == entry.problems


def test_every_bad_file_of_a_run_is_named(tmp_path):
    names = record_demos(tmp_path, 5)
    folder = tmp_path / "episodes"
    whole = (folder / f"{names[1]}.mcap").read_bytes()
    (folder / f"{names[1]}.mcap").write_bytes(whole[: len(whole) // 2])
    (folder / f"{names[2]}.mcap").unlink()
    (folder / f"{names[3]}.mcap").write_bytes((folder / f"{names[4]}.mcap").read_bytes())
    (folder / "copied.mcap").write_bytes(whole)
    with open(folder / "episodes.jsonl", "a") as file:
        file.write('{"kind":"episode"}\n')
    bad = {found.episode_id: " ".join(found.problems) for found in verify_run(tmp_path) if found.problems}
    assert sorted(bad) == sorted([*names[1:4], "copied.mcap", "episodes.jsonl"])
    assert "MCAP" in bad[names[1]] or "cut short" in bad[names[1]]
    assert "No such file" in bad[names[2]] and "it has changed" in bad[names[3]]
    assert "not in the run's list" in bad["copied.mcap"] and "line 6" in bad["episodes.jsonl"]


def test_a_run_in_numbers(tmp_path):
    names = record_demos(tmp_path, 4)
    drop_episode(tmp_path, names[3], "ada", 1)
    info = describe_run(tmp_path)
    assert (info.episodes, info.dropped, info.steps, info.shortest_steps) == (3, 1, 18, 6)
    assert info.steps_by_source == {"human": 18} and info.outcomes == {"success": 3} and info.tasks == {"insert_leg": 3}
    assert info.rate_hz == pytest.approx(10.0) and np.isclose(info.duration_s, 1.8)
