"""Categorical critics with batch norm and weight norm, and the projection of C51 (arXiv 1707.06887, algorithm 1).

The recipe is XQC's (arXiv 2509.25174): batch norm before each activation and on the input, and every unit's weight
vector projected to unit length after each gradient step.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from inril_core.networks.encoder import ImageEncoder

BATCH_NORM_MOMENTUM = 0.01  # of the new value; Flax calls the same 0.99
BATCH_NORM_EPS = 1e-3
Statistics = Literal["update", "batch", "running"]


def project(low: float, high: float, atoms: Tensor, probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """The distribution with mass ``probabilities [B, N]`` at ``atoms [B, N]`` on N equal steps from low to high.

    Each mass is shared by the two nearest steps so that the mean is kept; outside of the support it goes to its end.
    Also returns the share of the mass ``[B]`` that was outside.
    """
    steps = atoms.shape[-1] - 1
    place = (atoms.clamp(low, high) - low) * (steps / (high - low))
    lower = place.floor().clamp(0, steps - 1).long()
    upper_share = place - lower
    projected = torch.zeros_like(probabilities)
    projected.scatter_add_(-1, lower, probabilities * (1.0 - upper_share))
    projected.scatter_add_(-1, lower + 1, probabilities * upper_share)
    outside = (probabilities * ((atoms < low) | (atoms > high))).sum(-1)
    return projected, outside


class CategoricalCritics(nn.Module):
    """E independent critics that give logits over N values.

    Input -> batch norm -> [linear without bias -> batch norm -> ReLU] per hidden layer -> linear. The forward pass
    takes its parameters as an argument, as in `CriticEnsemble`; one ``image_encoder`` serves all members.
    """

    weights: nn.ParameterList
    """Per normalisation scale and shift ``[E, 1, width]``; per layer ``[E, in, out]``; the last one's bias."""
    means: nn.ParameterList
    """Running mean ``[E, 1, width]`` per normalisation."""
    variances: nn.ParameterList
    """Running variance ``[E, 1, width]`` per normalisation."""

    def __init__(
        self,
        members: int,
        input_size: int,
        hidden: Sequence[int],
        atoms: int,
        generator: torch.Generator,
        image_encoder: ImageEncoder | None = None,
    ) -> None:
        super().__init__()
        self.members, self.hidden, self.image_encoder = members, tuple(hidden), image_encoder
        normalised = (input_size if image_encoder is None else image_encoder.width(input_size), *hidden)
        weights = []
        for width in normalised:
            weights += [nn.Parameter(torch.ones((members, 1, width))), nn.Parameter(torch.zeros((members, 1, width)))]
        for fan_in, fan_out in zip(normalised, (*hidden, atoms), strict=True):
            weights.append(nn.Parameter(torch.randn((members, fan_in, fan_out), generator=generator)))
        weights.append(nn.Parameter(torch.zeros((members, 1, atoms))))
        self.weights = nn.ParameterList(weights)
        self.means = nn.ParameterList(
            nn.Parameter(torch.zeros((members, 1, w)), requires_grad=False) for w in normalised
        )
        self.variances = nn.ParameterList(
            nn.Parameter(torch.ones((members, 1, w)), requires_grad=False) for w in normalised
        )
        self.unit_norm_()

    @torch.no_grad()
    def unit_norm_(self) -> None:
        """Project every hidden and output unit's weight vector to unit length, in place."""
        first = 2 * len(self.means)
        for layer in range(len(self.means)):
            weight = self.weights[first + layer]
            weight.div_(torch.linalg.vector_norm(weight, dim=1, keepdim=True).clamp_min(1e-12))

    def forward(
        self,
        rows: Tensor,
        statistics: Statistics,
        weights: Sequence[Tensor] | None = None,
        answered: slice | None = None,
    ) -> Tensor:
        """Logits ``[E, B, N]`` of ``rows [B, D]``, or ``[E, B, D]``: of each member its own.

        Args:
            statistics: ``batch``: normalise by those of ``rows``. ``update``: also take them into the running ones.
                ``running``: normalise by the running ones; rows do not affect each other.
            weights: stand-ins for the own parameters, in their order, and those of ``image_encoder`` after them.
            answered: the rows whose logits are asked for, where the others only count in the statistics.
        """
        own = None if weights is None else weights[len(self.weights) :]
        w = list(self.weights) if weights is None else weights[: len(self.weights)]
        layers = len(self.means)
        if self.image_encoder is not None:
            rows = self.image_encoder(rows.reshape(-1, rows.shape[-1]), own).reshape(*rows.shape[:-1], -1)
        hidden = self._normalise(0, rows.expand(self.members, *rows.shape[-2:]), statistics, w)
        for layer in range(layers - 1):
            hidden = torch.bmm(hidden, w[2 * layers + layer])
            hidden = torch.relu(self._normalise(layer + 1, hidden, statistics, w))
        return torch.baddbmm(w[-1], hidden if answered is None else hidden[:, answered], w[-2])

    def _normalise(self, place: int, rows: Tensor, statistics: Statistics, w: Sequence[Tensor]) -> Tensor:
        mean, variance = self.means[place], self.variances[place]
        if statistics == "running":
            used_variance = variance.detach()
            centred = rows - mean.detach()
        else:
            used_mean = rows.mean(1, keepdim=True)
            centred = rows - used_mean
            used_variance = centred.square().mean(1, keepdim=True)  # twice as fast as torch.var_mean along this axis
            if statistics == "update":
                mean.data.lerp_(used_mean.detach(), BATCH_NORM_MOMENTUM)
                variance.data.lerp_(used_variance.detach(), BATCH_NORM_MOMENTUM)
        return centred * (w[2 * place] * torch.rsqrt(used_variance + BATCH_NORM_EPS)) + w[2 * place + 1]
