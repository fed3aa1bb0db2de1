"""Pins: an operator's word that is lost, goes to another attempt than it was said of, or hides what the task said."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inril_core.errors import ConfigError
from inril_core.evaluation.session import folder as folder_module
from inril_core.evaluation.session.analysis import analyse
from inril_core.evaluation.session.folder import LABELS, Label, SessionFolder, read_labels
from inril_core.evaluation.session.graph import GraphTrials
from inril_core.evaluation.session.local import run_locally
from inril_core.evaluation.session.outcomes import read_outcomes
from inril_core.evaluation.session.plan import FAILURE_TAGS
from inril_core.evaluation.session.report import write_report
from inril_core.files import read_sound_lines
from inril_core.session.ledger import Ledger
from inril_core.session.offline import label_offline
from tests.evaluation.session.made import WatchedPointTask, session

KILLED = """
import sys
from pathlib import Path
from inril_core.evaluation.session.folder import SessionFolder

folder = SessionFolder(Path(sys.argv[1]))
for number in range(10_000):
    folder.label(number % 4, False, "dropped" if number % 3 else "stuck", f"ann {number}", 1.0)
    print(number, flush=True)
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> SessionFolder:
    """A session whose trials all ran; whoever labels begins without labels."""
    folder = session(tmp_path_factory.mktemp("labels"), starts={"full": 4})
    run_locally(folder, lambda line: None, WatchedPointTask())
    return folder


@pytest.fixture
def done(ran: SessionFolder) -> SessionFolder:
    (ran.root / LABELS).unlink(missing_ok=True)
    return ran


WORDS = st.one_of(
    st.tuples(st.just(True), st.just("")),
    st.tuples(st.just(False), st.sampled_from(["", *FAILURE_TAGS])),
    st.tuples(st.none(), st.just("")),
)


@given(said=st.lists(st.tuples(st.integers(0, 7), WORDS, st.sampled_from(["ann", "bob", "Łukasz 2"])), max_size=12))
def test_the_newest_word_on_each_trial_counts_and_one_taken_back_does_not(
    ran: SessionFolder, said: list[tuple[int, tuple[bool | None, str], str]]
) -> None:
    (ran.root / LABELS).unlink(missing_ok=True)
    newest: dict[int, tuple[bool | None, str, str]] = {}
    for trial, (success, tag), by in said:
        ran.label(trial, success, tag, by, 1.0)
        newest[trial] = success, tag, by
    for outcome in read_outcomes(SessionFolder(ran.root)):
        success, tag, by = newest.get(outcome.number, (None, "", ""))
        assert outcome.automatic == outcome.result.success, "what the task said stays"
        if success is None:
            assert outcome.label is None and outcome.success == outcome.result.success
        else:
            assert outcome.label is not None and outcome.success is success
            assert (outcome.label.tag, outcome.label.by) == (tag, by)
            if tag:
                assert outcome.tag == tag


@given(tag=st.text(min_size=1, max_size=20), success=st.sampled_from([True, False, None]))
def test_a_tag_that_the_plan_does_not_have_or_of_no_failure_is_refused(
    ran: SessionFolder, tag: str, success: bool | None
) -> None:
    (ran.root / LABELS).unlink(missing_ok=True)
    if success is False and tag in ran.plan.failure_tags:
        return
    with pytest.raises(ConfigError, match="one of missed, dropped, stuck" if success is False else "failure only"):
        ran.label(0, success, tag, "ann", 1.0)
    assert not (ran.root / LABELS).exists()


def test_a_trial_without_a_result_has_no_label(done: SessionFolder) -> None:
    with pytest.raises(ConfigError, match="trial 99: has no result yet"):
        done.label(99, True, "", "ann", 1.0)


def test_a_word_belongs_to_the_attempt_and_not_to_what_is_done_again(tmp_path: Path) -> None:
    """A trial that was labelled, taken back and done again kept the label of the attempt before."""
    folder = session(tmp_path, starts={"full": 2})
    run_locally(folder, lambda line: None, WatchedPointTask())
    first = folder.done[3]
    folder.label(3, not first.success, "" if not first.success else "stuck", "ann", 1.0)
    assert read_outcomes(folder)[3].success is not first.success
    Ledger(folder.paths.session).append(replace(first, valid=False, reason="taken back by ann"))
    run_locally(folder, lambda line: None, WatchedPointTask())
    again = read_outcomes(folder)[3]
    assert again.result.episode_id != first.episode_id
    assert again.label is None and again.success is first.success


def test_a_word_of_an_attempt_that_runs_counts_once_it_has_a_result(tmp_path: Path) -> None:
    folder = session(tmp_path, starts={"full": 2})
    run_locally(folder, lambda line: None, WatchedPointTask())
    result = folder.done[0]
    folder.paths.session.unlink()
    folder.label_attempt(0, result.episode_id, False, "collision", "ann", 1.0)
    assert read_outcomes(folder) == []
    Ledger(folder.paths.session).append(result)
    assert (read_outcomes(folder)[0].success, read_outcomes(folder)[0].tag) == (False, "collision")


def test_kill_9_loses_no_word_that_was_taken(done: SessionFolder) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(done.root)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    taken = [int(process.stdout.readline()) for _ in range(30)]
    process.kill()
    taken += [int(line) for line in process.stdout.read().split()]
    process.wait()
    process.stdout.close()
    with (done.root / LABELS).open("ab") as file:
        file.write(b'{"trial":0,"episode_id":"x"')  # as if killed in the middle of a line
    said = read_sound_lines(done.root / LABELS, Label).values
    assert {label.by for label in said} >= {f"ann {number}" for number in taken}
    done.label(0, True, "", "bob", 2.0)
    assert read_labels(done.root)[done.done[0].episode_id].by == "bob"
    assert done.problems == []


def test_a_full_disk_is_said_and_leaves_the_word_before(done: SessionFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    done.label(0, False, "dropped", "ann", 1.0)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(folder_module, "append_line", full)
    with pytest.raises(ConfigError, match="No space left on device; free some space"):
        done.label(0, True, "", "ann", 2.0)
    assert read_outcomes(done)[0].tag == "dropped"


def test_the_report_shows_the_tag_in_its_failure_table_and_what_it_left_out(done: SessionFolder) -> None:
    success = next(o for o in read_outcomes(done) if o.success)
    done.label(success.number, False, "wrong pose", "ann", 1.0)
    with (done.root / LABELS).open("ab") as file:
        file.write(b'{"trial":"three"}\n')
    html, data = write_report(done)
    page, content = html.read_text(), json.loads(data.read_text())
    assert '<td class="text">wrong pose</td>' in page.replace("\n", "")
    assert "labels.jsonl, line 2" in page
    own = next(p for p in content["policies"] if p["code"] == success.trial.code)
    assert sum(own["failures"]["wrong pose"].values()) == 1
    assert (own["labels_agree"], own["labels_differ"]) == (0, 1)
    done.label(success.number, False, "", "ann", 1.0)
    summary = next(s for s in analyse(done, read_outcomes(done)).summaries if s.code == success.trial.code)
    assert set(summary.failures) >= {"no tag given"}, "only a person says that it failed"


def test_what_the_graph_writes_is_what_the_command_writes(done: SessionFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    contract: Any = SimpleNamespace(
        interface_digest=done.plan.interface_digest, deployment_digest=done.plan.deployment_digest
    )
    monkeypatch.setattr("time.time", lambda: 5.0)
    trials = GraphTrials(done.root, contract)
    assert trials.failure_tags == done.plan.failure_tags
    trials.label(1, done.done[1].episode_id, False, "stuck", "ann")
    graph = (done.root / LABELS).read_bytes()
    (done.root / LABELS).unlink()
    done.label(1, False, "stuck", "ann", 5.0)
    assert (done.root / LABELS).read_bytes() == graph
    with pytest.raises(ConfigError, match="fell"):
        trials.label(1, done.done[1].episode_id, False, "fell", "ann")


@pytest.mark.parametrize(
    ("success", "tag", "words"), [(False, "wrong pose", "failure --tag 'wrong pose'"), (None, "", "unknown")]
)
def test_a_label_on_disk_of_a_run_names_the_evaluations_command(
    done: SessionFolder, success: bool | None, tag: str, words: str
) -> None:
    """`inril label DIR EPISODE` overwrote what the task had said."""
    before = done.paths.session.read_bytes()
    with pytest.raises(ConfigError, match=f"inril evaluate label .*session 2 {words}`"):
        label_offline(done.root, done.done[2].episode_id, success, "ann", 1, tag)
    assert done.paths.session.read_bytes() == before
