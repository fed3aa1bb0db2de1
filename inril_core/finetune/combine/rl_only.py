"""RL without imitation: the comparison's base line."""

from typing import Literal

from inril_core.finetune.contracts import CombineConfig, Combiner, GradientSource, StepResult
from inril_core.networks.flat import Adam, FlatParameters


class Config(CombineConfig):
    """No settings."""

    method: Literal["rl_only"]
    provides = frozenset({"rl_step"})
    requires = (("rl", "actor_gradient"),)

    def build(self, actor: FlatParameters, rl_lr: float) -> "RlOnly":
        """See `CombineConfig.build`."""
        return RlOnly(actor, rl_lr)


class RlOnly(Combiner):
    """One Adam step on the RL gradient."""

    def __init__(self, flat: FlatParameters, rl_lr: float) -> None:
        super().__init__(flat)
        self.adams = {"rl": Adam(flat.value.numel(), rl_lr)}

    def step(self, rl: GradientSource, il: GradientSource) -> StepResult:
        """See `Combiner.step`."""
        adam = self.adams["rl"]
        gradient, metrics = rl()
        self.flat.value.sub_(adam.direction(gradient), alpha=adam.lr)
        return StepResult(metrics, metrics)
