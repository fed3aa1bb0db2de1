"""Pins: a correction that is not heard, or one that rewrites a recording."""

import shutil

import numpy as np
import pytest

from inril_core.contract import load_contract
from inril_core.data.collect import collect
from inril_core.data.episode import stated_rewards
from inril_core.data.index import EpisodeIndex
from inril_core.data.manage import drop_episode, open_run_index
from inril_core.data.select import Selection, selected
from inril_core.errors import ConfigError
from inril_core.finetune.demos import read_demos
from inril_core.run import open_run
from inril_core.session.offline import label_offline, mark_offline
from inril_core.vocabulary import Mark
from tests.data.recorded_run import record_demos
from tests.data.synthetic import CONTRACT


@pytest.fixture
def run(tmp_path):
    open_run(tmp_path / "run")
    record_demos(tmp_path / "run", 3)
    return tmp_path / "run"


def _keep_lines(path, count):
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:count]))


def newest(run, name="demo-1"):
    return next(episode for _, episode in selected(open_run_index(run), Selection(ids=(name,))))


def test_what_was_said_last_of_each_thing_counts(run):
    file = run / "episodes" / "demo-1.mcap"
    before = file.read_bytes()
    assert newest(run).marks is None and newest(run).given_rewards is None
    mark_offline(run, "demo-1", (1, 4), "ada", 1, mark=Mark.FAILURE)
    mark_offline(run, "demo-1", (3, 5), "bea", 2, mark=Mark.RECOVERY)
    mark_offline(run, "demo-1", (4, 4), "bea", 3, mark=Mark.NONE)
    label_offline(run, "demo-1", False, "ada", 4)
    said = mark_offline(run, "demo-1", (2, 2), "ada", 5, reward=-0.5)
    assert said == "demo-1, annotation 5: steps 2 to 2 are reward -0.5, by ada"
    episode = newest(run)
    assert episode.marks.tolist() == [0, 1, 1, 2, 0, 2] and stated_rewards(episode).tolist() == [0, 0, -0.5, 0, 0, 0]
    assert (episode.success, episode.outcome_source) == (False, "ada")
    index = EpisodeIndex(run / "episodes")
    numbers = [s.number for s in index.stretches["demo-1"]] + [a.number for a in index.annotations["demo-1"]]
    assert sorted(numbers) == [1, 2, 3, 4, 5]
    assert file.read_bytes() == before and newest(run, "demo-0").marks is None


def test_the_learners_demonstrations_have_the_annotations(run):
    mark_offline(run, "demo-2", (0, 1), "ada", 1, mark=Mark.CORRECTION)
    demos = read_demos(run, CONTRACT, pytest.fail)
    assert [demo.marks is not None for demo in demos] == [False, False, True]


def test_what_cannot_be_said_is_refused(run):
    for steps in ((0, 6), (4, 3), (-1, 2)):
        with pytest.raises(ConfigError, match="has steps 0 to 5"):
            mark_offline(run, "demo-1", steps, "ada", 1, mark=Mark.FAILURE)
    with pytest.raises(ConfigError, match="no recorded episode 'demo-9'"):
        mark_offline(run, "demo-9", (0, 1), "ada", 1, mark=Mark.FAILURE)
    with pytest.raises(ConfigError, match="must be within"):
        mark_offline(run, "demo-1", (0, 1), "ada", 1, reward=float("nan"))
    with pytest.raises(ConfigError, match="give a mark or a reward"):
        mark_offline(run, "demo-1", (0, 1), "ada", 1)
    assert not EpisodeIndex(run / "episodes").stretches


def test_a_line_that_is_no_stretch_is_left_out_by_name(run):
    with open(run / "episodes" / "episodes.jsonl", "a") as file:
        file.write('{"kind":"stretch","episode_id":"demo-1","number":1,"first_step":0,"last_step":1,"mark":"loud"}\n')
    index = EpisodeIndex(run / "episodes")
    assert len(index.problems) == 1 and "mark = 'loud'" in index.problems[0] and len(index.entries) == 3


def test_runs_become_one_with_all_that_was_said(run, tmp_path):
    record_demos(tmp_path / "more", 4)
    for name in ("demo-0", "demo-1", "demo-2"):  # the same files: what was recorded again differs in unused bytes
        (run / "episodes" / f"{name}.mcap").write_bytes((tmp_path / "more" / "episodes" / f"{name}.mcap").read_bytes())
    shutil.copyfile(tmp_path / "more" / "episodes" / "episodes.jsonl", run / "episodes" / "episodes.jsonl")
    _keep_lines(run / "episodes" / "episodes.jsonl", 3)
    mark_offline(run, "demo-1", (1, 2), "ada", 1, mark=Mark.FAILURE)
    label_offline(run, "demo-0", False, "ada", 2)
    drop_episode(run, "demo-2", "ada", 3)
    done = collect([run, tmp_path / "more"], tmp_path / "all", Selection(dropped=True), "all")
    assert (done.episodes, done.twice) == (4, ("demo-0", "demo-1", "demo-2"))
    index = open_run_index(tmp_path / "all")
    assert [entry.episode_id for entry in index.entries] == [f"demo-{n}" for n in range(4)]
    assert newest(tmp_path / "all").marks.tolist() == [0, 1, 1, 0, 0, 0]
    assert index.dropped("demo-2") and index.label(index.entries[0]) == (False, "ada")
    for name in ("demo-0", "demo-3"):
        source = run if name == "demo-0" else tmp_path / "more"
        copied = (tmp_path / "all" / "episodes" / f"{name}.mcap").read_bytes()
        assert copied == (source / "episodes" / f"{name}.mcap").read_bytes()


def test_conditions_choose_episodes(run, tmp_path):
    record_demos(tmp_path / "long", 1, steps=9)
    label_offline(run, "demo-0", False, "ada", 1)
    index = open_run_index(run)

    def names(**conditions):
        return [entry.episode_id for entry, _ in selected(index, Selection(**conditions))]

    index.refresh()
    assert names(outcomes=("failure",)) == ["demo-0"] == names(by="a?a")
    assert names(outcomes=("success",)) == ["demo-1", "demo-2"] and names(min_steps=7) == []
    assert names(ids=("*-2", "demo-0")) == ["demo-0", "demo-2"]
    assert names(human_share=(0.0, 0.5)) == [] and len(names(human_share=(1.0, 1.0))) == 3
    assert names(purposes=("train",)) == []


def test_runs_that_do_not_fit_together_stay_apart(run, tmp_path):
    from tests.exchange.episodes import make, record_run

    record_demos(tmp_path / "other", 1, steps=4)
    with pytest.raises(ConfigError, match="other content under this id"):
        collect([run, tmp_path / "other"], tmp_path / "a", Selection(), "a")
    other = record_run(tmp_path / "legs", [make(7, contract=load_contract("one_leg_low"))])
    with pytest.raises(ConfigError, match="another interface than demo-0: action"):
        collect([run, other], tmp_path / "b", Selection(), "b")
    (run / "episodes" / "demo-1.mcap").write_bytes(b"")
    with pytest.raises(ConfigError, match="demo-1.*inril data drop"):
        collect([run], tmp_path / "c", Selection(), "c")


def test_a_reward_of_a_person_stands_among_those_of_success(run):
    mark_offline(run, "demo-1", (0, 0), "ada", 1, reward=0.25)
    np.testing.assert_array_equal(stated_rewards(newest(run)), np.array([0.25, 0, 0, 0, 0, 1], np.float32))
