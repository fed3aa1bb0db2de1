"""Keeping two gradients out of each other's way: pure functions on flat vectors."""

import torch
from torch import Tensor

_TINY = 1e-30


def _checked_dot(g: Tensor, ref: Tensor) -> tuple[float, float]:
    """<g, ref> and |ref|^2, in double precision.

    Raises:
        ValueError: not two 1-D tensors of one length, or a value is not finite.
    """
    if g.ndim != 1 or ref.ndim != 1 or g.shape != ref.shape:
        raise ValueError(f"shapes {tuple(g.shape)} and {tuple(ref.shape)}: must be two 1-D tensors of one length")
    wide_g, wide_ref = g.double(), ref.double()
    dot, norm, own = (float(torch.dot(a, b)) for a, b in ((wide_g, wide_ref), (wide_ref, wide_ref), (wide_g, wide_g)))
    # an infinity or NaN anywhere makes one of the squared norms non-finite
    if not (abs(dot) < float("inf") and norm < float("inf") and own < float("inf")):
        raise ValueError("a gradient contains NaN or infinity")
    return dot, norm


def project_orthogonal(g: Tensor, ref: Tensor) -> Tensor:
    """``g`` without its component along ``ref``: g - (<g, ref> / |ref|^2) ref.

    Args:
        g, ref: 1-D tensors of one length. A zero ``ref`` (norm up to 1e-15) returns ``g``.

    Raises:
        ValueError: shapes differ or a value is not finite.
    """
    dot, norm = _checked_dot(g, ref)
    return g if norm <= _TINY else g - (dot / norm) * ref


def project_conflicting(g: Tensor, ref: Tensor) -> Tensor:
    """`project_orthogonal` if the two point against each other (<g, ref> < 0), otherwise ``g``.

    PCGrad (arXiv 2001.06782) for one pair: afterwards a step along ``g`` does not, to first order, undo ``ref``.

    Raises:
        ValueError: shapes differ or a value is not finite.
    """
    dot, norm = _checked_dot(g, ref)
    return g if dot >= 0.0 or norm <= _TINY else g - (dot / norm) * ref


def cosine(a: Tensor, b: Tensor) -> float:
    """Cosine of the angle between two flat vectors; 0 if one of them is zero.

    Raises:
        ValueError: shapes differ or a value is not finite.
    """
    dot, norm_b = _checked_dot(a, b)
    scale = (float(torch.dot(a.double(), a.double())) * norm_b) ** 0.5
    return dot / scale if scale > _TINY else 0.0
