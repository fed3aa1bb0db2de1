"""Interleaved RL and IL updates with gradient separation by surgery.

IN-RIL's idea (arXiv 2505.10442) on an off-policy algorithm: our extension, re-implemented from the paper's
description. A cycle is ``rl_per_il`` RL updates, then one IL step whose conflict with the RL gradient is removed.
One RL update is one actor step with its critic steps.

What a projection keeps apart are the steps, not the gradients, and Adam does not preserve angles: a gradient that is
orthogonal to the RL gradient is not orthogonal after preconditioning. So the default projects the preconditioned IL
step against the RL gradient at the same parameters; ``step_cosine`` logs what was reached.
"""

from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from inril_core.errors import ConfigError
from inril_core.finetune.combine.base import Combiner, GradientSource
from inril_core.finetune.flat import Adam, FlatParameters
from inril_core.finetune.gradients import cosine, project_conflicting, project_orthogonal
from inril_core.finetune.methods import MethodConfig

Projection = Callable[[Tensor, Tensor], Tensor]


def _no_projection(g: Tensor, ref: Tensor) -> Tensor:
    return g


_PROJECTIONS: dict[str, Projection] = {
    "conflicting": project_conflicting,
    "orthogonal": project_orthogonal,
    "none": _no_projection,
}


class Config(MethodConfig):
    """Settings of the interleaving.

    Attributes:
        rl_per_il: m, RL updates per IL step (the paper: fixed, 5 to 15, for its on-policy iterations).
        il_lr: learning rate of the IL step.
        surgery: ``conflicting``: only what opposes the RL gradient is removed; ``orthogonal``: all along it;
            ``none``: interleaving alone.
        project: ``step``: the preconditioned IL step (default); ``gradient``: the raw IL gradient, before Adam.
        reference: what the IL step is projected against: the raw RL ``gradient`` (then, to first order, the RL loss
            does not rise) or the RL optimizer's preconditioned ``step``.
        preconditioner: of the IL step: its ``own`` Adam, or the ``rl`` optimizer's second moments.
    """

    method: Literal["interleave"]
    requires = (("rl", "actor_gradient"), ("il", "actor_gradient"))
    rl_per_il: int = Field(8, ge=1)
    il_lr: float = Field(3e-5, gt=0.0)
    surgery: Literal["conflicting", "orthogonal", "none"] = "conflicting"
    project: Literal["step", "gradient"] = "step"
    reference: Literal["gradient", "step"] = "gradient"
    preconditioner: Literal["own", "rl"] = "own"

    @model_validator(mode="after")
    def _combination(self) -> "Config":
        if self.project == "gradient" and self.reference == "step":
            raise ConfigError(
                "combine.reference = 'step' needs combine.project = 'step': a raw gradient is compared with a gradient"
            )
        return self

    def build(self, flat: FlatParameters, rl_lr: float) -> "Interleave":
        """The combination; ``rl_lr`` is the RL method's actor learning rate."""
        return Interleave(self, flat, rl_lr)


class Interleave(Combiner):
    """m RL steps, then one IL step that does not undo them."""

    def __init__(self, config: Config, flat: FlatParameters, rl_lr: float) -> None:
        super().__init__(flat)
        self.config = config
        size = flat.value.numel()
        self.adams = {"rl": Adam(size, rl_lr), "il": Adam(size, config.il_lr)}

    def step(self, rl: GradientSource, il: GradientSource) -> dict[str, float]:
        """See `Combiner.step`."""
        adam = self.adams["rl"]
        gradient, metrics = rl()
        self.flat.value.sub_(adam.direction(gradient), alpha=adam.lr)
        if adam.steps % self.config.rl_per_il == 0:
            # both gradients at the same parameters, the RL one on the most recent minibatch
            g_rl = rl()[0].clone()
            g_il, il_metrics = il()
            metrics = {**metrics, **il_metrics, **self._il_step(g_il, g_rl)}
        return metrics

    def _il_step(self, g_il: Tensor, g_rl: Tensor) -> dict[str, float]:
        c, adam_rl, adam_il = self.config, self.adams["rl"], self.adams["il"]
        project = _PROJECTIONS[c.surgery]
        angle = cosine(g_il, g_rl)
        g_in = project(g_il, g_rl) if c.project == "gradient" else g_il
        step = adam_il.direction(g_in) if c.preconditioner == "own" else adam_rl.precondition(g_in)
        before = g_il if c.project == "gradient" else step
        if c.project == "step":
            reference = g_rl if c.reference == "gradient" else adam_rl.precondition(g_rl)
            step = project(step, reference)
        after = g_in if c.project == "gradient" else step
        self.flat.value.sub_(step, alpha=adam_il.lr)
        removed = float(torch.linalg.vector_norm(before - after) / torch.linalg.vector_norm(before).clamp_min(1e-30))
        return {
            "gradient_cosine": angle,
            "norm_removed": removed,
            "step_cosine": cosine(step, g_rl),
            "conflict": float(angle < 0.0),
        }
