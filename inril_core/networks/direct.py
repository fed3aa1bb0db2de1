"""Forward and backward passes of small networks without autograd.

Autograd's bookkeeping costs a small network more than its matrix products do. What is here computes the same numbers:
the forward pass keeps a tape, the backward pass reads it. The modules' own ``forward`` is the readable twin, and tests
compare both. All are pure functions, so that torch.compile makes few kernels of them, and on a GPU one graph.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

_EPS = 1e-5  # of layer normalisation: torch's default, as in `CriticEnsemble.forward`
_plain = False

tanh_backward = torch.ops.aten.tanh_backward.default
_relu_backward = torch.ops.aten.threshold_backward.default
_norm_backward = torch.ops.aten.native_layer_norm_backward.default


@contextmanager
def plain() -> Iterator[None]:
    """Inside, everything runs through the readable twins."""
    global _plain
    before, _plain = _plain, True
    try:
        yield
    finally:
        _plain = before


def in_use() -> bool:
    """Whether callers should take what is written here, where they can: not inside `plain` or under autocast."""
    return not (_plain or torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"))


@dataclass
class EnsembleTape:
    """What the backward pass of an ensemble needs."""

    rows: Tensor
    """Inputs ``[E, B, I]``; the members share their memory."""
    normalised: list[tuple[Tensor, Tensor, Tensor]]
    """Of each hidden layer: what was normalised ``[E, B, H]``, its mean and its inverse std ``[E, B, 1]``."""
    outputs: list[Tensor]
    """Of each hidden layer, ``[E, B, H]``."""


def ensemble_forward(rows: Tensor, weights: Sequence[Tensor]) -> tuple[Tensor, EnsembleTape]:
    """Values ``[E, B]`` of an ensemble of MLPs with LayerNorm (no affine) and ReLU for ``rows [B, I]``, and the tape.

    Args:
        weights: weight ``[E, in, out]`` and bias ``[E, 1, out]`` of each layer.
    """
    hidden = rows = rows.expand(len(weights[0]), -1, -1)
    tape = EnsembleTape(rows, [], [])
    for layer in range(0, len(weights) - 2, 2):
        before = torch.baddbmm(weights[layer + 1], hidden, weights[layer])
        hidden, mean, rstd = torch.native_layer_norm(before, before.shape[-1:], None, None, _EPS)
        hidden = hidden.relu_()
        tape.normalised.append((before, mean, rstd))
        tape.outputs.append(hidden)
    return torch.baddbmm(weights[-1], hidden, weights[-2]).squeeze(-1), tape


def ensemble_backward(tape: EnsembleTape, weights: Sequence[Tensor], grad: Tensor) -> list[Tensor]:
    """Gradients of the weights, from the gradient ``grad [E, B]`` of the values."""
    last = grad.unsqueeze(-1)
    found = [torch.bmm(tape.outputs[-1].mT, last), last.sum(1, keepdim=True)]
    out = last * weights[-2].mT
    for layer in range(len(tape.outputs) - 1, -1, -1):
        out = _before_norm(tape, layer, out)
        below = tape.outputs[layer - 1] if layer else tape.rows
        found = [torch.bmm(below.mT, out), out.sum(1, keepdim=True), *found]
        if layer:
            out = torch.bmm(out, weights[2 * layer].mT)
    return found


def ensemble_slope(tape: EnsembleTape, weights: Sequence[Tensor], grad: Tensor, first: int) -> Tensor:
    """Gradient ``[B, I - first]`` of the inputs from column ``first`` on, summed over the members; as above."""
    out = grad.unsqueeze(-1) * weights[-2].mT
    for layer in range(len(tape.outputs) - 1, -1, -1):
        out = _before_norm(tape, layer, out)
        if layer:
            out = torch.bmm(out, weights[2 * layer].mT)
    return torch.bmm(out, weights[0][:, first:].mT).sum(0)


def _before_norm(tape: EnsembleTape, layer: int, grad: Tensor) -> Tensor:
    before, mean, rstd = tape.normalised[layer]
    grad = _relu_backward(grad, tape.outputs[layer], 0)
    result: Tensor = _norm_backward(
        grad, before, before.shape[-1:], mean, rstd, None, None, (True, False, False)
    )[0]  # fmt: skip
    return result


def mlp_forward(rows: Tensor, weights: Sequence[Tensor], tanh: bool = False) -> tuple[Tensor, list[Tensor]]:
    """Outputs ``[B, O]`` of an MLP with ReLU (or tanh) for ``rows [B, I]``; and the tape: the inputs of each layer.

    Args:
        weights: weight ``[out, in]`` and bias ``[out]`` of each layer.
    """
    tape = [rows]
    for layer in range(0, len(weights) - 2, 2):
        hidden = torch.addmm(weights[layer + 1], tape[-1], weights[layer].t())
        tape.append(hidden.tanh_() if tanh else hidden.relu_())
    return torch.addmm(weights[-1], tape[-1], weights[-2].t()), tape


def mlp_backward(tape: Sequence[Tensor], weights: Sequence[Tensor], grad: Tensor, tanh: bool = False) -> list[Tensor]:
    """Gradients of the weights, from the gradient ``grad [B, O]`` of the outputs."""
    found: list[Tensor] = []
    for layer in range(len(tape) - 1, -1, -1):
        found = [torch.mm(grad.t(), tape[layer]), grad.sum(0), *found]
        if layer:
            grad = torch.mm(grad, weights[2 * layer])
            grad = tanh_backward(grad, tape[layer]) if tanh else _relu_backward(grad, tape[layer], 0)
    return found


def flat(gradients: Sequence[Tensor]) -> Tensor:
    """One vector ``[P]``, as `FlatParameters` has it."""
    return torch.cat([g.reshape(-1) for g in gradients])
