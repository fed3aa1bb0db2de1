"""RLIF (Luo et al., "RLIF: Interactive Imitation Learning as Reinforcement Learning", ICLR 2024, arXiv 2311.12996):
a takeover is the only reward.

Only the policy's last step before a takeover is punished; what the human does in it is not, and nothing of the task is
used: no reward and, with the default ``terminate``, no end either. In the authors' code the last transition of an
episode never enters replay, so it never sees a terminal mask.
"""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from inril_core.data.episode import SOURCE_HOLD, SOURCE_HUMAN, SOURCE_POLICY, SOURCE_RESET, Episode
from inril_core.errors import ConfigError
from inril_core.finetune.contracts import Array, RewardConfig, Signal
from inril_core.finetune.memory.transitions import last_acted
from inril_core.vocabulary import outcome_word


def intervention_rewards(source: npt.ArrayLike) -> Array:
    """The reward of each step, ``float32[T]``: -1 on the policy's last step before a human one, 0 elsewhere.

    A hold between the two (the policy's answer came late, a limit stopped the arm, the person waited) changes nothing:
    the policy had control, and it was taken from it. After a reset nobody had.

    Args:
        source: ``[T]``, whole numbers: who was in control; 0 policy, 1 human, 2 hold, 3 reset.

    Raises:
        ValueError: not one-dimensional, not whole numbers, or a number that stands for nobody.
    """
    steps = np.asarray(source)
    if steps.ndim != 1:
        raise ValueError(f"source has shape {steps.shape}: must be one-dimensional, one number per step")
    if len(steps) == 0:
        return np.zeros(0, np.float32)
    if not np.issubdtype(steps.dtype, np.integer):
        raise ValueError(f"source is {steps.dtype}: must be whole numbers (0 policy, 1 human, 2 hold, 3 reset)")
    wrong = (steps < SOURCE_POLICY) | (steps > SOURCE_RESET)
    if wrong.any():
        step = int(np.argmax(wrong))
        raise ValueError(f"source[{step}] = {steps[step]}: must be 0 policy, 1 human, 2 hold or 3 reset")
    rewards = np.zeros(len(steps), np.float32)
    moving = np.flatnonzero(steps != SOURCE_HOLD)
    before, after = steps[moving[:-1]], steps[moving[1:]]
    rewards[moving[:-1][(before == SOURCE_POLICY) & (after == SOURCE_HUMAN)]] = -1.0
    return rewards


class Config(RewardConfig):
    """Settings of RLIF's reward."""

    method: Literal["rlif"]
    requires = (("combine", "rl_step"),)
    reasons = {"rl_step": "only RL looks at this reward; choose a combine method with RL, e.g. rl_only"}
    form: Literal["minus_one", "zero_one"] = "minus_one"
    """``minus_one``: -1 before a takeover, else 0 (the paper's practical form); ``zero_one``: 0 and 1 (its theory).
    They differ by a constant, and so in what an early end is worth."""
    terminate: Literal["never", "success", "failure"] = "never"
    """Which end of an episode has no value beyond it. ``never``: RLIF, which sees nothing of the task. The other two
    tell the critics how the task ended, which needs somebody who knows. ``success``: with ``minus_one``, since nobody
    intervenes any more; ``failure``: with ``zero_one``, since no more rewards come. The other two pairs would pay for
    dying early, or for not succeeding, and are refused. Time limits always bootstrap."""
    store_expert_steps: Literal["all", "last", "none"] = "all"
    """Which human steps of training episodes enter replay, with reward 0 (or 1): ``all`` (the paper), ``last`` of
    each takeover (what the authors' code comes to), ``none``. Demonstrations do with ``schedule.demos_in_replay``."""

    def lives_on(self) -> frozenset[Signal]:
        """See `MethodConfig.lives_on`."""
        return frozenset({"takeovers"})

    def check(self, whole: Any) -> None:
        """See `MethodConfig.check`."""
        if self.terminate == ("failure" if self.form == "minus_one" else "success"):
            why = "an early failure escapes the punishments" if self.form == "minus_one" else "success ends the rewards"
            raise ConfigError(
                f"rewards.terminate = {self.terminate!r} with rewards.form = {self.form!r}: {why}; "
                "set rewards.terminate to 'never'"
            )
        limits = whole.rl.value_bounds()
        bound = 1.0 / (1.0 - whole.rl.gamma)
        low, high = (-bound, 0.0) if self.form == "minus_one" else (0.0, bound)
        if limits is not None and (limits[0] > low + 1e-6 or limits[1] < high - 1e-6):
            raise ConfigError(
                f"rl.target_range = {list(limits)} cuts off the values of rewards.method = 'rlif', which lie in "
                f"[{low:.2f}, {high:.2f}]; set it to null or to that"
            )

    def label(self, episode: Episode) -> tuple[Array, Array]:
        """See `RewardConfig.label`."""
        rewards, masks = intervention_rewards(episode.source), np.ones(episode.steps, np.float32)
        if self.form == "zero_one":
            rewards += 1.0
        if episode.complete and (episode.terminated or episode.success):
            ended = outcome_word(bool(episode.success))
            masks[last_acted(episode)] = 0.0 if ended == self.terminate else 1.0
        return rewards, masks

    def informative(self, episode: Episode) -> npt.NDArray[np.bool_]:
        """See `RewardConfig.informative`: the policy's last steps before a takeover."""
        informative: npt.NDArray[np.bool_] = intervention_rewards(episode.source) != 0.0
        return informative

    def keep(self, episode: Episode) -> npt.NDArray[np.bool_] | None:
        """See `RewardConfig.keep`."""
        if self.store_expert_steps == "all":
            return None
        human = episode.source == SOURCE_HUMAN
        if self.store_expert_steps == "none":
            return ~human
        continues = np.append(human[1:], False)
        return ~(human & continues)
