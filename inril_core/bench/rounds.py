"""Numbers that were measured round by round, so that what disturbs the machine falls on all that is compared."""

from collections.abc import Sequence

import numpy as np


def median(values: Sequence[float]) -> tuple[float, float, float]:
    """Median and its 95 % bootstrap interval."""
    rng = np.random.default_rng(0)
    draws = np.median(rng.choice(np.asarray(values), (2000, len(values))), axis=1)
    return float(np.median(values)), float(np.quantile(draws, 0.025)), float(np.quantile(draws, 0.975))
