"""The allowed motion that is nearest to the one asked for: one small quadratic program (QP).

    minimise |x - asked|^2   subject to   row . x <= bound   and   |x_part - centre| <= radius

x (6) is a step in the action's own units: translation and rotation vector, each divided by its scale in the contract,
so that nearest is meant as policy and person count. The balls are not linear; each is cut by tangent planes where a
solution lies outside, until none does (Kelley, "The Cutting-Plane Method for Solving Convex Programs", 1960). The QP is
solved by daqp (Arnstroem et al., "A Dual Active-Set Solver for Embedded Quadratic Programming Using Recursive LDL'
Updates", 2022).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import daqp
import numpy as np

Vector6 = tuple[float, float, float, float, float, float]

MAX_CUTS = 24
"""Tangent planes in all; a wall, the step limit and an acceleration met at once take about 10."""

TOLERANCE = 1e-9
"""Action units; far below what the last check allows for rounding."""

_INNER = 1.0 - 1e-4
"""A ball that was left again after its first cut is cut this much further inside, so that few cuts suffice."""

_BIG = 1e30
_ACTIVE = 1e-9


class Row(NamedTuple):
    """A half-space, ``normal . x <= bound``."""

    name: str
    normal: Vector6
    """m and rad per m and rad."""
    bound: float
    """0 or more: standing still is allowed."""
    shown: float = 1.0
    """Factor from the row's to the limit's own unit."""


class Ball(NamedTuple):
    """A bound on the length of a translation, or of a turn, counted from `centre`."""

    name: str
    turn: bool
    """It bounds the turn, else the translation."""
    centre: tuple[float, float, float]
    """m, or rad."""
    radius: float
    """m, or rad."""
    shown: float = 1.0
    """As of `Row`."""


def row_margin(row: Row, x: Sequence[float]) -> float:
    """What is left of a row's limit, in its own unit; below 0: it is broken. x (6): m and rad."""
    a, b, c, d, e, f = row.normal
    return row.shown * (row.bound - a * x[0] - b * x[1] - c * x[2] - d * x[3] - e * x[4] - f * x[5])


def ball_margin(ball: Ball, x: Sequence[float]) -> float:
    """As `row_margin`."""
    start = 3 if ball.turn else 0
    return ball.shown * (ball.radius - math.dist(x[start : start + 3], ball.centre))


def keeps(x: Sequence[float], rows: Sequence[Row], balls: Sequence[Ball], tolerance: float) -> bool:
    """Whether a step x (6: m and rad) keeps all limits, up to `tolerance` (m and rad, times the row's own length)."""
    return all(row_margin(row, x) >= -tolerance * row.shown for row in rows) and all(
        ball_margin(ball, x) >= -tolerance * ball.shown for ball in balls
    )


def nearest(
    asked: Sequence[float], rows: Sequence[Row], balls: Sequence[Ball], scales: tuple[float, float]
) -> tuple[Vector6, list[str]] | None:
    """The allowed step nearest to `asked`, and the names of the limits that it touches; None: none was found.

    asked: 6, m and rad. scales: of the action, m and rad per unit.

    The result is checked here once more, whatever the solver says of it.
    """
    unit = np.array([scales[0]] * 3 + [scales[1]] * 3)
    wanted = np.array(asked) / unit
    lines = np.array([row.normal for row in rows]).reshape(-1, 6) * unit
    bounds = np.array([row.bound for row in rows])
    lengths = np.maximum(np.sqrt((lines * lines).sum(axis=1)), 1e-12)
    lines, bounds = lines / lengths[:, None], bounds / lengths
    names = [row.name for row in rows]
    cut: set[Ball] = set()
    for _ in range(MAX_CUTS + 1):
        solved = _solve(wanted, lines, bounds)
        if solved is None:
            return None
        found, forces = solved
        x = found * unit
        outside = [ball for ball in balls if -ball_margin(ball, x) > TOLERANCE * ball.shown * scales[ball.turn]]
        if not outside:
            touched = [name for name, force in zip(names, forces, strict=True) if force > _ACTIVE]
            step: Vector6 = tuple(x.tolist())
            sound = keeps(step, rows, balls, 4.0 * TOLERANCE)
            return (step, list(dict.fromkeys(touched))) if sound else None
        for ball in outside:
            start, scale = (3, scales[1]) if ball.turn else (0, scales[0])
            centre = np.array(ball.centre) / scale
            away = found[start : start + 3] - centre
            away /= math.sqrt(float(away @ away))
            line = np.zeros(6)
            line[start : start + 3] = away
            radius = ball.radius / scale * (_INNER if ball in cut else 1.0)
            lines = np.vstack([lines, line])
            bounds = np.append(bounds, float(away @ centre) + radius)
            names.append(ball.name)
            cut.add(ball)
    return None


def _solve(wanted: np.ndarray, lines: np.ndarray, bounds: np.ndarray) -> tuple[np.ndarray, Sequence[float]] | None:
    """Solution (6) and the multipliers of the rows; None: infeasible, or not numbers."""
    size = len(bounds)
    x, _, flag, info = daqp.solve(
        np.eye(6), -wanted, np.ascontiguousarray(lines), bounds, np.full(size, -_BIG), np.zeros(size, np.int32),
        primal_tol=1e-11,
    )  # fmt: skip
    if flag != 1 or not np.isfinite(x).all():
        return None
    return x, info["lam"].tolist()
