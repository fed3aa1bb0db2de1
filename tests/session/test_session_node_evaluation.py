"""Pins: the wiring of an evaluation in session_node: weights are chosen, starts and purposes are two things."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from inril_common.node import NodeFinished
from inril_common.qos import LATCHED
from inril_msgs.msg import EpisodeEvent, PolicyStatus
from inril_msgs.srv import LabelEpisode, RollBack, SessionCommand

from inril_core.evaluation.session.folder import SessionFolder
from inril_core.evaluation.session.make import Wish, make_session
from inril_core.session.states import ExitCode
from inril_core.vocabulary import Purpose
from tests.control.test_policy_node_evaluation import save
from tests.session.test_session_node import Graph, session


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


def label(graph: Graph, episode_id: str, word: int, tag: str = "", by: str = "anna") -> LabelEpisode.Response:
    request = LabelEpisode.Request(episode_id=episode_id, label=word, tag=tag, by=by)
    return graph.bench.call(LabelEpisode, "session/label_episode", request)


def test_an_operators_word_and_tag_are_in_the_evaluations_folder_before_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "s"
    wish = Wish("insert_leg", {"scripted": "expert"}, "scripted", {"full": 3}, 0.3, failure_tags=("lost", "wrong pose"))
    make_session(root, wish)
    failure, success, unknown = (getattr(EpisodeEvent, f"LABEL_{word}") for word in ("FAILURE", "SUCCESS", "UNKNOWN"))

    def said() -> list[tuple[bool | None, str, str]]:
        """As who opens the folder after a kill sees it."""
        return [(label.success, label.tag, label.by) for label in SessionFolder(root).labels.values()]

    with session(root, evaluation=True) as graph:
        graph.answer.working = False
        graph.until(lambda: graph.status and graph.status[-1].state == "running", "a trial")
        assert (graph.status[-1].trials, list(graph.status[-1].failure_tags)) == (3, ["lost", "wrong pose"])
        first = graph.begun[0]
        refused = label(graph, first, failure, "lost")
        assert not refused.success and "is not over" in refused.message
        graph.close(first, True, True, "cell")
        graph.until(lambda: len(graph.begun) == 2 and graph.status[-1].state == "running", "the next")

        for word, tag, why in (
            (failure, "fell", "give one of lost, wrong pose"),
            (success, "lost", "with a failure only"),
            (failure, "lost\n", "give one of lost, wrong pose"),
        ):
            refused = label(graph, first, word, tag)
            assert not refused.success and why in refused.message
        assert "is no episode" in label(graph, "another", failure, "lost").message
        assert not said()
        with monkeypatch.context() as patched:
            patched.setattr("inril_core.evaluation.session.folder.append_line", _full)
            refused = label(graph, first, failure, "lost")
            assert not refused.success and "No space left on device; free some space" in refused.message

        graph.until(lambda: len(graph.events) == 3, "begin, end, begin")
        assert label(graph, first, failure, "lost").success
        assert said() == [(False, "lost", "anna")]
        graph.until(lambda: graph.events[-1].event == EpisodeEvent.LABEL, "the event")
        assert (graph.events[-1].episode_id, graph.events[-1].label) == (first, failure)
        assert label(graph, first, success, by="bert").success
        assert said() == [(True, "", "bert")]
        assert label(graph, first, unknown).success and said() == []
        assert label(graph, first, failure, "wrong pose").success

        refused = graph.tell(SessionCommand.Request.FAILURE, by="anna", tag="fell")
        assert not refused.success and graph.status[-1].state == "running"
        assert graph.tell(SessionCommand.Request.FAILURE, by="anna", tag="lost").success
        graph.until(lambda: len(graph.begun) == 3, "the last")

    folder = SessionFolder(root)
    assert [(folder.labels[e].tag, folder.done[n].success) for n, e in enumerate(graph.begun[:2])] == [
        ("wrong pose", True),
        ("lost", False),
    ], "what the task said stays"
    with session(root, evaluation=True) as graph:  # as after a kill: it goes on, and knows the earlier trials
        assert label(graph, first, failure, "lost", "bert").success
        assert SessionFolder(root).labels[first].by == "bert"


def _full(*_: object) -> None:
    raise OSError(28, "No space left on device")
