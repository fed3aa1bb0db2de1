"""Pins: which demonstrations a seed gives. Whoever changes them changes every experiment that starts from them.

The actions are rounded to 1e-3 before they are digested: another processor rounds the last bits differently.
"""

from __future__ import annotations

import hashlib
from importlib.util import find_spec

import numpy as np
import pytest

from inril_core.experts import Expert, ExpertConfig, make_expert
from inril_core.tasks import Task, make_task

SEEDS = (0, 1)
LONGEST_STEPS = 100


def demonstrate(task: Task, expert: Expert, seeds: tuple[int, ...]) -> tuple[str, list[int]]:
    """SHA-256 (its first 16 digits) of all actions, and the steps of each episode."""
    digest, lengths = hashlib.sha256(), []
    for seed in seeds:
        observation, steps, over = task.reset(seed, "demo"), 0, False
        expert.reset(seed)
        while not over and steps < LONGEST_STEPS:
            action = expert.act(observation)
            digest.update((np.round(action.astype(np.float64), 3) + 0.0).astype("<f4").tobytes())
            observation, step = task.step(action)
            over, steps = step.ended, steps + 1
        lengths.append(steps)
    return digest.hexdigest()[:16], lengths


@pytest.mark.parametrize(
    ("name", "needs", "digest", "lengths"),
    [
        ("insert_leg", "mujoco", "1c08ca9ea9689787", [23, 24]),
        ("one_leg:low", "furniture_bench", "237cacf413f89d41", [68, 68]),
        ("gym:Hopper-v5", "gymnasium", "61297432b7386d19", [100, 100]),
        ("robosuite:Lift", "robosuite", "5b317fca9b53de94", [26, 26]),
    ],
)
def test_a_seed_gives_the_same_demonstration(name: str, needs: str, digest: str, lengths: list[int]) -> None:
    if find_spec(needs) is None:
        pytest.skip("needs `make extras`")
    task = make_task(name)
    assert demonstrate(task, task.expert(), SEEDS) == (digest, lengths)
    task.close()


def test_a_seed_gives_the_same_errors() -> None:
    task = make_task("insert_leg")
    expert = make_expert(ExpertConfig(noise=0.2, bias=0.004, hesitation=0.1), task)
    assert demonstrate(task, expert, (3,)) == ("112287727cdfe00f", [100])
