"""RL without imitation: the comparison's base line."""

from typing import Literal

from inril_core.finetune.combine.base import Combiner, GradientSource
from inril_core.finetune.methods import MethodConfig
from inril_core.networks.flat import Adam, FlatParameters


class Config(MethodConfig):
    """No settings."""

    method: Literal["rl_only"]
    provides = frozenset({"rl_step"})
    requires = (("rl", "actor_gradient"),)

    def build(self, flat: FlatParameters, rl_lr: float) -> "RlOnly":
        """The combination; ``rl_lr`` is the RL method's actor learning rate."""
        return RlOnly(flat, rl_lr)


class RlOnly(Combiner):
    """One Adam step on the RL gradient."""

    def __init__(self, flat: FlatParameters, rl_lr: float) -> None:
        super().__init__(flat)
        self.adams = {"rl": Adam(flat.value.numel(), rl_lr)}

    def step(self, rl: GradientSource, il: GradientSource) -> dict[str, float]:
        """See `Combiner.step`."""
        adam = self.adams["rl"]
        gradient, metrics = rl()
        self.flat.value.sub_(adam.direction(gradient), alpha=adam.lr)
        return metrics
