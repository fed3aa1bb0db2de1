"""CSIL and CSIL++ as a whole: cloned skill is kept from the first update on, composed and resumed too."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from inril_core.errors import ConfigError
from inril_core.finetune.config import FineTuneConfig, load_config
from inril_core.finetune.learner import Learner
from inril_core.finetune.pretrain import pretrain
from inril_core.policies import Memory, exploration_rng
from tests.finetune.csil_made import HETSTAT, small
from tests.finetune.point_task import contract, policy_roll, roll, success_rate


def fine_tune(learner: Learner, first: int, steps: int) -> int:
    seed = first
    while learner.ingested_steps < steps:
        learner.ingest(policy_roll(learner.policy, seed))
        seed += 1
        while learner.updates < learner.updates_due:
            learner.train_step()
    return seed


COMPOSED = {
    "kind": "residual",
    "base": {"kind": "gaussian", "hidden": [24]},
    "learned": HETSTAT,
    "freeze_base": True,
}
PRESETS = ("csil", "csilpp", "csilpp_average", "csilpp_residual")


def config_of(preset: str) -> FineTuneConfig:
    config = small(preset)
    if config.policy.kind == "hetstat":
        return config
    return config.changed(policy={**COMPOSED, "mode": config.policy.mode})


@pytest.mark.parametrize("preset", PRESETS)
def test_what_was_cloned_is_kept_from_the_first_update_on(preset: str, tmp_path, shown) -> None:
    """Pins the dip: after the first updates, and at the end, the point still arrives; and an update really ran."""
    config = config_of(preset)
    policy = pretrain(config, contract(), shown)
    start = success_rate(policy, 20)
    learner = Learner(config, contract(), policy, shown, tmp_path)
    before = torch.cat([p.detach().flatten() for p in policy.learned_part.parameters()])
    base = None if policy.learned_part is policy else {n: t.clone() for n, t in policy.base.state_dict().items()}
    next_seed = fine_tune(learner, 0, 50)
    early = success_rate(policy, 20)
    fine_tune(learner, next_seed, 85)
    assert start >= 0.9 and early >= start - 0.1 and success_rate(policy, 20) >= start - 0.1
    after = torch.cat([p.detach().flatten() for p in policy.learned_part.parameters()])
    assert learner.actor_updates > 20 and not torch.equal(before, after)
    assert "reward_over_bound" in learner.last_metrics and "prior_kl" in learner.last_metrics
    if base is not None:
        assert all(torch.equal(base[name], tensor) for name, tensor in policy.base.state_dict().items())


def test_a_poor_clone_gets_better_by_its_own_reward(tmp_path, shown) -> None:
    """Pins: any broken link from the learned reward to the actor, which a policy that just stays would hide."""
    quick = {"rl.actor_lr": 3e-3, "rl.critic_lr": 3e-3, "rl.temperature": 0.0, "rl.tau": 0.02}
    config = small("csil", **quick, **{"schedule.budget_steps": 1200})
    policy = pretrain(config, contract(), shown[:2])
    start = success_rate(policy, 40)
    fine_tune(Learner(config, contract(), policy, shown[:2], tmp_path), 0, 1200)
    assert start <= 0.6 and success_rate(policy, 40) >= 0.9


def test_a_base_that_plans_ahead_is_one_line(tmp_path, shown) -> None:
    """The frozen base is a diffusion policy with chunks; the learned part is cloned and acts every step."""
    base = {"kind": "diffusion", "hidden": [16], "chunk": 3, "denoising_steps": 4, "inference_steps": 2}
    config = small("csilpp_average", **{"pretrain.updates": 20, "rl.sarsa_updates": 5, "schedule.warmup_steps": 10})
    config = config.changed(policy={**COMPOSED, "mode": "average", "base": base}, **{"schedule.budget_steps": 20})
    policy = pretrain(config, contract(), shown[:4])
    assert policy.chunk == 1 and policy.plan_steps == 3
    learner = Learner(config, contract(), policy, shown[:4], tmp_path)
    before = {name: t.clone() for name, t in policy.state_dict().items()}
    memory = Memory()
    episode = roll(lambda row, step: policy.act(row, True, exploration_rng(0, step), memory).action, 0)
    learner.ingest(replace(episode, terminated=False, truncated=True))
    while learner.updates < learner.updates_due:
        learner.train_step()
    moved = {n.split(".")[0] for n, t in policy.state_dict().items() if not torch.equal(t, before[n])}
    assert moved == {"learned"}


@pytest.mark.parametrize("preset", ["csil", "csilpp_average"])
def test_resume_equals_never_having_stopped(preset: str, tmp_path, shown) -> None:
    def run(name: str, stop: bool) -> dict[str, torch.Tensor]:
        config = config_of(preset).changed(**{"pretrain.updates": 20, "rl.sarsa_updates": 10})

        def fresh() -> Learner:
            return Learner(config, contract(), pretrain(config, contract(), shown[:3]), shown[:3], tmp_path / name)

        learner = fresh()
        act = np.random.default_rng(0).uniform(-0.6, 0.6, (7, 15, 6))
        for index in range(7):
            if stop and index == 5:
                learner.checkpoint()
                learner = fresh()
                learner.resume()
            learner.ingest(roll(lambda row, step, i=index: act[i, step], index))
            while learner.updates < learner.updates_due:
                learner.train_step()
        assert learner.actor_updates > 20
        return {**learner.policy_state(), **{f"rl.{k}": t for k, t in learner.parts.rl.state().items()}}

    plain, stopped = run("a", False), run("b", True)
    assert all(torch.equal(plain[name], stopped[name]) for name in plain)


@pytest.mark.parametrize(
    "preset, changes, words",
    [
        ("csil", {"rewards": {"method": "task"}}, "rewards.method: csil"),
        ("rl_only", {"rewards": {"method": "csil"}}, "rl.method: csil or csilpp"),
        ("csil", {"policy": {"kind": "residual", "base": {"kind": "gaussian"}}}, "policy.learned"),
        ("csil", {"policy": {**COMPOSED, "freeze_base": False}}, "policy.freeze_base: true"),
        ("csil", {"rl.prior": "uniform", "rl.kl": "exact"}, "needs rl.prior"),
        ("csil", {"rl.batch": 2, "rl.demo_share": 0.1}, "too small"),
        ("csil", {"il.action_limit": 0.9}, "give both the same"),
        ("csil", {"combine": {"method": "il_only"}}, "needs 'rl_step' from combine"),
    ],
)
def test_pairs_that_cannot_work_are_refused_with_the_reason(preset: str, changes: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_config(preset).changed(**changes)
