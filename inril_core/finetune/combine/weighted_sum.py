"""RL loss plus a weighted IL loss in one step: the common base line."""

from typing import Any, Literal

import torch
from pydantic import Field

from inril_core.finetune.combine.common.gradients import cosine
from inril_core.finetune.combine.common.joint import refuse_separated
from inril_core.finetune.contracts import CombineConfig, Combiner, GradientSource, StepResult
from inril_core.networks.flat import Adam, FlatParameters


class Config(CombineConfig):
    """Settings."""

    method: Literal["weighted_sum"]
    provides = frozenset({"rl_step"})
    requires = (("rl", "actor_gradient"), ("il", "actor_gradient"))
    il_weight: float = Field(0.5, ge=0.0)
    """Weight of the imitation loss beside the RL loss."""

    def check(self, whole: Any) -> None:
        """See `MethodConfig.check`."""
        refuse_separated(self.method, whole)

    def build(self, actor: FlatParameters, rl_lr: float) -> "WeightedSum":
        """See `CombineConfig.build`."""
        return WeightedSum(actor, rl_lr, self.il_weight)


class WeightedSum(Combiner):
    """One Adam step on g_RL + w g_IL."""

    def __init__(self, flat: FlatParameters, rl_lr: float, il_weight: float) -> None:
        super().__init__(flat)
        self.il_weight = il_weight
        self.adams = {"rl": Adam(flat.value.numel(), rl_lr)}

    def step(self, rl: GradientSource, il: GradientSource) -> StepResult:
        """See `Combiner.step`."""
        adam = self.adams["rl"]
        gradient, metrics = rl()
        g_rl = gradient.clone()
        g_il, il_metrics = il()
        angle = cosine(g_rl, g_il, self.kernels)
        direction = adam.direction(torch.add(g_rl, g_il, alpha=self.il_weight))
        self.flat.value.sub_(direction, alpha=adam.lr)
        cosines = {"gradient_cosine": angle, "step_cosine": cosine(direction, g_rl, self.kernels)}
        return StepResult({**metrics, **il_metrics, **cosines}, metrics)
