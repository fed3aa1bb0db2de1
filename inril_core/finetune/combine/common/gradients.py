"""Keeping two gradients out of each other's way: pure functions on flat vectors."""

from collections.abc import Sequence
from ctypes import CDLL
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize, nnls
from torch import Tensor

from inril_core.networks.direct import in_use
from inril_core.networks.native import dots

_TINY = 1e-30
_VANISHES = 1e-6  # share of the mean gradient norm below which a combination counts as zero
Scaling = Literal["none", "c", "c_squared", "lambda"]
_Array = npt.NDArray[np.float64]


def _checked_dot(g: Tensor, ref: Tensor, kernels: CDLL | None = None) -> tuple[float, float, float]:
    """<g, ref>, |ref|^2 and |g|^2, in double precision.

    Raises:
        ValueError: not two 1-D tensors of one length, or a value is not finite.
    """
    if g.ndim != 1 or ref.ndim != 1 or g.shape != ref.shape:
        raise ValueError(f"shapes {tuple(g.shape)} and {tuple(ref.shape)}: must be two 1-D tensors of one length")
    if kernels is not None and in_use():
        own, dot, norm = dots(kernels, g, ref)
    else:
        both = torch.stack((g, ref)).double()
        (own, dot), (_, norm) = (both @ both.T).tolist()  # read at once: a GPU is waited for
    # an infinity or NaN anywhere makes one of the squared norms non-finite
    if not (abs(dot) < float("inf") and norm < float("inf") and own < float("inf")):
        raise ValueError("a gradient contains NaN or infinity")
    return dot, norm, own


def project_orthogonal(g: Tensor, ref: Tensor, kernels: CDLL | None = None) -> Tensor:
    """``g`` without its component along ``ref``: g - (<g, ref> / |ref|^2) ref.

    Args:
        g, ref: 1-D tensors of one length. A zero ``ref`` (norm up to 1e-15) returns ``g``.
        kernels: `inril_core.networks.native`, where they are to be used.

    Raises:
        ValueError: shapes differ or a value is not finite.
    """
    dot, norm, _ = _checked_dot(g, ref, kernels)
    return g if norm <= _TINY else g - (dot / norm) * ref


def project_conflicting(g: Tensor, ref: Tensor, kernels: CDLL | None = None) -> Tensor:
    """`project_orthogonal` if the two point against each other (<g, ref> < 0), otherwise ``g``.

    PCGrad (arXiv 2001.06782) for one pair: afterwards a step along ``g`` does not, to first order, undo ``ref``.

    Raises:
        ValueError: shapes differ or a value is not finite.
    """
    dot, norm, _ = _checked_dot(g, ref, kernels)
    return g if dot >= 0.0 or norm <= _TINY else g - (dot / norm) * ref


def cosine(a: Tensor, b: Tensor, kernels: CDLL | None = None) -> float:
    """Cosine of the angle between two flat vectors; 0 if one of them is zero.

    Raises:
        ValueError: shapes differ or a value is not finite.
    """
    dot, norm_b, norm_a = _checked_dot(a, b, kernels)
    scale = (norm_a * norm_b) ** 0.5
    return dot / scale if scale > _TINY else 0.0


def _checked_stack(grads: Sequence[Tensor]) -> Tensor:
    """The gradients as rows, in double precision.

    Raises:
        ValueError: none, not 1-D tensors of one length, or a value is not finite.
    """
    if len(grads) == 0:
        raise ValueError("no gradients: give at least one")
    shapes = [tuple(g.shape) for g in grads]
    if any(len(shape) != 1 or shape != shapes[0] for shape in shapes):
        raise ValueError(f"shapes {shapes}: must be 1-D tensors of one length")
    rows = torch.stack([g.double() for g in grads])
    if not torch.isfinite(rows).all():
        raise ValueError("a gradient contains NaN or infinity")
    return rows


def pcgrad(
    grads: Sequence[Tensor],
    reduction: Literal["mean", "sum"] = "mean",
    generator: torch.Generator | None = None,
) -> Tensor:
    """PCGrad (Yu et al., "Gradient Surgery for Multi-Task Learning", arXiv 2001.06782, algorithm 1).

    Each gradient loses, one after the other, its component against each other *original* gradient that it conflicts
    with; the results are combined.

    Args:
        grads: K 1-D tensors of one length.
        reduction: ``mean`` (default: the size of an average gradient) or ``sum`` (as in the authors' code).
        generator: draws the order of the others, as in the paper; None: in the order given. No matter for K = 2.

    Raises:
        ValueError: no gradient, shapes differ or a value is not finite.
    """
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction {reduction!r}: must be 'mean' or 'sum'")
    rows = _checked_stack(grads)
    total = torch.zeros_like(rows[0])
    for i, row in enumerate(rows):
        others = [j for j in range(len(rows)) if j != i]
        if generator is not None:
            others = [others[k] for k in torch.randperm(len(others), generator=generator).tolist()]
        for j in others:
            row = project_conflicting(row, rows[j])
        total += row
    return (total / len(rows) if reduction == "mean" else total).to(grads[0].dtype)


def cagrad(grads: Sequence[Tensor], c: float, scaling: Scaling = "none") -> Tensor:
    """CAGrad (Liu et al., "Conflict-Averse Gradient Descent", arXiv 2110.14048, eq. 3 and its dual, algorithm 1).

    The d that maximises min_i <g_i, d> within |d - g0| <= c |g0|, with g0 the mean of the gradients. By duality
    d = g0 + (c |g0| / |g_w|) g_w, where g_w = sum_i w_i g_i and w minimises <g_w, g0> + c |g0| |g_w| over the simplex;
    that needs inner products only. Two gradients: in closed form. More: sequential quadratic programming on their Gram
    matrix.

    Args:
        grads: K 1-D tensors of one length.
        c: radius of the search as a share of |g0|. 0: d = g0. The paper's convergence result needs c < 1.
        scaling: what d is divided by. ``none`` (default): 1, d is the solution; ``c``: 1 + c; ``c_squared``: 1 + c^2;
            ``lambda``: 1 + c |g0| / |g_w|. The authors' code has the last three in different places.

    Raises:
        ValueError: no gradient, shapes differ, a value is not finite, or another argument is out of its range.
    """
    return weighted_sum(grads, cagrad_coefficients(grads, c, scaling))


def weighted_sum(grads: Sequence[Tensor], coefficients: Sequence[float]) -> Tensor:
    """sum_i coefficients_i g_i, in double precision and then in the gradients' own.

    Raises:
        ValueError: no gradient, shapes differ or a value is not finite.
    """
    rows = _checked_stack(grads)
    return (torch.tensor(coefficients, dtype=torch.float64, device=rows.device) @ rows).to(grads[0].dtype)


def cagrad_coefficients(grads: Sequence[Tensor], c: float, scaling: Scaling = "none") -> list[float]:
    """What `cagrad` multiplies each gradient with; before the scaling none is below 1/K, that of the mean.

    Raises:
        ValueError: see `cagrad`.
    """
    rows = _checked_stack(grads)
    count = len(rows)
    if not 0.0 <= c < float("inf"):
        raise ValueError(f"c = {c}: must be finite and >= 0")
    if scaling not in ("none", "c", "c_squared", "lambda"):
        raise ValueError(f"scaling {scaling!r}: must be 'none', 'c', 'c_squared' or 'lambda'")
    average = np.full(count, 1.0 / count)
    gram: _Array = (rows @ rows.T).cpu().numpy()
    scale = float(np.sqrt(np.diag(gram)).mean())
    if scale == 0.0:
        return average.tolist()
    unit = gram / scale**2
    share, of_w = _cagrad_coefficients(unit, average, c)
    divisor = {"none": 1.0, "c": 1.0 + c, "c_squared": 1.0 + c * c, "lambda": 1.0 + of_w}[scaling]
    return (share / divisor).tolist()


def _cagrad_coefficients(gram: _Array, average: _Array, c: float) -> tuple[_Array, float]:
    """Coefficients of the gradients in d, and c |g0| / |g_w|; ``gram [K, K]`` of gradients of norm around 1."""
    radius = c * _norm(gram, average)
    w = _two_weights(gram, average, radius) if len(gram) == 2 else _many_weights(gram, average, radius)
    length = _norm(gram, w)
    if length >= _VANISHES and len(gram) == 2:
        return average + (radius / length) * w, radius / length
    # Where g_w is all but 0 it says little about d; the point nearest to g0 that opposes no gradient then says more.
    found = average + (radius / length) * w if length > 0.0 else average
    root = np.linalg.eigh(gram)
    factor = np.sqrt(root.eigenvalues.clip(0.0))[:, None] * root.eigenvectors.T
    ridge = 1e-7 * np.eye(len(gram))  # opposite gradients: no unbounded pair of coefficients that cancel
    correction = nnls(np.vstack((factor, ridge)), np.concatenate((-factor @ average, np.zeros(len(gram)))))[0]
    nearest = average + correction
    inside = _norm(gram, correction) <= radius * (1.0 + 1e-7)
    if inside and (gram @ nearest).min() > (gram @ found).min():
        return nearest, float(correction.sum())
    return found, radius / length if length > 0.0 else 0.0


def _norm(gram: _Array, coefficients: _Array) -> float:
    return float(np.sqrt(np.maximum(coefficients @ gram @ coefficients, 0.0)))


def _two_weights(gram: _Array, average: _Array, radius: float) -> _Array:
    """w = (x, 1 - x) at the minimum of slope x + radius |x g_1 + (1 - x) g_2| over [0, 1], a convex function."""
    square = gram[0, 0] - 2.0 * gram[0, 1] + gram[1, 1]  # of g_1 - g_2
    slope = float((gram[0] - gram[1]) @ average)
    if square <= _TINY:  # equal gradients: each w gives the same g_w
        return np.array([0.5, 0.5])
    steepest = radius**2 * square - slope**2
    if steepest <= 0.0:  # the linear part wins everywhere
        x = 0.0 if slope > 0.0 else 1.0
    else:
        foot = (gram[1, 1] - gram[0, 1]) / square  # where the line through both gradients is nearest to 0
        distance = np.maximum(gram[0, 0] * gram[1, 1] - gram[0, 1] ** 2, 0.0) / square  # squared
        x = foot - slope * np.sqrt(distance / (square * steepest))
    x = min(max(x, 0.0), 1.0)
    return np.array([x, 1.0 - x])


def _many_weights(gram: _Array, average: _Array, radius: float) -> _Array:
    count = len(gram)

    def objective(w: _Array) -> tuple[float, _Array]:
        along, length = gram @ average, np.sqrt(np.maximum(w @ gram @ w, 0.0) + 1e-24)
        return float(w @ along + radius * length), along + radius * (gram @ w) / length

    solution = minimize(
        objective,
        average,
        jac=True,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * count,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1.0, "jac": lambda w: np.ones(count)},
        options={"ftol": 1e-14, "maxiter": 200},
    )
    w: _Array = np.clip(solution.x, 0.0, None)
    return w / w.sum()
