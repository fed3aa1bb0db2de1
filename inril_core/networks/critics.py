"""An ensemble of critics evaluated by batched matrix products."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from inril_core.networks.encoder import ImageEncoder


class CriticEnsemble(nn.Module):
    """E independent Q(s, a) MLPs with LayerNorm (no affine) after each hidden layer, as in RLPD.

    LayerNorm bounds the value of actions outside the data (RLPD, arXiv 2302.02948, section 4.2).
    The forward pass takes its parameters as an argument, so that the target network and the frozen critics of
    the actor's loss are just other lists of tensors.

    Args:
        image_encoder: this ensemble's own encoder of pixels (`Policy.new_image_encoder`), shared by its members.
    """

    def __init__(
        self,
        members: int,
        observation_size: int,
        action_size: int,
        hidden: Sequence[int],
        generator: torch.Generator,
        image_encoder: ImageEncoder | None = None,
    ) -> None:
        super().__init__()
        self.members = members
        self.hidden = tuple(hidden)
        features = observation_size if image_encoder is None else image_encoder.width(observation_size)
        sizes = (features + action_size, *hidden, 1)
        weights: list[nn.Parameter] = []
        for fan_in, fan_out in zip(sizes[:-1], sizes[1:], strict=True):
            bound = 1.0 / math.sqrt(fan_in)
            for rows in (fan_in, 1):  # weight, bias: the usual initialisation of a linear layer
                draw = torch.rand((members, rows, fan_out), generator=generator)
                weights.append(nn.Parameter(bound * (2.0 * draw - 1.0)))
        self.weights = nn.ParameterList(weights)
        self.image_encoder = image_encoder

    def forward(self, observations: Tensor, actions: Tensor, weights: Sequence[Tensor] | None = None) -> Tensor:
        """Q-values ``[E, B]`` of normalised ``observations [B, D]`` and ``actions [B, A]``, or ``[E, B, A]``: of each
        member its own.

        Args:
            weights: stand-ins for the own ``parameters()``, in their order.
        """
        w = list(self.parameters()) if weights is None else weights
        w, of_encoder = w[: len(self.weights)], w[len(self.weights) :]
        features = observations if self.image_encoder is None else self.image_encoder(observations, of_encoder)
        rows = torch.cat((features.expand(*actions.shape[:-1], -1), actions), -1)
        hidden = torch.matmul(rows, w[0]) + w[1]
        for layer, width in enumerate(self.hidden):
            if layer > 0:
                hidden = torch.baddbmm(w[2 * layer + 1], hidden, w[2 * layer])
            hidden = torch.relu(functional.layer_norm(hidden, (width,)))
        return torch.baddbmm(w[-1], hidden, w[-2]).squeeze(-1)

    def of_members(self, weights: Sequence[Tensor], members: Tensor) -> list[Tensor]:
        """Of all ``weights`` those of some ``members [M]``; the encoder serves them all."""
        own = len(self.weights)
        return [*(w[members] for w in weights[:own]), *weights[own:]]


def views_like(flat: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """Views of ``flat [P]`` shaped like ``parameters``, without gradient."""
    sizes = [p.numel() for p in parameters]
    return [part.view(p.shape) for part, p in zip(flat.detach().split(sizes), parameters, strict=True)]
