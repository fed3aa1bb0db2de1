"""Behaviour cloning before fine-tuning: from demonstrations to the policy a run starts from."""

from collections.abc import Callable, Sequence

from inril_core.contract import Interface
from inril_core.data.episode import Episode
from inril_core.errors import ConfigError
from inril_core.finetune.checkpoint import refuse_empty
from inril_core.finetune.config import FineTuneConfig
from inril_core.finetune.il.bc import fit
from inril_core.finetune.key_poses import Seen, fit_encoder
from inril_core.finetune.learner import new_policy, seeded
from inril_core.finetune.memory.replay import Replay
from inril_core.finetune.memory.transitions import imitated_steps, shown_steps, shows_something, transitions
from inril_core.networks.compute import give_kernels, usable_device
from inril_core.networks.flat import FlatParameters
from inril_core.policies import Policy

_STREAM, _SEEING = 1, 4


def pretrain(
    config: FineTuneConfig,
    interface: Interface,
    demos: Sequence[Episode],
    on_update: Callable[[int, float], None] | None = None,
    on_encoder_update: Callable[[int, float], None] | None = None,
    on_seen: Callable[[Seen], None] | None = None,
) -> Policy:
    """A policy cloned from those ``demos`` that show something (`shows_something`); decided by them and
    ``config.seed``.

    A policy in which imitation can train nothing (a correction of a remote one) is only fitted with its normaliser.

    Args:
        on_update: told each update's index and loss.
        on_encoder_update, on_seen: the same of an encoder that is fitted before, and how good it is then; see
            `fit_encoder`.

    Raises:
        ConfigError: no successful demonstration, none with a step that can be imitated, one that is not fit to learn
            from, or this machine lacks the device.
    """
    device = usable_device(config.compute)
    policy = new_policy(config, interface, demos)
    shown = [demo for demo in demos if demo.purpose != "train" and shows_something(demo)]
    seen = fit_encoder(policy.to(device), shown, config.pretrain.encoder, seeded(config, _SEEING), on_encoder_update)
    if seen is not None and on_seen is not None:
        on_seen(seen)
    if not config.policy.imitates:
        return policy.to("cpu")
    flat = FlatParameters(p for p in policy.parameters() if p.requires_grad)
    il = config.il.build(policy, flat, seeded(config, _STREAM))
    give_kernels(config.compute, il)
    good = [demo for demo in demos if shows_something(demo)]
    p = config.pretrain
    for stage in policy.cloning_stages:
        policy.begin_cloning(stage)
        chunk = policy.imitation_chunk
        size = interface.action_size * chunk
        replay = Replay(sum(demo.steps for demo in good), policy.input_size, size, device, policy.pixels)
        for demo in good:
            rewards, masks = config.rewards.label(demo)
            try:
                kept = shown_steps(demo) & imitated_steps(demo)
                replay.add(transitions(demo, rewards, masks, policy, 0.0, chunk=chunk, keep=kept))
            except ValueError as error:
                raise ConfigError(
                    f"demonstration {demo.episode_id}: {error}; leave it out, or record it again"
                ) from error
        refuse_empty(demos, len(replay))
        fit(il, flat, replay, p.updates, p.batch, p.lr, on_update)
    return policy.to("cpu")
