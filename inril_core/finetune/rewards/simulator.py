"""The simulator's own reward, step by step, as benchmarks of locomotion give it. A real cell has none."""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from inril_core.data.episode import Episode
from inril_core.errors import ConfigError
from inril_core.finetune.contracts import Array, RewardConfig


class Config(RewardConfig):
    """Settings of the simulator's reward.

    Attributes:
        scale: the rewards are multiplied by it, so that values stay near 1 (our choice: returns of thousands make the
            critics' first thousands of updates a search for the right size). `rl.target_range` MUST hold what such
            rewards add up to; the range of one success, 0 to 1, is refused.
    """

    method: Literal["simulator"]
    scale: float = Field(1.0, gt=0.0)

    def check(self, whole: Any) -> None:
        """See `MethodConfig.check`."""
        if whole.rl.value_bounds() == (0.0, 1.0):
            raise ConfigError(
                "rl.target_range = [0.0, 1.0] with rewards.method = 'simulator' cuts off the sum of a simulator's "
                "rewards; set it to null, or to bounds that are true of your task's returns"
            )

    def label(self, episode: Episode) -> tuple[Array, Array]:
        """See `RewardConfig.label`; the mask is 0 where the simulation ended by itself, a time limit bootstraps.

        Raises:
            ConfigError: the episode holds no rewards.
        """
        if episode.rewards is None:
            raise ConfigError(
                f"rewards.method = 'simulator': episode {episode.episode_id} of task {episode.task} holds no rewards; "
                "use rewards: {method: task}, or a simulator that gives them"
            )
        masks = np.ones(episode.steps, np.float32)
        if episode.complete and episode.terminated:
            masks[-1] = 0.0
        return (episode.rewards * np.float32(self.scale)).astype(np.float32), masks

    def informative(self, episode: Episode) -> npt.NDArray[np.bool_]:
        """See `RewardConfig.informative`: a success, and every reward other than the episode's most frequent one."""
        told = super().informative(episode)
        if episode.rewards is not None and episode.steps:
            values, counts = np.unique(episode.rewards, return_counts=True)
            told |= episode.rewards != values[np.argmax(counts)]
        return told
