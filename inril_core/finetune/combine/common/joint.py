"""One step on the RL and the IL gradient together: what PCGrad, CAGrad and CAIR have in common."""

from abc import abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor

from inril_core.errors import ConfigError
from inril_core.finetune.combine.common.gradients import cosine
from inril_core.finetune.contracts import Combiner, GradientSource, StepResult
from inril_core.networks.flat import Adam, FlatParameters

Normalise = Literal["none", "gradient", "loss"]
_DECAY = 0.99


def refuse_separated(method: str, whole: Any) -> None:
    """A joint gradient of two losses that share no parameter is none.

    Raises:
        ConfigError: imitation and RL train different parts of the policy of ``whole``, a `FineTuneConfig`.
    """
    if "separated" in whole.policy.offers():
        raise ConfigError(
            f"combine.method = {method!r} with policy.kind = {whole.policy.kind!r}: imitation and RL train different "
            "parameters, so that their gradients have no angle and no common step; set combine to {method: "
            "interleave, separation: network, projection: {kind: none}}"
        )


class JointStep(Combiner):
    """Both gradients at the same parameters, one joint gradient from them, one Adam step on it.

    An RL gradient has the scale of the values, an IL gradient that of a log-density: what compares lengths needs them
    made comparable first. Parameters that only one loss reaches (a log-std under a squared error) know no conflict and
    would count in the lengths: they are averaged. Metrics: the raw norms ``rl_norm`` and ``il_norm``.

    Args:
        normalise: ``none``; ``gradient``: each is divided by its own norm; ``loss``: by the running mean of its norm
            (decay 0.99), which is a slowly moving weight of its loss.
    """

    def __init__(self, flat: FlatParameters, rl_lr: float, normalise: Normalise) -> None:
        super().__init__(flat)
        self.adams = {"joint": Adam(flat.value.numel(), rl_lr)}
        self._normalise = normalise
        self._sums = torch.zeros(3, dtype=torch.float64)  # decayed sums of the norms of RL and IL, and of ones

    @abstractmethod
    def combine(self, g_rl: Tensor, g_il: Tensor, angle: float) -> tuple[Tensor, dict[str, float]]:
        """The joint gradient ``[S]`` of the S parameters that both losses reach, and metrics; ``angle``: the cosine."""

    @property
    def rl_weight(self) -> float:
        """Weight of the RL gradient in an average; the IL gradient has the rest."""
        return 0.5

    def step(self, rl: GradientSource, il: GradientSource) -> StepResult:
        """See `Combiner.step`."""
        gradient, metrics = rl()
        g_rl = gradient.clone()
        g_il, il_metrics = il()
        shared = (g_rl != 0.0) & (g_il != 0.0)
        angle = cosine(g_rl[shared], g_il[shared], self.kernels)
        norms = torch.stack([torch.linalg.vector_norm(g.double()) for g in (g_rl, g_il)]).tolist()
        rl_scale, il_scale = self._scales(*norms)
        rl_part, il_part = g_rl / rl_scale, g_il / il_scale
        combined, more = self.combine(rl_part[shared], il_part[shared], angle)
        joint = self.rl_weight * rl_part + (1.0 - self.rl_weight) * il_part
        joint[shared] = combined
        adam = self.adams["joint"]
        direction = adam.direction(joint)
        self.flat.value.sub_(direction, alpha=adam.lr)
        logged = {"gradient_cosine": angle, "conflict": float(angle < 0.0), "rl_norm": norms[0], "il_norm": norms[1]}
        logged["step_cosine"] = cosine(direction, g_rl, self.kernels)
        return StepResult({**metrics, **il_metrics, **logged, **more}, metrics)

    def _scales(self, *norms: float) -> tuple[float, float]:
        self._sums.mul_(_DECAY).add_((1.0 - _DECAY) * torch.tensor([*norms, 1.0], dtype=torch.float64))
        if self._normalise == "none":
            return 1.0, 1.0
        rl, il = norms if self._normalise == "gradient" else (self._sums[:2] / self._sums[2]).tolist()
        return rl or 1.0, il or 1.0

    def state(self) -> dict[str, Tensor]:
        """See `Combiner.state`."""
        return {**super().state(), "sums": self._sums.clone()}

    def load(self, state: dict[str, Tensor]) -> None:
        """See `Combiner.load`."""
        super().load(state)
        self._sums.copy_(state["sums"])
