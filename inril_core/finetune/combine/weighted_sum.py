"""RL loss plus a weighted IL loss in one step: the common base line."""

from typing import Literal

from pydantic import Field, model_validator

from inril_core.errors import ConfigError
from inril_core.finetune.combine.base import Combiner, GradientSource
from inril_core.finetune.flat import Adam, FlatParameters
from inril_core.finetune.gradients import cosine
from inril_core.finetune.methods import MethodConfig


class Config(MethodConfig):
    """Settings of the sum.

    Attributes:
        il_weight: weight of the imitation loss beside the RL loss.
        il_weight_end, il_decay_steps: the weight falls linearly to this end over so many actor steps; None: it stays.
    """

    method: Literal["weighted_sum"]
    requires = (("rl", "actor_gradient"), ("il", "actor_gradient"))
    il_weight: float = Field(0.5, ge=0.0)
    il_weight_end: float | None = Field(None, ge=0.0)
    il_decay_steps: int = Field(8000, ge=1)

    @model_validator(mode="after")
    def _falls(self) -> "Config":
        if self.il_weight_end is not None and self.il_weight_end > self.il_weight:
            raise ConfigError(
                f"combine.il_weight_end = {self.il_weight_end}: must be at most combine.il_weight = {self.il_weight}"
            )
        return self

    def build(self, flat: FlatParameters, rl_lr: float) -> "WeightedSum":
        """The combination; ``rl_lr`` is the RL method's actor learning rate."""
        return WeightedSum(self, flat, rl_lr)


class WeightedSum(Combiner):
    """One Adam step on g_RL + w g_IL. Metric: ``il_weight`` (w) where it falls."""

    def __init__(self, config: Config, flat: FlatParameters, rl_lr: float) -> None:
        super().__init__(flat)
        self._config = config
        self.adams = {"rl": Adam(flat.value.numel(), rl_lr)}

    @property
    def il_weight(self) -> float:
        """w of the next step; the optimizer counts the steps."""
        c = self._config
        if c.il_weight_end is None:
            return c.il_weight
        done = min(self.adams["rl"].steps / c.il_decay_steps, 1.0)
        return c.il_weight + done * (c.il_weight_end - c.il_weight)

    def step(self, rl: GradientSource, il: GradientSource) -> dict[str, float]:
        """See `Combiner.step`."""
        adam, weight = self.adams["rl"], self.il_weight
        gradient, metrics = rl()
        g_rl = gradient.clone()
        g_il, il_metrics = il()
        angle = cosine(g_rl, g_il)
        direction = adam.direction(g_rl + weight * g_il)
        self.flat.value.sub_(direction, alpha=adam.lr)
        metrics = {**metrics, **il_metrics, "gradient_cosine": angle, "step_cosine": cosine(direction, g_rl)}
        return metrics if self._config.il_weight_end is None else {**metrics, "il_weight": weight}
