"""Pins: weights that act an episode too early or too late where the learner works while the next episode runs."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from inril_core.finetune.config import FineTuneConfig
from inril_core.finetune.learner import Learner, new_policy
from inril_core.finetune.local import evaluate, fine_tune, policy_actor, run_episode
from inril_core.policies import Policy
from inril_core.tasks.base import TaskStep
from tests.finetune.point_task import PointTask, demos, small_config

FIRST_SEED = 1000


def short(lag: int) -> FineTuneConfig:
    schedule = {"lag_episodes": lag, "budget_steps": 150, "warmup_steps": 30, "critic_warmup_updates": 10}
    return small_config(**{f"schedule.{name}": value for name, value in schedule.items()})


class Noting(PointTask):
    """The point's task, noting the actions of each episode."""

    def __init__(self) -> None:
        self.acted: list[list[np.ndarray]] = []

    def reset(self, seed: int, purpose: str = "train") -> np.ndarray:
        self.acted.append([])
        return super().reset(seed, purpose)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, TaskStep]:
        self.acted[-1].append(action.copy())
        return super().step(action)


def after_each_episode(config: FineTuneConfig, folder: Path) -> tuple[list[list[np.ndarray]], Policy]:
    """Actions of each episode and the last weights, written out: episode k acts with the policy after k - 1 - lag."""
    task, shown = Noting(), demos()
    learner = Learner(config, task.interface, new_policy(config, task.interface, shown), shown, folder)
    trained = [copy.deepcopy(learner.policy)]  # after so many episodes
    while not learner.done:
        number = len(trained) - 1
        acts = trained[max(0, number - config.schedule.lag_episodes)]
        seed = FIRST_SEED + number
        learner.ingest(run_episode(task, policy_actor(acts, seed, True), seed, "train", True, config.name))
        while learner.updates < learner.updates_due:
            learner.train_step()
        trained.append(copy.deepcopy(learner.policy))
    return task.acted, trained[-1]


@pytest.mark.parametrize("lag", [0, 1])
def test_an_episode_acts_with_the_weights_of_so_many_episodes_before(lag: int, tmp_path: Path) -> None:
    config = short(lag)
    task, shown = Noting(), demos()
    policy = new_policy(config, task.interface, shown)
    learner, curve = fine_tune(config, task, policy, shown, tmp_path / "run", FIRST_SEED)
    expected, last = after_each_episode(config, tmp_path / "written_out")
    assert len(curve.episodes) == len(expected) == len(task.acted) > 8
    for ours, theirs in zip(task.acted, expected, strict=True):
        np.testing.assert_array_equal(np.stack(ours), np.stack(theirs))
    for name, tensor in last.state_dict().items():
        assert torch.equal(policy.state_dict()[name], tensor)
    assert learner.version == learner.updates, "the last updates act at the end"


def test_the_last_evaluation_is_of_the_last_weights(tmp_path: Path) -> None:
    """Pins: a run that is reported with the weights before its last updates."""
    config, noting, again = short(lag=1), Noting(), Noting()
    shown, seeds = demos(), range(50_000, 50_004)
    policy = new_policy(config, noting.interface, shown)
    fine_tune(config, noting, policy, shown, tmp_path, FIRST_SEED, eval_seeds=seeds)
    evaluate(again, policy, seeds)
    for ours, theirs in zip(noting.acted[-len(seeds) :], again.acted, strict=True):
        np.testing.assert_array_equal(np.stack(ours), np.stack(theirs))
