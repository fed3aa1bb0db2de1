"""Pins: a learner on another host, with a run folder of its own, whose weights the robot never takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.domains import own_domain
from tests.graph.conftest import Start
from tests.graph.harness import START_S, GraphRun

pytestmark = pytest.mark.timeout(500)
PLAN_S = 300.0


def test_a_learner_with_the_robots_run_id_teaches_it(start: Start, preset: Path, tmp_path: Path) -> None:
    given = {"run_id": "pair", "initial_weights": start.weights}
    learning = {**given, "demos": start.demos, "preset": preset}
    acting = {**given, "plan": "train:120:steps", "arm_at_start": True}
    with (
        own_domain() as domain,
        GraphRun("finetune_robot", tmp_path / "robot", domain=domain, **acting) as robot,
        GraphRun("finetune_learner", tmp_path / "learner", domain=domain, **learning) as learner,
    ):
        assert robot.graph_id() != learner.graph_id()
        robot.until(lambda: (s := robot.status("policy")) and s.active_n > 0, "pushed weights to act", PLAN_S)
        assert robot.status("policy").active_run_id == "pair"
        assert robot.finished(PLAN_S) == 0
        trained = {result.episode_id for result in robot.results() if result.valid}
        log = learner.paths.learner / "ingest.jsonl"

        def ingested() -> set[str]:
            lines = log.read_text().splitlines() if log.exists() else []
            return {json.loads(line)["episode_id"] for line in lines}

        assert ingested() and ingested() <= trained
        assert not list(robot.paths.learner.glob("*")) and not list(learner.paths.episodes.glob("*"))
        learner.until(lambda: (s := learner.status("learner")) and s.run_id == "pair", "the learner", START_S)
        assert learner.stop() == 130
    assert "refused" not in learner.status("learner").reason
