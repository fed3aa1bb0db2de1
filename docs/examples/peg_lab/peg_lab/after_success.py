"""A combine method: imitation until the policy has succeeded a few times, from then on RL."""

import torch
from pydantic import Field

from inril_core.finetune.contracts import CombineConfig, Combiner, StepResult
from inril_core.networks.flat import Adam


class Config(CombineConfig):
    """Settings, as a preset gives them under ``combine:``."""

    requires = (("rl", "actor_gradient"), ("il", "actor_gradient"))
    successes: int = Field(3, ge=0)
    """Training episodes that must have succeeded before RL moves the actor."""

    def build(self, actor, rl_lr):
        """See `CombineConfig.build`."""
        return AfterSuccess(self, actor, rl_lr)


class AfterSuccess(Combiner):
    """Takes the actor's steps."""

    def __init__(self, config, actor, rl_lr):
        super().__init__(actor)
        self.adams = {"actor": Adam(actor.value.numel(), rl_lr)}
        self.config, self.successes = config, torch.zeros(())

    def episode_finished(self, episode):
        """See `Combiner.episode_finished`."""
        self.successes += float(bool(episode.success))

    def step(self, rl, il):
        """See `Combiner.step`."""
        by_rl = bool(self.successes >= self.config.successes)
        gradient, metrics = rl() if by_rl else il()
        adam = self.adams["actor"]
        self.flat.value.sub_(adam.direction(gradient), alpha=adam.lr)
        return StepResult(metrics, metrics if by_rl else None)

    def state(self):
        """The optimizer's, and the count: a resumed run must be the same run."""
        return {**super().state(), "successes": self.successes}

    def load(self, state):
        """See `Combiner.load`."""
        super().load(state)
        self.successes.copy_(state["successes"])
