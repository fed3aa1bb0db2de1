"""Numbers of demonstrations that are far from what the same field holds everywhere else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inril_core.contract import Contract
from inril_core.data.episode import Episode

FAR = 5.0
"""How many typical ranges a value lies beyond the typical range before it is an outlier."""
LEAST_RANGE = 0.5
"""The typical range is taken to be at least this (m, rad, m/s, ...), so that a field that changes rarely, such as the
sine of a turn that takes five steps of a hundred, is no trap. Nothing within 2.5 of the typical range is an outlier."""
_PIECES = 12


@dataclass(frozen=True)
class Outlier:
    """One field of one step of an episode."""

    episode_id: str
    step: int
    field: str
    """``observations[7]``, ``tool_pose[0]`` or ``actions[2]``; of a contract's task with the name in the contract."""
    value: float
    low: float
    high: float
    """The typical range of the field."""

    def __str__(self) -> str:
        return (
            f"{self.episode_id}, step {self.step}, {self.field} = {self.value:.6g} "
            f"(typically {self.low:.3g} to {self.high:.3g})"
        )


def find_outliers(episodes: Sequence[Episode], names: Sequence[str] = ()) -> list[Outlier]:
    """The outliers of each field, over all episodes of one task.

    The typical range of a field spans the middle of the ranges that it has in pieces of the episodes: from the lower
    quartile of their least values to the upper quartile of their greatest. A quarter of all pieces may be wrong, or
    different, without moving it. An outlier lies `FAR` such ranges beyond it. Executed actions have the range [-1, 1]
    (what the limits let through can be a few times as much, measured against the last command).

    Args:
        names: of the observation's fields, in order; without, they are numbered.
    """
    found = []
    for array in ("observations", "tool_pose", "actions"):
        rows = [np.asarray(getattr(episode, array), np.float64) for episode in episodes]
        if not rows:
            continue
        width = rows[0].shape[1]
        low, high = (np.full(width, -1.0), np.full(width, 1.0)) if array == "actions" else _typical(rows)
        reach = FAR * np.maximum(high - low, LEAST_RANGE)
        for episode, values in zip(episodes, rows, strict=True):
            for step, index in np.argwhere((values < low - reach) | (values > high + reach)).tolist():
                name = names[index] if array == "observations" and len(names) == len(low) else f"{array}[{index}]"
                found.append(
                    Outlier(episode.episode_id, step, name, float(values[step, index]), low[index], high[index])
                )
    return found


def _typical(rows: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper end ``[D]`` of the typical range. Few episodes are cut into at least `_PIECES` pieces in all."""
    cuts = -(-_PIECES // len(rows))
    pieces = [piece for values in rows for piece in np.array_split(values, min(cuts, len(values)))]
    low = np.quantile([piece.min(0) for piece in pieces], 0.25, axis=0, method="higher")
    high = np.quantile([piece.max(0) for piece in pieces], 0.75, axis=0, method="lower")
    return np.minimum(low, high), np.maximum(low, high)


def observation_names(contract: Contract) -> list[str]:
    """Name of each number of the state vector: the contract's field, with its place where the field has several."""
    return [
        field.name if field.size == 1 else f"{field.name}[{index}]"
        for field in contract.observation
        for index in range(field.size)
    ]
