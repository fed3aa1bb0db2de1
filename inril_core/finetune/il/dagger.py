"""DAgger (Ross et al., "A Reduction of Imitation Learning and Structured Prediction to No-Regret Online Learning",
AISTATS 2011, algorithm 3.1): the policy acts, and an expert says for every visited state what it would have done."""

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from inril_core.data.episode import SOURCE_HUMAN, Episode
from inril_core.errors import ConfigError
from inril_core.finetune.contracts import OffPolicyConfig, Signal
from inril_core.finetune.il import bc
from inril_core.finetune.il.hg_dagger import refuse_other_growth
from inril_core.policies import PolicyConfig


class Config(bc.Config):
    """Settings of behaviour cloning. The expert is that of the ``interventions``."""

    method: Literal["dagger"]  # type: ignore[assignment]

    def lives_on(self) -> frozenset[Signal]:
        """See `MethodConfig.lives_on`."""
        return frozenset({"answers"})

    def check(self, whole: Any) -> None:
        """See `MethodConfig.check`."""
        refuse_other_growth(whole)
        if whole.interventions is None:
            raise ConfigError(
                "il.method = 'dagger' needs an expert who answers at every step, which only a simulated one in an "
                "in-process run does; set interventions.kind to 'none' (nobody takes over, the expert is asked), or "
                "choose il.method 'hg_dagger'"
            )
        self._refuse_plans(whole.policy)
        if isinstance(whole.rl, OffPolicyConfig) and whole.rl.demo_share > 0.0:
            raise ConfigError(
                f"rl.demo_share = {whole.rl.demo_share} with il.method = 'dagger': relabelled actions were never "
                "executed, so no critic can learn from them; set rl.demo_share to 0"
            )

    def _refuse_plans(self, policy: PolicyConfig) -> None:
        steps = (policy.trained_base() or policy).plan_steps()
        if steps > 1:
            raise ConfigError(
                f"policy.chunk = {steps} with il.method = 'dagger': answers to single steps, each in a state "
                "that the policy's own actions led to, are no plan; choose il.method 'hg_dagger', or a policy without "
                "plans"
            )

    def aggregate(self, episode: Episode) -> tuple[Episode, npt.NDArray[np.bool_]]:
        """The episode with the expert's actions in place of the executed ones, and where there are any ``[T]``.

        Raises:
            ConfigError: nobody asked an expert.
        """
        if episode.expert_actions is None:
            raise ConfigError(
                f"episode {episode.episode_id}: il.method = 'dagger' needs what an expert would have done at every "
                "step, which this recording does not have; run it in-process, or choose il.method 'hg_dagger'"
            )
        asked = np.isfinite(episode.expert_actions).all(1)
        actions = np.where(asked[:, None], episode.expert_actions, episode.actions).astype(np.float32)
        human = np.full(episode.steps, SOURCE_HUMAN, np.uint8)  # an answer of the expert's begins at every step
        return replace(episode, actions=actions, source=human, chunk_index=None), asked
