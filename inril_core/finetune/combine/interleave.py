"""Interleaved RL and IL updates with gradient separation, by projection or by separate networks.

IN-RIL's idea (arXiv 2505.10442), re-implemented from the paper's description. A cycle is ``rl_per_il`` RL updates, then
IL steps at the parameters they led to. What one RL update is, how many IL steps there are, whose gradient is projected
and how: the paper's description does not say, so each is a setting, and none of them is the paper's. The default is a
projection of the imitation step. On an off-policy algorithm interleaving is our extension.

What a projection keeps apart are the steps, not the gradients, and Adam does not preserve angles: a gradient that is
orthogonal to the RL gradient is not orthogonal after preconditioning. So the default projects the preconditioned IL
step, and ``space: gradient`` the gradient before; ``step_cosine`` logs what was reached. Each loss has its own
optimizer: one for both would mix their moments, and undo the projection.

What an IL step must not undo is what RL did. Off-policy that is the RL gradient at the same parameters. After the
epochs of a rollout there is no such gradient: the ratios of the rollout's log-probabilities are far from 1 by then,
most of all on the minibatch that stopped the iteration, so that a few rows hold almost all of the weight and the
gradient points where RL never went. So after an ``iteration`` the step is projected against the displacement of the
parameters by the RL updates since the last insertion (before minus after: the sign of a gradient): it holds all
epochs, Adam and the stop. A gradient at ratio 1 was the alternative: that of a new rollout, which costs environment
steps, or of the old one at the old parameters, which the displacement already follows.
"""

from collections.abc import Callable
from ctypes import CDLL
from typing import Any, Literal

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from inril_core.errors import ConfigError
from inril_core.finetune.combine.common.adaptive_ratio import AdaptiveRatio
from inril_core.finetune.combine.common.gradients import cosine, project_conflicting, project_orthogonal
from inril_core.finetune.contracts import CombineConfig, Combiner, GradientSource, Metrics, StepResult
from inril_core.networks.flat import Adam, FlatParameters
from inril_core.settings import Settings

Projection = Callable[[Tensor, Tensor, CDLL | None], Tensor]


def _no_projection(g: Tensor, ref: Tensor, kernels: CDLL | None) -> Tensor:
    return g


_PROJECTIONS: dict[str, Projection] = {
    "conflicting": project_conflicting,
    "orthogonal": project_orthogonal,
    "none": _no_projection,
}


class ProjectionConfig(Settings):
    """How the step of one loss is kept from undoing the other's."""

    kind: Literal["conflicting", "orthogonal", "none"] = "conflicting"
    """``conflicting``: only what opposes the other gradient is removed; ``orthogonal``: all along it; ``none``."""
    target: Literal["il", "rl"] = "il"
    """Whose step is projected. ``il``: against the RL gradient, so that it does not undo RL; ``rl``: every RL step
    against a fresh IL gradient, so that it does not undo imitation. That costs an IL gradient a step."""
    space: Literal["step", "gradient"] = "step"
    """What is projected: the preconditioned step, or the raw gradient, before Adam."""
    reference: Literal["gradient", "step"] = "gradient"
    """What it is projected against: the other loss's raw ``gradient`` (then, to first order, that loss does not rise)
    or the other optimizer's preconditioned ``step``. Of IL steps after an ``iteration`` neither: RL's displacement."""


class Config(CombineConfig):
    """Settings of the interleaving."""

    method: Literal["interleave"]
    provides = frozenset({"rl_step"})
    requires = (("rl", "actor_gradient"), ("il", "actor_gradient"))
    rl_per_il: int | Literal["adaptive"] = 4
    """m, RL updates per insertion of imitation (reported of IN-RIL: fixed, 5 to 15; what it counts is not known);
    ``adaptive``: from the measured alignment, see `inril_core.finetune.combine.common.adaptive_ratio`."""
    m_min: int = Field(2, ge=1)
    """Least adaptive m."""
    m_max: int = Field(30, ge=1)
    """Largest adaptive m."""
    smoothness: float = Field(0.0, ge=0.0)
    """L in the formula of an adaptive m."""
    il_unit: Literal["grad_step", "iteration"] = "grad_step"
    """What counts as an RL update: one gradient step of the actor (``grad_step``; off-policy only, because in the
    middle of PPO's epochs an IL step makes the stored log-probabilities stale), or one ``iteration``: a rollout with
    all its epochs (off-policy: one step). The IL steps come after it."""
    il_steps: int = Field(1, ge=1)
    """IL minibatch steps per insertion."""
    il_lr: float = Field(3e-5, gt=0.0)
    """Learning rate of the IL step."""
    separation: Literal["projection", "network"] = "projection"
    """``projection``: on one network; ``network``: imitation and RL reach different parameters (a policy of kind
    ``residual``: the base learns by imitation, the residual by RL), and nothing is projected."""
    projection: ProjectionConfig = ProjectionConfig()
    preconditioner: Literal["own", "rl"] = "own"
    """Of the IL step: its ``own`` Adam, or the ``rl`` optimizer's second moments, where it has any."""

    @field_validator("rl_per_il")
    @classmethod
    def _at_least_one(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError("must be >= 1, or 'adaptive'")
        return value

    @model_validator(mode="after")
    def _combination(self) -> "Config":
        p = self.projection
        if p.space == "gradient" and p.reference == "step":
            raise ConfigError(
                "combine.projection.reference = 'step' needs combine.projection.space = 'step': a raw gradient is "
                "compared with a gradient"
            )
        if p.space == "gradient" and self.rl_per_il == "adaptive":
            raise ConfigError(
                "combine.projection.space = 'gradient' with combine.rl_per_il = 'adaptive': m is measured on the step "
                "before its projection, and a step of a projected gradient hides the conflict; set "
                "combine.projection.space to 'step'"
            )
        if self.il_unit == "iteration":
            self._refuse_gradients_of_a_used_rollout()
        if self.m_min > self.m_max:
            raise ConfigError(f"combine.m_min = {self.m_min}: must be at most combine.m_max = {self.m_max}")
        if self.separation == "network":
            if p.kind != "none":
                raise ConfigError(
                    f"combine.projection.kind = {p.kind!r} with combine.separation = 'network': the gradients have no "
                    "parameter in common, so there is nothing to project; set combine.projection.kind to 'none'"
                )
            if self.rl_per_il == "adaptive":
                raise ConfigError(
                    "combine.rl_per_il = 'adaptive' with combine.separation = 'network': gradients of different "
                    "parameters have no angle to adapt to; give a number"
                )
            if self.preconditioner == "rl":
                raise ConfigError(
                    "combine.preconditioner = 'rl' with combine.separation = 'network': RL has no moments of the "
                    "parameters that imitation reaches; set it to 'own'"
                )
        if p.target == "rl" and p.kind == "none":
            raise ConfigError(
                "combine.projection.target = 'rl' with combine.projection.kind = 'none': nothing is projected; choose "
                "another kind"
            )
        return self

    def _refuse_gradients_of_a_used_rollout(self) -> None:
        if self.projection.target == "il" and self.projection.reference == "step":
            raise ConfigError(
                "combine.projection.reference = 'step' with combine.il_unit = 'iteration': after an iteration IL steps "
                "are projected against the displacement by RL, which is one of steps already; leave it out"
            )
        if self.rl_per_il == "adaptive":
            raise ConfigError(
                "combine.rl_per_il = 'adaptive' with combine.il_unit = 'iteration': m is measured with RL's gradient "
                "where imitation steps in, and a rollout whose epochs are over gives none; give a number"
            )

    def insertions(self, rl_updates: int) -> tuple[int, int]:
        """See `CombineConfig.insertions`; of an adaptive m those of its largest."""
        inserted = max(rl_updates, 0) // (self.m_max if self.rl_per_il == "adaptive" else self.rl_per_il)
        return inserted, inserted * self.il_steps

    def needs(self) -> tuple[tuple[str, str], ...]:
        """Separate networks need a policy that has them."""
        return (*self.requires, ("policy", "separated")) if self.separation == "network" else self.requires

    def check(self, whole: Any) -> None:
        """See `MethodConfig.check`."""
        if self.il_unit == "grad_step" and whole.rl.collection == "on_policy":
            raise ConfigError(
                f"combine.il_unit = 'grad_step' with rl.method = {whole.rl.method!r}: an IL step in the middle of the "
                "epochs makes the rollout's log-probabilities stale; set combine.il_unit to 'iteration'"
            )
        if self.separation == "projection" and self.rl_per_il == "adaptive" and "separated" in whole.policy.offers():
            raise ConfigError(
                f"combine.rl_per_il = 'adaptive' with policy.kind = {whole.policy.kind!r}: imitation and RL train "
                "different parameters, so their gradients have no angle to adapt to; give a number"
            )
        if self.separation == "projection" and self.projection.kind != "none" and "separated" in whole.policy.offers():
            raise ConfigError(
                f"combine.projection.kind = {self.projection.kind!r} with policy.kind = "
                f"{whole.policy.kind!r}: imitation and RL train different parameters, so there is nothing to "
                "project; set combine.separation to 'network' and combine.projection.kind to 'none'"
            )

    def build(self, actor: FlatParameters, rl_lr: float) -> "Interleave":
        """See `CombineConfig.build`."""
        return Interleave(self, actor, rl_lr)


class Interleave(Combiner):
    """m RL updates, then IL steps that do not undo them."""

    def __init__(self, config: Config, flat: FlatParameters, rl_lr: float) -> None:
        super().__init__(flat)
        self.config = config
        size = flat.value.numel()
        self.adams = {"rl": Adam(size, rl_lr), "il": Adam(size, config.il_lr)}
        self._ratio = AdaptiveRatio(config.m_min, config.m_max, config.smoothness)
        self._adaptive = config.rl_per_il == "adaptive"
        self._updates = 0  # RL updates since the last insertion
        self._steps = 0  # and actor steps
        self._before = torch.zeros(0)  # the parameters before the first of them, where the unit is an iteration

    @property
    def rl_per_il(self) -> int:
        """m, as it is now."""
        return self._ratio.m if self.config.rl_per_il == "adaptive" else self.config.rl_per_il

    def step(self, rl: GradientSource, il: GradientSource) -> StepResult:
        """See `Combiner.step`."""
        if self.config.il_unit == "iteration" and self._steps == 0:
            self._before = self.flat.value.clone()
        gradient, rl_metrics = rl()
        if self._adaptive:
            self._ratio.saw(gradient)
        metrics = rl_metrics
        if self.config.projection.target == "rl":
            g_rl = gradient.clone()
            g_il, il_metrics = il()
            metrics = {**metrics, **il_metrics, **self._projected_step("rl", g_rl, g_il)}
        else:
            self._take("rl", self.adams["rl"].direction(gradient))
        self._steps += 1
        if self.config.il_unit == "iteration":
            return StepResult(metrics, rl_metrics)
        inserted, il_steps = self._insert_if_due(rl, il)
        return StepResult({**metrics, **inserted}, rl_metrics, il_steps)

    def end_update(self, rl: GradientSource, il: GradientSource) -> StepResult:
        """See `Combiner.end_update`."""
        if self.config.il_unit == "grad_step":
            return StepResult()
        inserted, il_steps = self._insert_if_due(rl, il)
        return StepResult(inserted, il_steps=il_steps)

    def _insert_if_due(self, rl: GradientSource, il: GradientSource) -> tuple[Metrics, int]:
        """Metrics, and how many IL steps were taken."""
        self._updates += 1
        if self._updates < self.rl_per_il:
            return {}, 0
        metrics: dict[str, float | Tensor] = {}
        displacement = self._displacement() if self.config.il_unit == "iteration" else None
        for _ in range(self.config.il_steps):
            metrics.update(self._il_step(rl, il, displacement))
        self._updates = self._steps = 0
        self._before = torch.zeros(0)
        if self._adaptive:
            metrics["rl_per_il"] = float(self.rl_per_il)
        return metrics, self.config.il_steps

    def _displacement(self) -> Tensor:
        """``[P]``, parameters before minus after the RL updates since the last insertion; 0 where none was taken."""
        return self._before - self.flat.value if self._steps else torch.zeros_like(self.flat.value)

    def _il_step(self, rl: GradientSource, il: GradientSource, displacement: Tensor | None) -> Metrics:
        """One IL step; ``displacement``: by RL, None: its gradient on the newest minibatch stands for it."""
        if self.config.separation == "network":
            g_il, metrics = il()
            self._refuse_shared_parameters(g_il)
            self._take("il", self.adams["il"].direction(g_il))
            return metrics
        other = rl()[0].clone() if displacement is None else displacement
        g_il, metrics = il()
        return {**metrics, **self._projected_step("il", g_il, other)}

    def _projected_step(self, own: Literal["il", "rl"], g: Tensor, other: Tensor) -> Metrics:
        """The step of the loss ``own`` on its gradient ``g``, kept from undoing ``other``, the other loss's gradient or
        displacement."""
        c, p, adam = self.config, self.config.projection, self.adams[own]
        adam_other = self.adams["rl" if own == "il" else "il"]
        project = _PROJECTIONS[p.kind] if p.target == own else _no_projection
        angle = cosine(g, other, self.kernels)
        g_in = project(g, other, self.kernels) if p.space == "gradient" else g
        shared = own == "il" and c.preconditioner == "rl"
        step = adam.direction(g_in)
        if shared:  # but where RL has none: dividing by nothing is no step
            by_rl = adam_other.precondition(g_in)
            step = torch.where(adam_other.second > 0.0, by_rl, step)
        before = g if p.space == "gradient" else step
        if own == "il" and self._adaptive:
            self._ratio.measured(adam.lr * step, other, c.il_steps)
        if p.space == "step":
            as_it_is = p.reference == "gradient" or (own == "il" and c.il_unit == "iteration")
            reference = other if as_it_is else adam_other.precondition(other)
            step = project(step, reference, self.kernels)
        after = g_in if p.space == "gradient" else step
        self._take(own, step)
        removed = torch.linalg.vector_norm(before - after) / torch.linalg.vector_norm(before).clamp_min(1e-30)
        metrics: dict[str, float | Tensor] = {"gradient_cosine": angle, "conflict": float(angle < 0.0)}
        if p.target == own:
            metrics["norm_removed"] = removed
        name = "step_cosine" if own == "il" else "rl_step_cosine"
        return {**metrics, name: cosine(step, other, self.kernels)}

    def _take(self, loss: str, step: Tensor) -> None:
        self.flat.value.sub_(step, alpha=self.adams[loss].lr)
        if loss == "rl" and self._adaptive:
            self._ratio.took(self.adams[loss].lr * step)

    def _refuse_shared_parameters(self, g_il: Tensor) -> None:
        both = int(((self.adams["rl"].second > 0.0) & (g_il != 0.0)).sum())
        if both:
            raise ValueError(f"separation 'network': {both} parameters get gradients of both losses")

    def state(self) -> dict[str, Tensor]:
        """See `Combiner.state`."""
        counts = torch.tensor([self._updates, self._steps])
        ratio = {f"ratio.{name}": t for name, t in self._ratio.state().items()}
        before = {"before": self._before.clone()} if self.config.il_unit == "iteration" else {}
        return {**super().state(), "counts": counts, **ratio, **before}

    def load(self, state: dict[str, Tensor]) -> None:
        """See `Combiner.load`."""
        super().load(state)
        self._updates, self._steps = (int(n) for n in state["counts"])
        self._before = state["before"].to(self.flat.value.device, copy=True) if "before" in state else torch.zeros(0)
        self._ratio.load({name: state[f"ratio.{name}"] for name in ("means", "falls", "step")})
