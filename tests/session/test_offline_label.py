"""Pins: `inril label` that needs a graph which has gone."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from inril_bringup import cli

from inril_core.data.index import EpisodeIndex
from inril_core.errors import ConfigError
from inril_core.finetune.demos import read_demos
from inril_core.session.ledger import Ledger
from inril_core.session.offline import GraphIsUp, label_offline
from tests.data.synthetic import CONTRACT
from tests.evaluation.synthetic_run import RunBuilder

EPISODE = "demo-0-demo-00001"


@pytest.fixture
def run(tmp_path: Path) -> RunBuilder:
    """Two recorded demonstrations; the second ended by its length."""
    run = RunBuilder(tmp_path / "demos")
    for result in run.segment(0, "demo:2:episodes", [True, False], [0, 1], [4, 4]):
        run.record(result)
    return run


def test_a_label_on_disk_is_the_word_that_pretraining_and_report_read(run: RunBuilder) -> None:
    root, size = run.paths.root, run.paths.session.stat().st_size
    assert not read_demos(root, CONTRACT)[1].success
    assert EPISODE in label_offline(root, EPISODE, True, "anna", 5)
    demo = read_demos(root, CONTRACT)[1]
    assert demo.success and demo.outcome_source == "anna"
    result = Ledger(run.paths.session).find(EPISODE)
    assert result is not None and result.success and result.source == "anna"
    assert run.paths.session.stat().st_size > size, "nothing written is changed, only added to"
    label_offline(root, EPISODE, None, "bert", 6)
    assert read_demos(root, CONTRACT)[1].success is None
    annotations = EpisodeIndex(run.paths.episodes).annotations[EPISODE]
    assert [(a.number, a.success, a.by) for a in annotations] == [(1, True, "anna"), (2, None, "bert")]


def test_the_command_needs_no_graph(run: RunBuilder, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["label", str(run.paths.root), EPISODE, "success"])
    assert not ended.value.code and "labelled success" in capsys.readouterr().out
    assert read_demos(run.paths.root, CONTRACT)[1].success


def test_an_unknown_episode_is_named_with_those_there_are(run: RunBuilder) -> None:
    with pytest.raises(ConfigError, match=EPISODE):
        label_offline(run.paths.root, "another", True, "anna", 5)


@pytest.mark.parametrize("episode_id", ["../run", "", "a/b"])
def test_hostile_ids_are_unknown(run: RunBuilder, episode_id: str) -> None:
    with pytest.raises(ConfigError, match="no recorded episode"):
        label_offline(run.paths.root, episode_id, True, "anna", 5)


def test_a_folder_that_is_no_run_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no run\.json"):
        label_offline(tmp_path, EPISODE, True, "anna", 5)
    assert not list(tmp_path.iterdir())


def test_a_run_whose_recorder_is_up_is_not_written_to(run: RunBuilder) -> None:
    size = run.paths.session.stat().st_size
    with (run.paths.raw / ".lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(GraphIsUp):
            label_offline(run.paths.root, EPISODE, True, "anna", 5)
    assert run.paths.session.stat().st_size == size
