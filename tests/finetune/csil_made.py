"""CSIL on the point task: its parts on an untrained policy, and its presets made small."""

import torch

from inril_core.finetune.config import FineTuneConfig, load_config
from inril_core.finetune.memory.replay import Batch
from inril_core.finetune.methods import method_config
from inril_core.finetune.rewards.csil import Config as RewardConfig
from inril_core.networks.flat import FlatParameters
from inril_core.policies import policy_config

D, A, B = 4, 3, 32
HETSTAT = {"kind": "hetstat", "hidden": [24], "features": 24, "bottleneck": 6, "log_scale_init": 0.0}


def make(reward: dict | None = None, policy: dict | None = None, **changes):
    """The method with its reward, on an untrained policy whose head is not zero."""
    torch.manual_seed(0)
    made = policy_config(policy or {"kind": "gaussian", "hidden": [8]}).build(D, A)
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.3 * torch.randn_like(p))
    values = {"method": "csil", "hidden": (8, 8), "gamma": 0.9, "sarsa_updates": 0, "batch": B, **changes}
    method = method_config("rl", values).build(
        made, FlatParameters(made.parameters()), torch.Generator().manual_seed(1)
    )
    method.reward = RewardConfig(**{"method": "csil", **(reward or {})}).model(made)
    return method, made


def batch(demos: int = B // 2) -> Batch:
    g = torch.Generator().manual_seed(5)
    rows = [torch.randn((B, D), generator=g) for _ in range(2)]
    actions = [torch.rand((B, A), generator=g) * 1.8 - 0.9 for _ in range(2)]
    discounts = 0.9 * (torch.rand(B, generator=g) < 0.7).float()
    return Batch(rows[0], actions[0], torch.zeros(B), discounts, rows[1], actions[1], demos)


def small(method: str = "csil", **changes) -> FineTuneConfig:
    values = {
        "rl.hidden": [24, 24],
        "rl.batch": 32,
        "rl.gamma": 0.9,
        "rl.sarsa_updates": 60,
        "rl.sarsa_lr": 2e-3,
        "il.batch": 32,
        "pretrain.updates": 250,
        "pretrain.batch": 64,
        "pretrain.lr": 5e-3,
        "schedule.warmup_steps": 40,
        "schedule.budget_steps": 160,
        "schedule.utd": 1.0,
        "metrics_every_updates": 10,
        **changes,
    }
    config = load_config(method).changed(**values)
    return config.changed(policy=HETSTAT) if config.policy.kind == "hetstat" else config
