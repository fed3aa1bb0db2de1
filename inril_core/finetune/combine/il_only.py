"""Imitation without RL: shows what more imitation alone would give."""

from typing import Literal

from pydantic import Field

from inril_core.finetune.contracts import CombineConfig, Combiner, GradientSource, StepResult
from inril_core.networks.flat import Adam, FlatParameters


class Config(CombineConfig):
    """Settings."""

    method: Literal["il_only"]
    requires = (("il", "actor_gradient"),)
    il_lr: float = Field(1e-4, gt=0.0)
    """Learning rate of the imitation step."""

    def build(self, actor: FlatParameters, rl_lr: float) -> "IlOnly":
        """See `CombineConfig.build`."""
        return IlOnly(actor, self.il_lr)


class IlOnly(Combiner):
    """One Adam step on the IL gradient."""

    uses_rl = False

    def __init__(self, flat: FlatParameters, il_lr: float) -> None:
        super().__init__(flat)
        self.adams = {"il": Adam(flat.value.numel(), il_lr)}

    def step(self, rl: GradientSource, il: GradientSource) -> StepResult:
        """See `Combiner.step`."""
        adam = self.adams["il"]
        gradient, metrics = il()
        self.flat.value.sub_(adam.direction(gradient), alpha=adam.lr)
        return StepResult(metrics, il_steps=1)
