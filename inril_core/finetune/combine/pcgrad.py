"""PCGrad on the RL and the IL loss (Yu et al., "Gradient Surgery for Multi-Task Learning", arXiv 2001.06782)."""

from typing import Any, Literal

from torch import Tensor

from inril_core.finetune.combine.common.gradients import pcgrad
from inril_core.finetune.combine.common.joint import JointStep, Normalise, refuse_separated
from inril_core.finetune.contracts import CombineConfig
from inril_core.networks.flat import FlatParameters


class Config(CombineConfig):
    """Settings."""

    method: Literal["pcgrad"]
    provides = frozenset({"rl_step"})
    requires = (("rl", "actor_gradient"), ("il", "actor_gradient"))
    normalise: Normalise = "loss"
    """Of the two gradients beforehand; see `inril_core.finetune.combine.common.joint`."""

    def check(self, whole: Any) -> None:
        """See `MethodConfig.check`."""
        refuse_separated(self.method, whole)

    def build(self, actor: FlatParameters, rl_lr: float) -> "Pcgrad":
        """See `CombineConfig.build`."""
        return Pcgrad(actor, rl_lr, self.normalise)


class Pcgrad(JointStep):
    """The mean of both gradients, each without what conflicts with the other."""

    def combine(self, g_rl: Tensor, g_il: Tensor, angle: float) -> tuple[Tensor, dict[str, float]]:
        """See `JointStep.combine`."""
        return pcgrad([g_rl, g_il]), {}
