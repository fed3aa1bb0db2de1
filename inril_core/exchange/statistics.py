"""Statistics of columns as LeRobotDataset v3 states them: minimum, maximum, mean, standard deviation, quantiles, count.

Everything is exact but the quantiles of a whole data set, which come from a histogram of 5,000 bins between minimum
and maximum: no episode is kept in memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
BINS = 5000

Stats = dict[str, np.ndarray]


def rows_stats(values: np.ndarray) -> Stats:
    """Of the rows ``[T]`` or ``[T, D]``; each statistic is ``[D]``, of one column ``[1]``."""
    rows = np.asarray(values, np.float64).reshape(len(values), -1)
    stats = {"min": rows.min(0), "max": rows.max(0), "mean": rows.mean(0), "std": rows.std(0)}
    stats["count"] = np.array([len(rows)])
    return stats | {name: np.quantile(rows, q, axis=0) for name, q in QUANTILES.items()}


@dataclass
class RunningStats:
    """Statistics of all rows seen so far (Chan, Golub and LeVeque 1979: means and variances of parts are joined)."""

    count: int = 0
    mean: np.ndarray = field(default_factory=lambda: np.zeros(0))
    squares: np.ndarray = field(default_factory=lambda: np.zeros(0))
    """Sum of the squared differences from the mean."""
    low: np.ndarray = field(default_factory=lambda: np.zeros(0))
    high: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def add(self, values: np.ndarray) -> None:
        """Take in rows ``[T]`` or ``[T, D]``."""
        rows = np.asarray(values, np.float64).reshape(len(values), -1)
        count, mean = len(rows), rows.mean(0)
        squares = ((rows - mean) ** 2).sum(0)
        if self.count == 0:
            self.count, self.mean, self.squares = count, mean, squares
            self.low, self.high = rows.min(0), rows.max(0)
            return
        total, apart = self.count + count, mean - self.mean
        self.squares = self.squares + squares + apart**2 * (self.count * count / total)
        self.mean = self.mean + apart * (count / total)
        self.count = total
        self.low, self.high = np.minimum(self.low, rows.min(0)), np.maximum(self.high, rows.max(0))

    def stats(self, again: Iterable[np.ndarray]) -> Stats:
        """The statistics. again: the same rows once more, in pieces, for the quantiles."""
        width = len(self.mean)
        counts = np.zeros((width, BINS), np.int64)
        span = np.where(self.high > self.low, self.high - self.low, 1.0)
        for piece in again:
            rows = np.asarray(piece, np.float64).reshape(len(piece), -1)
            bins = ((rows - self.low) / span * BINS).astype(np.int64).clip(0, BINS - 1)
            for index in range(width):
                counts[index] += np.bincount(bins[:, index], minlength=BINS)
        found: Stats = {"min": self.low, "max": self.high, "mean": self.mean}
        found |= {"std": np.sqrt(self.squares / self.count), "count": np.array([self.count])}
        before = np.cumsum(counts, 1)
        for name, q in QUANTILES.items():
            bins = (before < q * (self.count - 1) + 1.0).sum(1).clip(0, BINS - 1)
            found[name] = np.clip(self.low + (bins + 0.5) / BINS * span, self.low, self.high)
        return found


@dataclass
class PixelStats:
    """Statistics of 8-bit images, exact: values are counted."""

    frames: int = 0
    counts: np.ndarray = field(default_factory=lambda: np.zeros((3, 256), np.int64))

    def add(self, pixels: np.ndarray) -> None:
        """Take in ``uint8[n, H, W, 3]``."""
        self.frames += len(pixels)
        for channel in range(3):
            self.counts[channel] += np.bincount(pixels[..., channel].ravel(), minlength=256)

    def join(self, other: PixelStats) -> None:
        """Take in what another has seen."""
        self.frames += other.frames
        self.counts = self.counts + other.counts

    def stats(self) -> Stats:
        """Each statistic is ``[3, 1, 1]``, of values from 0 to 1; ``count`` is the number of images."""
        values, total = np.arange(256) / 255.0, self.counts.sum(1)
        mean = self.counts @ values / total
        std = np.sqrt(np.maximum(self.counts @ values**2 / total - mean**2, 0.0))
        seen = self.counts > 0
        found = {"min": values[seen.argmax(1)], "max": values[255 - seen[:, ::-1].argmax(1)], "mean": mean, "std": std}
        before = np.cumsum(self.counts, 1)
        for name, q in QUANTILES.items():
            found[name] = values[(before < q * (total - 1)[:, None] + 1.0).sum(1).clip(0, 255)]
        return {name: value.reshape(3, 1, 1) for name, value in found.items()} | {"count": np.array([self.frames])}


def as_json(stats: dict[str, Stats]) -> dict[str, dict[str, Any]]:
    """Statistics by feature as plain lists."""
    return {name: {key: value.tolist() for key, value in values.items()} for name, values in stats.items()}
