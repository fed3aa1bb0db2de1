"""CAGrad on the RL and the IL loss with fixed weights (Liu et al., "Conflict-Averse Gradient Descent", arXiv
2110.14048)."""

from typing import Any, Literal

from pydantic import Field
from torch import Tensor

from inril_core.finetune.combine.common.gradients import Scaling, cagrad
from inril_core.finetune.combine.common.joint import JointStep, Normalise, refuse_separated
from inril_core.finetune.contracts import CombineConfig
from inril_core.networks.flat import FlatParameters


class Config(CombineConfig):
    """Settings of CAGrad.

    Attributes:
        c: radius, as a share of the average's norm (the paper's RL experiments: 0.9 and 0.5). 0: a weighted sum.
        scaling: see `inril_core.finetune.combine.common.gradients.cagrad`.
        rl_weight: lambda, weight of the RL loss; the IL loss has 1 - lambda.
        weighted: where lambda enters: ``gradients``: they are scaled, so that it also decides who counts as the worst
            off; ``average``: it sets the point g0 that is searched around, alone.
        normalise: of the two gradients beforehand; see `inril_core.finetune.combine.common.joint`.
    """

    method: Literal["cagrad"]
    provides = frozenset({"rl_step"})
    requires = (("rl", "actor_gradient"), ("il", "actor_gradient"))
    c: float = Field(0.5, ge=0.0, lt=1.0)
    scaling: Scaling = "none"
    rl_weight: float = Field(0.5, ge=0.0, le=1.0)
    weighted: Literal["gradients", "average"] = "gradients"
    normalise: Normalise = "loss"

    def check(self, whole: Any) -> None:
        """See `MethodConfig.check`."""
        refuse_separated(self.method, whole)

    def build(self, actor: FlatParameters, rl_lr: float) -> "Cagrad":
        """See `CombineConfig.build`."""
        return Cagrad(self, actor, rl_lr)


class Cagrad(JointStep):
    """The direction near the weighted sum that serves the worse-off loss best."""

    def __init__(self, config: Config, flat: FlatParameters, rl_lr: float) -> None:
        super().__init__(flat, rl_lr, config.normalise)
        self._cagrad = config

    @property
    def rl_weight(self) -> float:
        """See `JointStep.rl_weight`."""
        return self._cagrad.rl_weight

    def combine(self, g_rl: Tensor, g_il: Tensor, angle: float) -> tuple[Tensor, dict[str, float]]:
        """See `JointStep.combine`."""
        c, share = self._cagrad, self.rl_weight
        if c.weighted == "average":
            return cagrad([g_rl, g_il], c.c, c.scaling, (share, 1.0 - share)), {}
        # twice the mean of the scaled gradients is their weighted sum
        return 2.0 * cagrad([share * g_rl, (1.0 - share) * g_il], c.c, c.scaling), {}
