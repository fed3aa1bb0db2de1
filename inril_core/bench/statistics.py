"""Estimates over seeds with their uncertainty, as the field does them: interquartile means with stratified bootstrap
intervals and the probability of improvement (Agarwal et al., arXiv 2108.13264), by that paper's library, rliable.

A percentile bootstrap of few seeds is too narrow: it cannot leave the range of the values, and that range of n seeds
misses the true median in one of ``2**(n - 1)`` cases. `MIN_SEEDS` is where this falls to one in sixteen; below, nothing
is concluded.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from inril_core.errors import missing_package

MIN_SEEDS = 5
REPETITIONS = 2000

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval."""

    value: float
    low: float
    """NaN, as `high`, where one run says nothing about the spread."""
    high: float
    n: int
    """Runs that `value` is made of."""

    def excludes(self, value: float) -> bool:
        """Whether the interval lies on one side of ``value``."""
        return bool(self.low > value or self.high < value)


def require_rliable() -> None:
    """Raises:
    ConfigError: the library is not installed.
    """
    _rliable()


def iqm(scores: npt.ArrayLike) -> Estimate:
    """Interquartile mean of ``[n]`` or ``[n, tasks]`` scores; strata: the tasks. Of three runs or fewer: their mean."""
    values = _matrix(scores)
    _, metrics = _rliable()
    return _bootstrap(values, metrics.aggregate_iqm)


def iqm_curve(scores: npt.ArrayLike) -> tuple[Array, Array, Array]:
    """Interquartile mean, lower and upper bound ``[T]`` of curves ``[n, T]``, point by point."""
    from scipy.stats import trim_mean

    values = np.asarray(scores, np.float64)[:, None, :]
    if len(values) < 2:
        nothing = np.full(values.shape[-1], np.nan)
        return values[0, 0], nothing, nothing
    library, _ = _rliable()

    def frames(runs: Array) -> Array:
        """`rliable.metrics.aggregate_iqm` of each frame, in one call."""
        mean: Array = trim_mean(runs.reshape(-1, runs.shape[-1]), 0.25, axis=0)
        return mean

    with _repeatable():
        points, intervals = library.get_interval_estimates({"": values}, frames, reps=REPETITIONS)
    return points[""], intervals[""][0], intervals[""][1]


def mean(scores: npt.ArrayLike) -> Estimate:
    """Mean of ``[n]`` or ``[n, tasks]`` values."""
    _, metrics = _rliable()
    return _bootstrap(_matrix(scores), metrics.aggregate_mean)


def improvement(a: npt.ArrayLike, b: npt.ArrayLike) -> Estimate:
    """Probability that a run of A scores higher than a run of B, ties counting half; ``[n]`` or ``[n, tasks]``."""
    library, metrics = _rliable()
    scores = _matrix(a), _matrix(b)
    if min(len(scores[0]), len(scores[1])) < 2:
        value = float(metrics.probability_of_improvement(*scores))
        return Estimate(value, float("nan"), float("nan"), min(map(len, scores)))
    with _repeatable():
        points, intervals = library.get_interval_estimates(
            {"": scores}, metrics.probability_of_improvement, reps=REPETITIONS
        )
    low, high = (float(bound) for bound in intervals[""].ravel())
    return Estimate(float(points[""]), low, high, min(map(len, scores)))


def ratio(a: npt.ArrayLike, b: npt.ArrayLike) -> Estimate:
    """Geometric mean of A over B in pairs that share seed and task, ``[n]`` each, all above 0."""
    logs = mean(np.log(np.asarray(a, np.float64)) - np.log(np.asarray(b, np.float64)))
    value, low, high = np.exp([logs.value, logs.low, logs.high])
    return Estimate(float(value), float(low), float(high), logs.n)


def _bootstrap(values: Array, aggregate: Callable[[Array], Any]) -> Estimate:
    if len(values) < 2:
        return Estimate(float(aggregate(values)), float("nan"), float("nan"), len(values))
    library, _ = _rliable()
    with _repeatable():
        points, intervals = library.get_interval_estimates(
            {"": values}, lambda runs: np.array([aggregate(runs)]), reps=REPETITIONS
        )
    low, high = (float(bound) for bound in intervals[""].ravel())
    return Estimate(float(points[""][0]), low, high, len(values))


def _matrix(scores: npt.ArrayLike) -> Array:
    values = np.asarray(scores, np.float64)
    return values[:, None] if values.ndim == 1 else values


@contextmanager
def _repeatable() -> Iterator[None]:
    """rliable's bootstrap draws from NumPy's global generator, whatever ``random_state`` it is given."""
    state = np.random.get_state()
    np.random.seed(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # arch tells of a keyword that rliable passes on
            yield
    finally:
        np.random.set_state(state)


def _rliable() -> tuple[Any, Any]:
    try:
        from rliable import library, metrics
    except ImportError as error:
        raise missing_package("tables and plots need rliable", "bench", error) from error
    return library, metrics
