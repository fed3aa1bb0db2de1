"""CAIR, "Conflict-Averse IL-RL" (TMLR submission 6891), re-implemented from its abstract.

A convex combination (1 - lambda) L_IL + lambda L_RL whose RL weight goes up while the RL gradient aligns with the IL
gradient and down otherwise, and CAGrad for the joint gradient. The abstract says no more: the rule for lambda, its step
size and its start, and where lambda enters CAGrad (after it, see `inril_core.finetune.combine.cagrad`) are our choice.
The stated theorem needs weights that are annealed monotonically: it covers ``monotone`` alone, not the rule that also
lowers lambda.
"""

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from inril_core.errors import ConfigError
from inril_core.finetune.combine import cagrad
from inril_core.networks.flat import FlatParameters


class Config(cagrad.Config):
    """Settings of CAIR, beside those of CAGrad."""

    method: Literal["cair"]  # type: ignore[assignment]
    rl_weight: float = Field(0.05, ge=0.0, le=1.0)
    """Lambda at the start: near 0, because the policy was just cloned."""
    rate: float = Field(2e-3, ge=0.0, le=1.0)
    """Of lambda: lambda <- clip(lambda + rate * cosine) to its range at every actor step."""
    rule: Literal["cosine", "sign"] = "cosine"
    """``cosine``: the running mean of the cosine; ``sign``: its sign alone."""
    decay: float = Field(0.99, ge=0.0, lt=1.0)
    """Of that mean; the angle between two minibatch gradients is mostly noise."""
    monotone: bool = False
    """Lambda never falls."""
    least_rl_weight: float = Field(0.05, ge=0.0, le=1.0)
    """Lower bound of lambda. At 0 the rule can end in imitation for good: near the optimum of the IL loss its
    gradient is noise, and no alignment is left to rise on."""

    @model_validator(mode="after")
    def _starts_in_range(self) -> "Config":
        if self.rl_weight < self.least_rl_weight:
            raise ConfigError(
                f"combine.rl_weight = {self.rl_weight}: must be at least combine.least_rl_weight = "
                f"{self.least_rl_weight}"
            )
        return self

    def build(self, actor: FlatParameters, rl_lr: float) -> "Cair":
        """See `CombineConfig.build`."""
        return Cair(self, actor, rl_lr)


class Cair(cagrad.Cagrad):
    """CAGrad with a weight that follows the alignment. More metrics: ``rl_weight`` (lambda) and ``mean_cosine``."""

    def __init__(self, config: Config, flat: FlatParameters, rl_lr: float) -> None:
        super().__init__(config, flat, rl_lr)
        self._config = config
        # lambda, the decayed sum of cosines, and that of ones: the mean is unbiased from the first step on
        self._rl_weight, self._sum, self._count = config.rl_weight, 0.0, 0.0

    @property
    def rl_weight(self) -> float:
        """See `JointStep.rl_weight`."""
        return self._rl_weight

    def combine(self, g_rl: Tensor, g_il: Tensor, angle: float) -> tuple[Tensor, dict[str, float]]:
        """See `JointStep.combine`; lambda moves first."""
        c = self._config
        self._sum = c.decay * self._sum + (1.0 - c.decay) * angle
        self._count = c.decay * self._count + (1.0 - c.decay)
        mean = self._sum / self._count
        change = c.rate * (mean if c.rule == "cosine" else float((mean > 0.0) - (mean < 0.0)))
        if change > 0.0 or not c.monotone:
            self._rl_weight = min(max(self.rl_weight + change, c.least_rl_weight), 1.0)
        joint, metrics = super().combine(g_rl, g_il, angle)
        return joint, {**metrics, "rl_weight": self.rl_weight, "mean_cosine": mean}

    def state(self) -> dict[str, Tensor]:
        """See `Combiner.state`."""
        memory = torch.tensor([self._rl_weight, self._sum, self._count], dtype=torch.float64)
        return {**super().state(), "memory": memory}

    def load(self, state: dict[str, Tensor]) -> None:
        """See `Combiner.load`."""
        super().load(state)
        self._rl_weight, self._sum, self._count = state["memory"].tolist()
