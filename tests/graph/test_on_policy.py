"""Pins: every kind of RL over DDS: a version per rollout, plans and their denoising chains on the wire, and the same
numbers as in one process."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from inril_core.contract import load_contract
from inril_core.data import read_episode
from inril_core.data.episode import Episode
from inril_core.data.store import EpisodeStore
from inril_core.finetune.config import load_config
from inril_core.finetune.demos import read_demos
from inril_core.finetune.local import fine_tune
from inril_core.finetune.pretrain import pretrain
from inril_core.networks.compute import use_one_thread
from inril_core.policies import load_policy, save_policy
from inril_core.session.plan import episode_seed
from inril_core.tasks import make_task
from tests.graph.conftest import Start
from tests.graph.harness import GraphRun

pytestmark = pytest.mark.timeout(400)
PLAN_S = 200.0
ON_POLICY = """
pretrain: {updates: 200}
schedule: {budget_steps: 240, rewards_before_actor: 0}
rl: {rollout_steps: 80, epochs: 2, minibatches: 2, critic_warmup_iterations: 0}
metrics_every_updates: 2
"""
PRESETS = {
    "residual_ppo": f"base: residual_ppo\n{ON_POLICY}",
    "dppo_interleave": f"base: dppo_interleave\n{ON_POLICY}combine: {{rl_per_il: 1, il_steps: 2}}\n",
    "idql_interleave": """
base: idql_interleave
pretrain: {updates: 200}
schedule: {budget_steps: 240, rewards_before_actor: 0, warmup_steps: 60, critic_warmup_updates: 20, utd: 0.5}
combine: {rl_per_il: 2}
metrics_every_updates: 2
""",
}


@pytest.mark.parametrize("name", PRESETS)
def test_the_graph_is_the_in_process_run_bit_for_bit(name: str, start: Start, tmp_path: Path) -> None:
    preset, weights, run_dir = tmp_path / "preset.yaml", tmp_path / "initial.safetensors", tmp_path / "run"
    preset.write_text(f"name: small\n{PRESETS[name]}")
    config, contract = load_config(preset), load_contract("insert_leg")
    demos = read_demos(start.demos, contract, print)
    facts = {"interface_digest": contract.interface_digest, "contract_text": contract.text}
    save_policy(weights, pretrain(config, contract, demos), facts)
    arguments = {**start.arguments(), "preset": preset, "initial_weights": weights}
    with GraphRun("finetune", run_dir, plan="train:240:steps", **arguments) as graph:
        assert graph.finished(PLAN_S) == 0
        results = graph.results()
    assert all(r.valid and r.late_ticks == 0 for r in results)

    policy, _ = load_policy(weights)
    store = EpisodeStore(run_dir / "episodes")
    recorded = [read_episode(store.path(r.episode_id)) for r in results]
    for episode in recorded:
        assert len(set(episode.policy_n)) == 1
        assert list(episode.chunk_index) == [step % policy.chunk for step in range(episode.steps)]
    if config.rl.collection == "on_policy":
        _versions_come_with_full_rollouts(recorded, run_dir)

    use_one_thread()
    acted: list[list[np.ndarray]] = []

    class Noting:
        """The task, noting what was observed."""

        def __init__(self) -> None:
            self.task = make_task("insert_leg")
            self.interface, self.success_ends = self.task.interface, self.task.success_ends

        def reset(self, seed: int, purpose: str = "train") -> np.ndarray:
            acted.append([self.task.reset(seed, purpose)])
            return acted[-1][0]

        def step(self, action: np.ndarray):
            row, outcome = self.task.step(action)
            acted[-1].append(row)
            return row, outcome

    fine_tune(config, Noting(), policy, demos, tmp_path / "local", episode_seed("train", 0, 0))
    for episode, rows in zip(recorded, acted, strict=True):
        np.testing.assert_array_equal(episode.observations, np.stack(rows))


def _versions_come_with_full_rollouts(recorded: list[Episode], run_dir: Path) -> None:
    versions, steps = [int(e.policy_n[0]) for e in recorded], 0
    for episode, following in zip(recorded, versions[1:], strict=False):
        steps += episode.steps
        full = steps >= 80
        assert (following != int(episode.policy_n[0])) == full, "a new version comes with a full rollout, not before"
        steps = 0 if full else steps
    metrics = [json.loads(line) for line in (run_dir / "learner" / "metrics.jsonl").read_text().splitlines()]
    assert metrics and metrics[-1]["rejected_steps"] == 0
