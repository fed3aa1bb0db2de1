"""Pins: an evaluation through the graph that loses or repeats a trial, or in which other weights act than planned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from inril_core.contract import load_contract
from inril_core.data.episode import SOURCE_HUMAN
from inril_core.evaluation.session.analysis import analyse
from inril_core.evaluation.session.folder import SessionFolder
from inril_core.evaluation.session.make import Wish, make_session
from inril_core.evaluation.session.outcomes import read_outcomes
from inril_core.policies import policy_config, save_policy
from tests.graph.harness import GraphRun

pytestmark = pytest.mark.timeout(500)
TRIALS_S = 300.0


def untrained(path: Path, seed: int) -> str:
    task = load_contract("insert_leg")
    torch.manual_seed(seed)
    policy = policy_config({"kind": "gaussian", "hidden": [16]}).build(task.observation_size, task.action_size)
    save_policy(path, policy, {"interface_digest": task.interface_digest, "contract_text": task.text})
    return str(path)


def ended(graph: GraphRun) -> set[str]:
    return {result.episode_id for result in graph.results()}


def runs(graph: GraphRun) -> str:
    """The episode that runs and has not ended; empty: none does."""
    said = graph.status("session")
    return said.episode_id if said.state == "running" and said.episode_id not in ended(graph) else ""


def test_trials_survive_kills_and_each_is_answered_by_the_planned_weights(tmp_path: Path) -> None:
    subjects = {"one": untrained(tmp_path / "a", 1), "two": untrained(tmp_path / "b", 2), "scripted": "expert"}
    root = tmp_path / "session"
    wish = Wish("insert_leg", subjects, "one", {"full": 2, "narrow": 1}, 0.3)
    plan = make_session(root, wish, np.random.default_rng(3))
    with GraphRun("evaluate", root, arm_at_start=True) as graph:
        graph.until(lambda: len(graph.results()) >= 2, "two trials", TRIALS_S)
        for _ in range(3):
            running = graph.until(lambda: runs(graph), "one that runs")
            graph.kill("session_node")
            if running not in ended(graph):  # on a slow machine it may have ended between the look and the kill
                break
        graph.until(lambda: len(SessionFolder(root).done) >= 4, "two more trials", TRIALS_S)
        graph.kill("policy_node")
        graph.until(lambda: graph.status("arbiter").faults or len(graph.results()) > 5, "what comes of it", TRIALS_S)
        graph.arm()
        assert graph.finished(TRIALS_S) == 0
        assert graph.inril("evaluate", "unseal", str(root)).returncode == 0

    folder = SessionFolder(root)
    done = folder.done
    assert sorted(done) == list(range(len(plan.trials))) and len(plan.trials) == 9
    assert [r.index for r in folder.results if r.valid] == sorted(done), "each counts once, in the plan's order"
    assert running in {begun.episode_id for begun in folder.interrupted()}, "the killed trial is on record"
    outcomes = read_outcomes(folder)
    for outcome in outcomes:
        subject = folder.sealed.subjects[outcome.trial.code]
        episode = graph.episode(outcome.result.episode_id)
        assert (outcome.result.seed, episode.seed) == (outcome.trial.seed, outcome.trial.seed)
        assert episode.qpos is not None and episode.steps == outcome.result.steps
        if subject.kind == "expert":
            assert (episode.source == SOURCE_HUMAN).all() and outcome.success and not outcome.helped
        else:
            assert set(episode.policy_n) == {plan.version_n(outcome.trial.code)}
    by_block: dict[int, set[bytes]] = {}
    for outcome in outcomes:
        start = graph.episode(outcome.result.episode_id).observations[0].tobytes()
        by_block.setdefault(outcome.trial.block, set()).add(start)
    assert all(len(starts) == 1 for starts in by_block.values()), "all policies of a block meet the same start"
    for summary in analyse(folder, outcomes).summaries:
        if summary.name != "scripted":
            assert "the kept pack has their digest" in summary.weights_proof
