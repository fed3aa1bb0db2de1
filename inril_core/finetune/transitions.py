"""From a recorded episode to what the learner trains on."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from inril_core.data.episode import Episode
from inril_core.finetune.replay import Batch
from inril_core.policies import GaussianPolicy

Array = npt.NDArray[np.float32]
SOURCE_POLICY, SOURCE_HUMAN = 0, 1


@dataclass(frozen=True)
class Transitions:
    """Transitions of one episode.

    Attributes:
        batch: the usable ones, ``N`` rows.
        human: ``[N]``, a human was in control.
    """

    batch: Batch
    human: npt.NDArray[np.bool_]

    def of_human(self) -> Batch:
        """Only the rows with a human in control."""
        return self.rows(self.human)

    def rows(self, keep: npt.NDArray[np.bool_]) -> Batch:
        """The rows where ``keep [N]`` is true."""
        picks, b = torch.from_numpy(np.flatnonzero(keep)), self.batch
        return Batch(
            b.observations[picks],
            b.actions[picks],
            b.rewards[picks],
            b.discounts[picks],
            b.next_observations[picks],
        )


def usable_steps(episode: Episode) -> npt.NDArray[np.bool_]:
    """Which steps can be learned from, ``[T]``.

    Hold and reset are not actions of the policy's kind. The last step of an episode whose outcome nobody knows
    (unlabelled, or cut off by a crash) has no reward: unlabelled is not failure.
    """
    usable: npt.NDArray[np.bool_] = np.isin(episode.source, (SOURCE_POLICY, SOURCE_HUMAN))
    unknown = not episode.complete or (episode.success is None and not episode.truncated)
    if unknown and len(usable):
        usable[-1] = False
    return usable


def transitions(
    episode: Episode, rewards: Array, masks: Array, policy: GaussianPolicy, gamma: float, n_steps: int
) -> Transitions:
    """n-step transitions of the usable steps; a window ends at the episode's end or before an unusable step.

    reward = sum_i gamma^i r_{t+i}, discount = gamma^n * mask of the window's last step.

    Args:
        rewards, masks: ``[T]``, of the reward method.
        policy: its normaliser is applied to the observations.
    """
    usable = usable_steps(episode)
    starts = np.flatnonzero(usable)
    total, discount = np.zeros(len(starts), np.float32), np.zeros(len(starts), np.float32)
    following = np.zeros(len(starts), np.int64)
    for row, t in enumerate(starts):
        end = int(t) + 1
        while end < min(int(t) + n_steps, len(usable)) and usable[end]:
            end += 1
        weights = gamma ** np.arange(end - t)
        total[row] = np.dot(weights, rewards[t:end])
        discount[row] = gamma ** (end - t) * masks[end - 1]
        following[row] = end
    normalised = policy.normalise(torch.tensor(episode.observations))
    return Transitions(
        Batch(
            normalised[torch.from_numpy(starts)],
            torch.tensor(episode.actions[starts]),
            torch.from_numpy(total),
            torch.from_numpy(discount),
            normalised[torch.from_numpy(following)],
        ),
        episode.source[starts] == SOURCE_HUMAN,
    )
