"""How far a simulation can be trusted: whether it ranks policies as reality does, and what its many trials add to few
real ones."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

from inril_core.errors import ConfigError
from inril_core.evaluation.statistics.proportions import Interval, check_confidence


@dataclass(frozen=True)
class Agreement:
    """Success rates of the same policies in simulation and in reality."""

    pearson: float
    """Correlation in [-1, 1]; NaN where either side is constant."""
    mean_maximum_rank_violation: float
    """0: simulation ranks as reality does; else the real success rate that one loses, on average over the policies, by
    believing the worst wrong comparison (Li et al., "Evaluating Real-World Robot Manipulation Policies in Simulation",
    arXiv 2405.05941, eq. 1 and 2)."""
    mean_difference: float
    """Simulated minus real, mean over the policies."""


def agreement(real: npt.ArrayLike, simulated: npt.ArrayLike) -> Agreement:
    """Compare the rates ``[N >= 2]`` of N policies.

    Raises:
        ConfigError: other shapes, or not rates in [0, 1].
    """
    r, s = _rates(real, "real"), _rates(simulated, "simulated")
    if r.shape != s.shape or len(r) < 2:
        raise ConfigError(f"{len(r)} real and {len(s)} simulated rates: need as many of both, 2 or more policies")
    gap = np.abs(r[:, None] - r[None, :])
    wrong = (s[:, None] < s[None, :]) != (r[:, None] < r[None, :])
    constant = np.ptp(r) == 0 or np.ptp(s) == 0
    pearson = math.nan if constant else float(scipy.stats.pearsonr(r, s).statistic)
    return Agreement(pearson, float((gap * wrong).max(axis=1).mean()), float((s - r).mean()))


@dataclass(frozen=True)
class Powered:
    """A real success rate that simulation helped to estimate."""

    rate: float
    interval: Interval
    share: float
    """Weight of the simulation in [0, 1]: 0 where it tells nothing of reality."""
    real_trials_saved_n: int
    """So many more real trials alone would have given the same width."""


def prediction_powered(
    real: npt.ArrayLike, paired: npt.ArrayLike, simulated: npt.ArrayLike, confidence: float = 0.95
) -> Powered:
    """The real success rate from few real trials and many simulated ones, without trusting the simulation: its error
    is measured on the starts that both ran (Angelopoulos et al., Science 382, 669, 2023; weight of the simulation as in
    PPI++, arXiv 2311.01453, example 6.1).

    Args:
        real: outcomes ``[n >= 10]``, 0 or 1.
        paired: simulated outcomes ``[n]`` on the same starts.
        simulated: simulated outcomes ``[N >= 10]`` on other starts of the same distribution.

    The interval is a normal one: with fewer than about 50 real trials, or near 0 and 1, the exact interval of the real
    trials alone is to be read beside it.

    Raises:
        ConfigError: other shapes, or not outcomes.
    """
    check_confidence(confidence)
    y, f, g = _rates(real, "real"), _rates(paired, "paired"), _rates(simulated, "simulated")
    if y.shape != f.shape or len(y) < 10 or len(g) < 10:
        raise ConfigError(
            f"{len(y)} real, {len(f)} paired, {len(g)} simulated outcomes: as many paired as real ones are needed, and "
            "10 or more of each"
        )
    n, many = len(y), len(g)
    spread = float(np.var(np.concatenate([f, g])))
    covariance = float(np.mean((y - y.mean()) * (f - f.mean())))
    share = 0.0 if spread == 0.0 else min(1.0, max(0.0, covariance / ((1.0 + n / many) * spread)))
    rate = share * float(g.mean()) + float((y - share * f).mean())
    variance = share**2 * float(np.var(g)) / many + float(np.var(y - share * f)) / n
    half = float(scipy.stats.norm.isf((1.0 - confidence) / 2.0)) * math.sqrt(variance)
    alone = float(np.var(y))
    saved = 0 if variance == 0.0 else max(0, round(alone / variance) - n)
    bounds = Interval(max(0.0, rate - half), min(1.0, rate + half))
    return Powered(min(1.0, max(0.0, rate)), bounds, share, saved)


def _rates(values: npt.ArrayLike, what: str) -> npt.NDArray[np.float64]:
    found = np.asarray(values, np.float64)
    if found.ndim != 1 or not ((found >= 0.0) & (found <= 1.0)).all():  # false for NaN too
        raise ConfigError(f"{what}: must be a list of numbers in [0, 1]")
    return found
