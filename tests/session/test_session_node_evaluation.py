"""Pins: the wiring of an evaluation in session_node: weights are chosen, starts and purposes are two things."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from inril_common.node import NodeFinished
from inril_common.qos import LATCHED
from inril_msgs.msg import PolicyStatus
from inril_msgs.srv import RollBack

from inril_core.evaluation.session.folder import SessionFolder
from inril_core.evaluation.session.make import Wish, make_session
from inril_core.session.states import ExitCode
from inril_core.vocabulary import Purpose
from tests.control.test_policy_node_evaluation import save
from tests.session.test_session_node import session


def test_the_planned_trials_are_run_in_order(tmp_path: Path) -> None:
    subjects = {"one": save(tmp_path / "1", 1), "scripted": "expert"}
    plan = make_session(tmp_path / "s", Wish("insert_leg", subjects, "one", {"full": 1, "narrow": 1}, 0.3))
    folder = SessionFolder(tmp_path / "s")
    chosen: list[int] = []
    with session(tmp_path / "s", evaluation=True, expects_policy=True) as graph:
        status = graph.node.create_publisher(PolicyStatus, "policy_status", LATCHED)
        acting = PolicyStatus(active_n=9, pending_n=-1)

        def roll_back(request: RollBack.Request, response: Any) -> Any:
            chosen.append(request.n)
            acting.active_n, response.success = request.n, True
            return response

        graph.node.create_service(RollBack, "policy/roll_back", roll_back)
        graph.node.create_timer(0.05, lambda: status.publish(acting))
        with pytest.raises(NodeFinished) as finished:
            closed: set[str] = set()

            def close_running() -> bool:
                for episode_id in set(graph.begun) - closed:
                    if graph.status[-1].state == "running" and graph.status[-1].episode_id == episode_id:
                        closed.add(episode_id)
                        graph.close(episode_id, True, True, "cell")
                return False

            graph.answer.working = False
            graph.until(close_running, "the end")
    assert finished.value.code == ExitCode.FINISHED
    n = plan.version_n(next(c for c, s in folder.sealed.subjects.items() if s.kind == "weights"))
    assert chosen == [n], "asked once: it acts already in the later trials"
    assert [b.episode_id for b in folder.begun] == [r.episode_id for r in folder.results] == graph.begun
    for trial, reset, result in zip(plan.trials, graph.resets, folder.results, strict=True):
        expert = folder.sealed.subjects[trial.code].kind == "expert"
        assert (reset.seed, result.seed, result.valid) == (trial.seed, trial.seed, True)
        assert reset.purpose == (Purpose.DEMO if expert else Purpose.EVAL)
        assert reset.starts == (Purpose.DEMO if trial.level == "narrow" else Purpose.EVAL)
        assert result.version_n == (-1 if expert else n)
    assert np.all([result.success for result in folder.results])
