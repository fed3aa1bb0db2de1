"""What a learner is put together from: the policy and the methods that train it."""

from dataclasses import dataclass

import torch

from inril_core.finetune.config import FineTuneConfig
from inril_core.finetune.contracts import Combiner, IlMethod, OffPolicyRl, OnPolicyRl, RewardModel, RlMethod
from inril_core.finetune.memory.buffers import ReplayBuffers
from inril_core.networks.compute import compiled, give_kernels, usable_device
from inril_core.networks.flat import FlatParameters
from inril_core.plugins import check_made
from inril_core.policies import Policy


@dataclass(frozen=True)
class Parts:
    """The policy, the methods that train it, and what they train it on."""

    config: FineTuneConfig
    policy: Policy
    actor: FlatParameters
    """The policy's trained parameters."""
    rl: RlMethod
    il: IlMethod
    combine: Combiner
    reward: RewardModel | None
    buffers: ReplayBuffers
    generator: torch.Generator
    """All noise of training is drawn from it."""


def build_parts(config: FineTuneConfig, policy: Policy, action_size: int, generator: torch.Generator) -> Parts:
    """Move ``policy`` to its device and build the methods on it.

    Raises:
        ConfigError: there is no such device, or a method builds something else than its contract says.
    """
    device = usable_device(config.compute)
    policy.to(device)
    policy.prepare_finetuning()
    actor = FlatParameters(p for p in policy.parameters() if p.requires_grad)
    reward = config.rewards.model(policy)
    if reward is not None:
        check_made(reward, RewardModel, f"rewards.method = {config.rewards.method!r}")
    rl = config.rl.build(policy, actor, generator, reward)
    rl_kind = OnPolicyRl if config.rl.collection == "on_policy" else OffPolicyRl
    check_made(rl, rl_kind, f"rl.method = {config.rl.method!r}")
    il = config.il.build(policy, actor, generator)
    check_made(il, IlMethod, f"il.method = {config.il.method!r}")
    combine = config.combine.build(actor, config.rl.actor_lr)
    check_made(combine, Combiner, f"combine.method = {config.combine.method!r}")
    give_kernels(config.compute, rl, il, combine)
    compiled(config.compute, policy, rl, il)
    buffers = ReplayBuffers(config, policy, action_size, device)
    return Parts(config, policy, actor, rl, il, combine, reward, buffers, generator)
