"""Control cadence and link ages of the episodes that ran in real time, from the recorded stamps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inril_core.contract import Contract
from inril_core.data.episode import Episode


@dataclass(frozen=True)
class Spread:
    """Percentiles of one quantity, in the quantity's unit."""

    count: int
    p50: float
    p95: float
    largest: float


@dataclass(frozen=True)
class LinkAge:
    """Age of one link's data when a tick opened, in ms. ages: None if the link was never due or heard."""

    name: str
    ages_ms: Spread | None
    limit_ms: float | None
    over_limit: int


@dataclass(frozen=True)
class Cadence:
    """How regular the Observations of episodes were."""

    episodes: int
    steps: int
    expected_ms: float
    """The contract's period."""
    periods_ms: np.ndarray
    """float64[n], between the Observations of one episode."""
    links: tuple[LinkAge, ...]


def measure(episodes: Sequence[Episode], contract: Contract) -> Cadence:
    """Cadence of episodes recorded under `contract`.

    Raises:
        ValueError: no episode, or one whose links are not the contract's.
    """
    if not episodes:
        raise ValueError("no episode to measure")
    expected = len(contract.links)
    for episode in episodes:
        if episode.link_age_s.shape[1] != expected:
            raise ValueError(f"episode {episode.episode_id} has {episode.link_age_s.shape[1]} links, not {expected}")
    periods_ms = np.concatenate([np.diff(e.stamps_ns) for e in episodes]) * 1e-6
    ages_ms = np.concatenate([e.link_age_s for e in episodes]).astype(np.float64) * 1e3
    links = tuple(_link(name, ages_ms[:, i], contract) for i, name in enumerate(contract.links))
    return Cadence(len(episodes), sum(e.steps for e in episodes), contract.period_ns * 1e-6, periods_ms, links)


def spread(values: np.ndarray) -> Spread | None:
    """Percentiles of the finite values; None without any."""
    finite = values[np.isfinite(values)]
    if len(finite) == 0:
        return None
    p50, p95 = np.percentile(finite, [50, 95])
    return Spread(len(finite), float(p50), float(p95), float(finite.max()))


def _link(name: str, ages_ms: np.ndarray, contract: Contract) -> LinkAge:
    limits = contract.staleness.model_dump()
    kind = "camera_s" if name.startswith("camera_") else f"{name}_s"
    limit_ms = limits[kind] * 1e3 if kind in limits else None
    over = 0 if limit_ms is None else int((ages_ms > limit_ms).sum())
    return LinkAge(name, spread(ages_ms), limit_ms, over)
