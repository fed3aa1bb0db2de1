"""Episodes of a point that goes to its goal or stops before it, labelled by a person."""

from __future__ import annotations

import dataclasses

import numpy as np

from inril_core.data.episode import Episode
from tests.finetune.point_task import make_episode

STEPS, PERIOD_NS = 12, 100_000_000


def labelled(number: int, success: bool, by: str = "ada") -> Episode:
    """The point ends within 0.1 of the origin where it is a success, and farther than 0.5 elsewhere."""
    rng = np.random.default_rng(number)
    start, angle = rng.uniform(-1.0, 1.0, 2) + np.array([2.5, 0.0]), rng.uniform(-0.6, 0.6)
    end = (0.05 if success else rng.uniform(0.5, 1.0)) * np.array([np.cos(angle), np.sin(angle)])
    way = np.linspace(start, end, STEPS + 1)
    rows = np.concatenate([way, np.zeros((STEPS + 1, 2))], 1)
    episode = make_episode(rows, np.zeros((STEPS, 6)), success, "eval", f"e-{number}-{success}", True)
    stamps = np.arange(STEPS + 1, dtype=np.int64) * PERIOD_NS
    return dataclasses.replace(episode, stamps_ns=stamps, outcome_source=by)


def many(count: int) -> list[Episode]:
    """Half of them successes."""
    return [labelled(number, number % 2 == 0) for number in range(count)]
