"""The task's own reward: 1 for the action that brings success, 0 otherwise."""

from typing import Literal

import numpy as np

from inril_core.data.episode import Episode
from inril_core.finetune.methods import Array, RewardConfig


class Config(RewardConfig):
    """No settings."""

    method: Literal["task"]

    def label(self, episode: Episode) -> tuple[Array, Array]:
        """Rewards ``[T]`` and masks ``[T]`` of an episode; the mask is 1 where the value bootstraps.

        A time limit truncates: the mask of the last step stays 1. Success or failure of the task terminates:
        it is 0. Recordings hold facts only, so this is computed at ingestion and can be changed later.
        """
        steps = len(episode.actions)
        rewards, masks = np.zeros(steps, np.float32), np.ones(steps, np.float32)
        if steps and episode.complete and (episode.success or episode.terminated):
            rewards[-1] = 1.0 if episode.success else 0.0
            masks[-1] = 0.0
        return rewards, masks
