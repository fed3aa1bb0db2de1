"""CAGrad on the RL and the IL loss with fixed weights (Liu et al., "Conflict-Averse Gradient Descent", arXiv
2110.14048).

CAGrad as published has no weights. Where losses are weighted before it, a weight hardly acts: the ball around the
average is filled along the gradient of the worse-off loss, which is the one that was made small. So the weights come
after it: with d = a g_RL + b g_IL, CAGrad's direction, the step is taken on 2 (lambda a g_RL + (1 - lambda) b g_IL). As
a and b are positive and do not depend on lambda, RL's share goes from 0 to 1 with it. At 1/2 this is CAGrad; elsewhere
its promise that neither loss rises, to first order, is given up for the weight. Of two gradients of one length, which
``normalise`` nearly makes them, CAGrad's direction is their sum: what it does beyond a weighted sum is then little.
"""

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from inril_core.finetune.combine.common.gradients import Scaling, cagrad_coefficients, weighted_sum
from inril_core.finetune.combine.common.joint import JointStep, Normalise, refuse_separated
from inril_core.finetune.contracts import CombineConfig
from inril_core.networks.flat import FlatParameters


class Config(CombineConfig):
    """Settings of CAGrad."""

    method: Literal["cagrad"]
    provides = frozenset({"rl_step"})
    requires = (("rl", "actor_gradient"), ("il", "actor_gradient"))
    c: float = Field(0.5, ge=0.0, lt=1.0)
    """Radius, as a share of the average's norm (the paper's RL experiments: 0.9 and 0.5). 0: a weighted sum."""
    scaling: Scaling = "none"
    """See `inril_core.finetune.combine.common.gradients.cagrad`."""
    rl_weight: float = Field(0.5, ge=0.0, le=1.0)
    """Lambda, weight of RL's part of CAGrad's direction; that of IL has 1 - lambda. 0.5: CAGrad."""
    normalise: Normalise = "loss"
    """Of the two gradients beforehand; see `inril_core.finetune.combine.common.joint`."""

    def check(self, whole: Any) -> None:
        """See `MethodConfig.check`."""
        refuse_separated(self.method, whole)

    def build(self, actor: FlatParameters, rl_lr: float) -> "Cagrad":
        """See `CombineConfig.build`."""
        return Cagrad(self, actor, rl_lr)


class Cagrad(JointStep):
    """The direction near the average that serves the worse-off loss best, its two parts weighted.

    Metric ``rl_share``: of RL in the joint gradient, by the lengths of the two parts that add up to it.
    """

    def __init__(self, config: Config, flat: FlatParameters, rl_lr: float) -> None:
        super().__init__(flat, rl_lr, config.normalise)
        self._cagrad = config

    @property
    def rl_weight(self) -> float:
        """See `JointStep.rl_weight`."""
        return self._cagrad.rl_weight

    def combine(self, g_rl: Tensor, g_il: Tensor, angle: float) -> tuple[Tensor, dict[str, float]]:
        """See `JointStep.combine`."""
        a, b = cagrad_coefficients([g_rl, g_il], self._cagrad.c, self._cagrad.scaling)
        a, b = 2.0 * self.rl_weight * a, 2.0 * (1.0 - self.rl_weight) * b
        of_rl, of_il = torch.stack(
            [f * torch.linalg.vector_norm(g.double()) for f, g in ((a, g_rl), (b, g_il))]
        ).tolist()
        metrics = {"rl_share": of_rl / (of_rl + of_il)} if of_rl + of_il > 0.0 else {}
        return weighted_sum([g_rl, g_il], (a, b)), metrics
