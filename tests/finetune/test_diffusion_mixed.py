"""Diffusion policies with the other parts: interleaved imitation, and a residual on top."""

import numpy as np
import pytest
import torch

from inril_core.finetune.config import FineTuneConfig, load_config
from inril_core.finetune.learner import Learner
from inril_core.finetune.local import collect_demos, fine_tune
from inril_core.finetune.pretrain import pretrain
from tests.finetune.planned_point import PlannedPoint

DIFFUSION = {"chunk": 2, "hidden": [16], "denoising_steps": 5, "finetuned_steps": 3, "inference_steps": 2}
SMALL = {
    "pretrain.updates": 30,
    "schedule.budget_steps": 200,
    "schedule.rewards_before_actor": 0,
    "metrics_every_updates": 1,
}


def settings(name: str) -> FineTuneConfig:
    small: dict[str, object] = dict(SMALL)
    if name == "idql_interleave":
        small |= {
            "schedule.warmup_steps": 30,
            "schedule.critic_warmup_updates": 2,
            "rl.batch": 16,
        }
        small |= {f"policy.{key}": value for key, value in DIFFUSION.items() if key != "finetuned_steps"}
    else:
        small |= {
            "rl.rollout_steps": 40,
            "rl.epochs": 1,
            "rl.minibatches": 2,
            "combine.rl_per_il": 1,
            "combine.il_steps": 2,
        }
    if name == "dppo_interleave":
        small |= {f"policy.{key}": value for key, value in DIFFUSION.items()}
    if name == "residual_ppo_network":
        small |= {"policy.base": {"kind": "diffusion", **DIFFUSION}, "policy.hidden": [8]}
    return load_config(name).changed(**small)


@pytest.mark.parametrize("name", ["dppo_interleave", "idql_interleave", "residual_ppo_network"])
def test_imitation_and_rl_alternate_on_a_diffusion_policy(tmp_path, name: str) -> None:
    """Pins: cloned plans cut to another length than valued ones, a base prepared or cloned through the residual."""
    task, config = PlannedPoint(), settings(name)
    demos = collect_demos(task, task.expert(), range(10_000, 10_004))
    policy = pretrain(config, task.interface, demos)
    before = {key: value.clone() for key, value in policy.named_parameters()}
    learner, curve = fine_tune(config, task, policy, demos, tmp_path, 0)
    assert learner.actor_updates > 0
    separate = name == "residual_ppo_network"
    assert separate or any("step_cosine" in metrics for _, metrics in curve.metrics)
    moved = {key for key, value in policy.named_parameters() if not torch.equal(value, before[key])}
    networks = {"network", "base.network"} & {key.split(".layers")[0] for key in moved}
    assert networks, "imitation reaches the denoising network"
    if separate:
        assert bool(policy.base.finetuning) and any(key.startswith("head") for key in moved)
        frozen = dict(policy.base.early.named_parameters())
        assert all(torch.equal(value, before[f"base.network.{key}"]) for key, value in frozen.items())
    again = Learner(config, task.interface, policy, demos, tmp_path / "again")
    action = again.policy.act(np.zeros(4, np.float32), False, np.random.default_rng(0)).action
    assert np.isfinite(action).all()
