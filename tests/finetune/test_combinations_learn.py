"""The point is reached with each further combination and with takeovers as the only reward."""

import pytest

from inril_core.finetune.learner import new_policy
from inril_core.finetune.local import fine_tune
from tests.finetune.point_task import PointTask, contract, demos, small_config, success_rate
from tests.finetune.test_interveners import reference_critic

SHORT = {"schedule.budget_steps": 450, "schedule.warmup_steps": 100, "schedule.critic_warmup_updates": 100}


def run(tmp_path, preset: str, **changes):
    config = small_config(preset, **{**SHORT, **changes})
    policy = new_policy(config, contract(), demos())
    learner, _ = fine_tune(config, PointTask(), policy, demos(), tmp_path, 0)
    return success_rate(policy), learner


@pytest.mark.parametrize("preset", ["cair", "pcgrad", "cagrad"])
def test_the_point_reaches_the_origin_with_a_joint_step(tmp_path, preset: str) -> None:
    """Pins: a combination that loses one of its losses: an untrained policy reaches it 1 time in 30."""
    assert run(tmp_path, preset)[0] >= 0.9


def test_the_point_reaches_the_origin_when_rl_is_projected(tmp_path) -> None:
    """Pins: a projection that takes the RL step away altogether."""
    assert run(tmp_path, "interleave", **{"combine.projected": "rl"})[0] >= 0.9


def test_the_point_reaches_the_origin_on_takeovers_alone(tmp_path) -> None:
    """Pins: any broken link between a helper's takeover and the reward: the task's reward is never read."""
    reference_critic().save(tmp_path / "critic.safetensors")
    helper = {"kind": "value", "duration": 1, "critic": {"file": str(tmp_path / "critic.safetensors")}}
    success, learner = run(tmp_path / "run", "rlif", **{"rl.target_range": None, "interventions": helper})
    assert success >= 0.9
    rewards = learner.memories.replay.first(10_000).rewards
    assert set(rewards.tolist()) == {0.0, -1.0}
