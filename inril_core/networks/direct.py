"""Forward and backward passes of small networks without autograd.

Autograd's bookkeeping costs a small network more than its matrix products do. What is here computes the same numbers:
the forward pass keeps a tape, the backward pass reads it and writes gradients of weights to where they are wanted. The
modules' own ``forward`` is the readable twin, and tests compare both. The twins are used inside `plain`, under autocast
and under torch.compile.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

_EPS = 1e-5  # of layer normalisation: torch's default, as in `CriticEnsemble.forward`
_plain = False


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
    """Whether callers should take what is written here, where they can."""
    return not (_plain or torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"))


@dataclass
class EnsembleTape:
    """What the backward pass of an ensemble needs; it serves one."""

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
        hidden.relu_()
        tape.normalised.append((before, mean, rstd))
        tape.outputs.append(hidden)
    return torch.baddbmm(weights[-1], hidden, weights[-2]).squeeze(-1), tape


def ensemble_backward(
    tape: EnsembleTape,
    weights: Sequence[Tensor],
    grad: Tensor,
    gradients: Sequence[Tensor] = (),
    first_column: int | None = None,
) -> Tensor | None:
    """From the gradient ``grad [E, B]`` of the values to those of the weights and of the inputs.

    Args:
        gradients: of the weights, which are written here; none: not wanted.
        first_column: of the inputs whose gradient ``[B, columns]``, summed over the members, is returned; None: not
            wanted.
    """
    out = grad.unsqueeze(-1)
    if gradients:
        torch.bmm(tape.outputs[-1].mT, out, out=gradients[-2])
        torch.sum(out, 1, keepdim=True, out=gradients[-1])
    out = out * weights[-2].mT
    for layer in range(len(tape.outputs) - 1, -1, -1):
        before, mean, rstd = tape.normalised[layer]
        out = torch.ops.aten.threshold_backward.default(out, tape.outputs[layer], 0)
        out = torch.ops.aten.native_layer_norm_backward.default(
            out, before, before.shape[-1:], mean, rstd, None, None, (True, False, False)
        )[0]
        if gradients:
            below = tape.outputs[layer - 1] if layer else tape.rows
            torch.bmm(below.mT, out, out=gradients[2 * layer])
            torch.sum(out, 1, keepdim=True, out=gradients[2 * layer + 1])
        if layer:
            out = torch.bmm(out, weights[2 * layer].mT)
    return None if first_column is None else torch.bmm(out, weights[0][:, first_column:].mT).sum(0)


def some_members(weights: Sequence[Tensor], members: Sequence[int]) -> list[Tensor]:
    """The weights of some members of an ensemble, in any order; of one or two without a copy."""
    low, high = min(members), max(members)
    if len(members) <= 2:
        return [w[low : high + 1 : max(high - low, 1)] for w in weights]
    picks = torch.tensor(members, device=weights[0].device)
    return [w.index_select(0, picks) for w in weights]


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


def mlp_backward(
    tape: Sequence[Tensor], weights: Sequence[Tensor], grad: Tensor, gradients: Sequence[Tensor], tanh: bool = False
) -> None:
    """Write the ``gradients`` of the weights, from the gradient ``grad [B, O]`` of the outputs."""
    for layer in range(len(tape) - 1, -1, -1):
        torch.mm(grad.t(), tape[layer], out=gradients[2 * layer])
        torch.sum(grad, 0, out=gradients[2 * layer + 1])
        if layer:
            grad = torch.mm(grad, weights[2 * layer])
            if tanh:
                grad = torch.ops.aten.tanh_backward.default(grad, tape[layer])
            else:
                grad = torch.ops.aten.threshold_backward.default(grad, tape[layer], 0)
