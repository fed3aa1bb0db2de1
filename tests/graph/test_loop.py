"""Pins: the loop itself. Demonstrations over DDS, lockstep, update-to-data ratio, pushes that act, resume, takeover."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from inril_core.contract import load_contract
from inril_core.data import read_episode
from inril_core.data.episode import SOURCE_HUMAN, SOURCE_POLICY
from inril_core.data.store import EpisodeStore
from inril_core.tasks.families.cell import CellEnv
from tests.graph.conftest import Start
from tests.graph.harness import GraphRun

pytestmark = pytest.mark.timeout(400)
PLAN_S = 200.0
"""Longest that a short plan may take on two busy cores; nothing is asserted about it."""


def test_demonstrations_went_over_dds_as_the_human_and_are_complete(start: Start) -> None:
    store = EpisodeStore(start.demos / "episodes")
    episodes = [read_episode(store.path(entry.episode_id)) for entry in store.entries()]
    assert len(episodes) == 3
    for episode in episodes:
        assert episode.complete and episode.success and episode.purpose == "demo"
        assert (episode.source == SOURCE_HUMAN).all()
        assert len(episode.observations) == episode.steps + 1
        assert episode.images["front"].shape == (episode.steps + 1, 84, 84, 3)
        assert len(np.unique(episode.images["front"].reshape(episode.steps + 1, -1), axis=0)) > 1, "a still camera"


def test_lockstep_is_the_simulation_bit_for_bit(start: Start) -> None:
    """The graph adds nothing to the numbers: the executed actions, replayed in one process, give what was recorded."""
    store = EpisodeStore(start.demos / "episodes")
    env = CellEnv(load_contract("insert_leg"))
    for entry in store.entries():
        episode = read_episode(store.path(entry.episode_id))
        rows = [env.reset(episode.seed, "demo")]
        rows += [env.step(action)[0] for action in episode.proposed]
        np.testing.assert_array_equal(np.stack(rows), episode.observations)


def test_finetuning_holds_the_ratio_pushes_and_resumes(start: Start, preset: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    arguments = {**start.arguments(), "preset": preset}
    plan = "eval:1:episodes,train:150:steps"
    with GraphRun("finetune", run_dir, plan=plan, **arguments) as graph:
        assert graph.finished(PLAN_S) == 0
        results = graph.results()
    trained = [r for r in results if r.purpose == "train"]
    assert [r.purpose for r in results][0] == "eval"
    assert sum(r.steps for r in trained) >= 150
    assert all(r.valid and r.late_ticks == 0 for r in results)
    assert trained[-1].version_n > trained[0].version_n == 0, "pushed weights act in later episodes"

    ingested = [json.loads(line) for line in (run_dir / "learner" / "ingest.jsonl").read_text().splitlines()]
    assert {line["episode_id"] for line in ingested} == {r.episode_id for r in trained}, (
        "evaluation is not learned from"
    )
    store = EpisodeStore(run_dir / "episodes")
    for result in results:
        episode = read_episode(store.path(result.episode_id))
        assert (episode.steps, bool(episode.success)) == (result.steps, result.success)
        assert (episode.source == SOURCE_POLICY).all()
        assert set(episode.policy_n) == {result.version_n}, "weights are swapped whole, between episodes"

    with GraphRun("finetune", run_dir, plan=plan + ",train:50:steps", **arguments) as graph:
        graph.until(lambda: graph.status("learner"), "the resumed learner", PLAN_S)
        resumed = graph.status("learner")
        assert graph.finished(PLAN_S) == 0
        again = graph.results()
    steps = sum(r.steps for r in trained)
    assert resumed.ingested_steps >= steps
    assert resumed.updates >= 40 + steps - 60, "one update per step after the warm-up, none lost in the restart"
    assert again[: len(results)] == results
    assert again[-1].version_n > results[-1].version_n


def test_takeover_in_mid_episode_is_the_humans_and_hands_back(start: Start, tmp_path: Path) -> None:
    """Pins: a robot that jumps at the takeover, and control that changes without being recorded."""
    with GraphRun(
        "deploy",
        tmp_path / "run",
        plan="train:1:episodes",
        real_time_factor=0.0,
        device_settings="{takeover_steps: [4, 8]}",
        initial_weights=start.weights,
        arm_at_start=True,
    ) as graph:
        assert graph.finished(PLAN_S) == 0
        episode = graph.episodes()[0]
    assert list(episode.source[:10]) == [SOURCE_POLICY] * 4 + [SOURCE_HUMAN] * 4 + [SOURCE_POLICY] * 2
    contract = load_contract("insert_leg")
    jumps_m = np.linalg.norm(np.diff(episode.tool_pose[:11, :3], axis=0), axis=1)
    leash_m = contract.action.windup_translation_m + contract.action.translation_scale_m * 3**0.5
    assert jumps_m.max() < leash_m
    assert np.isfinite(episode.log_prob[4:8]).all(), "the policy answers in the shadow while the human acts"
