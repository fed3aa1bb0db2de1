"""The simulator's own reward, step by step, as benchmarks of locomotion give it. A real cell has none."""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from inril_core.data.episode import Episode
from inril_core.errors import ConfigError
from inril_core.finetune.contracts import Array, RewardConfig
from inril_core.finetune.memory.transitions import acted_steps, last_acted


class Config(RewardConfig):
    """Settings of the simulator's reward."""

    method: Literal["simulator"]
    scale: float = Field(1.0, gt=0.0)
    """The rewards are multiplied by it, so that values stay near 1 (our choice: returns of thousands make the
    critics' first thousands of updates a search for the right size). `rl.target_range` MUST hold what such rewards
    add up to; the range of one success, 0 to 1, is refused."""

    def check(self, whole: Any) -> None:
        """See `MethodConfig.check`."""
        if whole.rl.value_bounds() == (0.0, 1.0):
            raise ConfigError(
                "rl.target_range = [0.0, 1.0] with rewards.method = 'simulator' cuts off the sum of a simulator's "
                "rewards; set it to null, or to bounds that are true of your task's returns"
            )

    def label(self, episode: Episode) -> tuple[Array, Array]:
        """See `RewardConfig.label`; the mask is 0 where the simulation ended by itself, a time limit bootstraps.

        What comes while the arm is held belongs to the last action before.

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
            masks[last_acted(episode)] = 0.0
        return (_of_actions(episode, episode.rewards) * np.float32(self.scale)).astype(np.float32), masks

    def informative(self, episode: Episode) -> npt.NDArray[np.bool_]:
        """See `RewardConfig.informative`: a success, and every reward other than the episode's most frequent one."""
        told = super().informative(episode)
        if episode.rewards is not None and episode.steps:
            values, counts = np.unique(episode.rewards, return_counts=True)
            told |= _of_actions(episode, episode.rewards != values[np.argmax(counts)]) > 0
        return told


def _of_actions(episode: Episode, given: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Numbers ``[T]``, each moved to the last action before it; those before the first action are dropped."""
    acted = np.flatnonzero(acted_steps(episode))
    moved = np.zeros(episode.steps, np.float64)
    if len(acted):
        moved[acted] = np.add.reduceat(given, acted, dtype=np.float64)
    return moved
