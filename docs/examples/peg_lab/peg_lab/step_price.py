"""A reward: 1 for success, and each step costs."""

import numpy as np
from pydantic import Field

from inril_core.errors import ConfigError
from inril_core.finetune.contracts import RewardConfig


class Config(RewardConfig):
    """Settings, as a preset gives them under ``rewards:``."""

    price: float = Field(0.01, ge=0.0, le=1.0)
    """Of each step."""

    def check(self, whole):
        """See `MethodConfig.check`: values down to that of paying for ever must not be clipped."""
        least, bounds = -self.price / (1.0 - whole.rl.gamma), whole.rl.value_bounds()
        if bounds is not None and bounds[0] > least:
            raise ConfigError(f"rewards.price = {self.price}: give rl.target_range a low end of {least:.3g} or less")

    def label(self, episode):
        """See `RewardConfig.label`. Only success or failure ends the value; a time limit does not."""
        rewards = np.full(episode.steps, -self.price, np.float32)
        masks = np.ones(episode.steps, np.float32)
        if episode.success:
            rewards[-1] += 1.0
        if episode.terminated:
            masks[-1] = 0.0
        return rewards, masks
