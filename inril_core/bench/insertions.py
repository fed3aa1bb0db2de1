"""How often imitation can step in between RL updates: few insertions are no interleaving."""

from inril_core.finetune.config import FineTuneConfig
from inril_core.finetune.contracts import OnPolicyConfig


def rl_updates(config: FineTuneConfig) -> int:
    """RL updates of the actor that the step budget allows at most: gradient steps, on-policy whole iterations.

    At most: critics may wait for rewards, and an on-policy rollout is longer than it must be by a part of an episode.
    """
    schedule, rl = config.schedule, config.rl
    if isinstance(rl, OnPolicyConfig):
        return max(schedule.budget_steps // rl.rollout_steps - rl.critic_warmup_iterations, 0)
    return max(int(schedule.utd * (schedule.budget_steps - schedule.warmup_steps)), 0)


def planned(config: FineTuneConfig) -> tuple[int, int] | None:
    """Insertions of imitation and the IL steps in them that the step budget allows at most; None: the method inserts
    none."""
    return config.combine.insertions(rl_updates(config))
