"""Pins: a fine-tuning run that ends with weights it has ruined, though it once had good ones."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from inril_core.errors import ConfigError
from inril_core.evaluation.guard import GuardVerdict
from inril_core.finetune.guarded import PEAK_NAME, GuardedLearner
from inril_core.finetune.learner import Learner, new_policy
from inril_core.finetune.local import evaluate, fine_tune, succeeds
from inril_core.finetune.pretrain import pretrain
from tests.finetune.point_task import PointTask, demos, small_config

GUARD = {"every_episodes": 10, "screen_trials": 5, "record_trials": 10, "confirm_pairs": 20}
SEEDS = range(50_000, 50_030)


def ruinous(on_fall: str):
    """A learning rate that no policy survives."""
    changes = {"rl.actor_lr": 0.5, "rl.critic_lr": 0.1, "pretrain.updates": 1500}
    values = small_config("rl_only", **changes).model_dump(mode="json") | {"guard": {**GUARD, "on_fall": on_fall}}
    return type(small_config()).model_validate(values)


def test_a_ruined_run_ends_with_its_best_weights(tmp_path: Path) -> None:
    task, config = PointTask(), ruinous("resume")
    policy = pretrain(config, task.interface, demos(20))
    before = sum(evaluate(task, policy, SEEDS))
    assert before >= 24, "a start that is worth keeping"
    _, curve = fine_tune(config, task, policy, demos(20), tmp_path, 2_000_000)
    assert any(check.verdict is GuardVerdict.FALLEN for check in curve.guard)
    assert sum(evaluate(task, policy, SEEDS)) >= before - 3, "within 10 points of the best"


def test_without_a_guard_the_same_run_is_ruined(tmp_path: Path) -> None:
    task, config = PointTask(), ruinous("resume").model_copy(update={"guard": None})
    policy = pretrain(config, task.interface, demos(20))
    fine_tune(config, task, policy, demos(20), tmp_path, 2_000_000)
    assert sum(evaluate(task, policy, SEEDS)) <= 15


def test_a_pinned_run_ends_at_the_fall(tmp_path: Path) -> None:
    task, config = PointTask(), ruinous("pin")
    policy = pretrain(config, task.interface, demos(20))
    learner, curve = fine_tune(config, task, policy, demos(20), tmp_path, 2_000_000)
    assert curve.guard[-1].verdict is GuardVerdict.FALLEN and not learner.done


def test_looking_changes_nothing(tmp_path: Path) -> None:
    """The guard's trials act with a copy: the learner's policy and its mode stay."""
    task, config = PointTask(), small_config()
    policy = new_policy(config, task.interface, demos(3))
    learner = Learner(config, task.interface, policy, demos(3), tmp_path)
    before = learner.snapshot()
    guard = GuardedLearner(ruinous("pin").guard, learner, partial(succeeds, task))
    guard.keep_peak()
    after = learner.snapshot()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def ruin(learner: Learner) -> None:
    """What a learning rate can do in one update."""
    with torch.no_grad():
        for parameter in learner.policy.parameters():
            parameter.fill_(3.0)


def test_the_peak_outlives_the_process(tmp_path: Path) -> None:
    """Killed after the peak, started again with ruined weights: the fall is found against the peak of before."""
    task, config = PointTask(), ruinous("pin")
    assert config.guard is not None
    policy = pretrain(config, task.interface, demos(20))
    learner = Learner(config, task.interface, policy, demos(20), tmp_path)
    learner.published(7)
    GuardedLearner(config.guard, learner, partial(succeeds, task), tmp_path).keep_peak()
    best = learner.snapshot()
    ruin(learner)
    learner.published(8)
    again = GuardedLearner(config.guard, learner, partial(succeeds, task), tmp_path)
    assert not again.due and "version 7" in again.describe()
    assert again.keep_peak() and again.pinned and not again.due
    assert all(torch.equal(tensor, best[name]) for name, tensor in learner.snapshot().items())
    once_more = GuardedLearner(config.guard, learner, partial(succeeds, task), tmp_path)
    assert once_more.pinned and "version 8 had fallen" in once_more.describe()


def test_a_peak_that_is_damaged_on_disk_is_named(tmp_path: Path) -> None:
    task, config = PointTask(), ruinous("pin")
    assert config.guard is not None
    learner = Learner(config, task.interface, new_policy(config, task.interface, demos(3)), demos(3), tmp_path)
    (tmp_path / PEAK_NAME).write_bytes(b"no tensors")
    with pytest.raises(ConfigError, match=PEAK_NAME):
        GuardedLearner(config.guard, learner, partial(succeeds, task), tmp_path)
