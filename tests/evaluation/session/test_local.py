"""Pins: a session that is killed at any moment loses no trial and repeats none; what acts is what was planned."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from inril_core.errors import ConfigError
from inril_core.evaluation.session.analysis import analyse
from inril_core.evaluation.session.folder import SessionFolder
from inril_core.evaluation.session.local import WrongWeights, run_locally
from inril_core.evaluation.session.outcomes import Trace, finished, pairs_with, read_outcomes
from inril_core.evaluation.statistics.comparison import Verdict
from tests.evaluation.session.made import WatchedPointTask, session, weights

KILLED = """
import os, signal, sys
from pathlib import Path
from inril_core.evaluation.session.folder import SessionFolder
from inril_core.evaluation.session.local import run_locally
from tests.evaluation.session.made import WatchedPointTask

class Dying(WatchedPointTask):
    left = int(sys.argv[2])
    def step(self, action):
        Dying.left -= 1
        if Dying.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(action)

run_locally(SessionFolder(Path(sys.argv[1])), lambda line: None, Dying())
"""


def test_kill_9_loses_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    folder = session(tmp_path)
    killed = 0
    for left in (7, 30, 31, 55):
        command = [sys.executable, "-c", KILLED, str(folder.root), str(left)]
        done = subprocess.run(command, cwd=Path(__file__).parents[3], env=os.environ | {"PYTHONPATH": "."}, timeout=120)
        killed += done.returncode == -signal.SIGKILL
    assert killed == 4
    before = {number: result.episode_id for number, result in folder.done.items()}
    run_locally(folder, lambda line: None)
    results = folder.results
    assert [r.index for r in results] == list(range(24)), "each trial once, in order"
    assert {n: r.episode_id for n, r in folder.done.items() if n in before} == before
    interrupted = folder.interrupted()
    assert len(interrupted) == 4, "each kill is on record"
    for begun in interrupted:
        again = folder.done[begun.trial]
        assert again.episode_id != begun.episode_id and again.seed == folder.plan.trials[begun.trial].seed
    assert analyse(folder, read_outcomes(folder)).interrupted == 4
    calm = session(tmp_path / "calm") if (tmp_path / "calm").mkdir() is None else folder
    run_locally(calm, lambda line: None)
    assert [(r.seed, r.steps, r.success) for r in calm.results] == [(r.seed, r.steps, r.success) for r in results]


def test_a_torn_last_line_is_not_a_result(tmp_path: Path) -> None:
    folder = session(tmp_path)
    run_locally(folder, lambda line: None)
    path = folder.paths.session
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert not finished(folder)
    run_locally(folder, lambda line: None)
    assert len(folder.done) == 24 and finished(folder)


def test_policies_meet_the_same_starts(tmp_path: Path) -> None:
    folder = session(tmp_path, starts={"full": 6, "narrow": 6})
    run_locally(folder, lambda line: None)
    outcomes = read_outcomes(folder)
    starts: dict[int, set[tuple[float, ...]]] = {}
    for outcome in outcomes:
        assert isinstance(outcome.trace, Trace) and len(outcome.trace.tool_position_m) == outcome.result.steps + 1
        starts.setdefault(outcome.trial.block, set()).add(tuple(outcome.trace.tool_position_m[0]))
    assert all(len(places) == 1 for places in starts.values()) and len({*map(frozenset, starts.values())}) == 12
    assert len(pairs_with(outcomes, "A", "B")) == 12


def test_exchanged_weights_do_not_act(tmp_path: Path) -> None:
    folder = session(tmp_path)
    code = next(c for c, s in folder.sealed.subjects.items() if s.kind == "weights")
    weights(folder.sealed.subjects[code].file(folder.root), seed=9)
    with pytest.raises(WrongWeights, match=f"{folder.root}.*holds other weights.*restore it") as refused:
        run_locally(folder, lambda line: None)
    assert folder.begun == [] and f"policy {code}" not in str(refused.value), "a digest beside a code ends the blinding"


def test_a_wild_answer_is_an_outcome_and_not_a_gap(tmp_path: Path) -> None:
    class Refusing(WatchedPointTask):
        def step(self, action):
            if self._step == 3:
                raise ValueError("action: must be 6 finite numbers")
            return super().step(action)

    folder = session(tmp_path)
    run_locally(folder, lambda line: None, Refusing())
    stopped = [o for o in read_outcomes(folder) if o.safety_stop]
    assert len(folder.done) == 24 and stopped
    assert all(not o.success and o.tag == "safety stop" and o.result.steps == 3 for o in stopped)


def test_a_sequential_session_stops_when_it_knows(tmp_path: Path) -> None:
    folder = session(tmp_path, starts={"full": 200}, sequential=True)
    run_locally(folder, lambda line: None)
    assert len(folder.done) < 200 and len(folder.done) % 2 == 0 and finished(folder)
    folder.unseal("me", "", 0.0, finished(folder))
    compared = analyse(folder, read_outcomes(folder)).comparisons[0]
    assert compared.comparison.verdict is Verdict.BETTER and compared.comparison.interval.low > 0
    run_locally(folder, lambda line: None)
    assert len(SessionFolder(folder.root).done) < 200, "it stays decided"


def test_another_task_than_planned_is_refused(tmp_path: Path) -> None:
    folder = session(tmp_path)
    task = WatchedPointTask()
    other = task.interface.model_dump(mode="json") | {"control_rate_hz": 20.0}
    task.interface = type(task.interface).model_validate(other)
    with pytest.raises(ConfigError, match="not the one that was planned"):
        run_locally(folder, lambda line: None, task)
