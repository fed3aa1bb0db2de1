"""Pins: a sweep that leaves an axis out, reaches a table below, or is quicker than the action allows."""

from __future__ import annotations

import json

import numpy as np
import pytest

from inril_core.contract import Contract, load_contract
from inril_core.teleop import TickView
from inril_core.teleop.sweep import REACH, SPEED_MAX, Config, episodes_needed
from inril_core.teleop_check.verdict import SPEED_MIN


def contract(rate_hz: float, steps: int) -> Contract:
    values = json.loads(load_contract("insert_leg").text)
    return Contract.model_validate(values | {"control_rate_hz": rate_hz, "episode_length_steps": steps})


@pytest.mark.parametrize(("rate_hz", "steps", "episodes"), [(10, 100, 6), (10, 30, 6), (10, 600, 1), (50, 1000, 3)])
def test_every_axis_is_driven_once_and_above_its_start(rate_hz: float, steps: int, episodes: int) -> None:
    made = contract(rate_hz, steps)
    device = Config().build(made)
    assert episodes_needed(made) == episodes
    scale = np.repeat([made.action.translation_scale_m, made.action.rotation_scale_rad], 3)
    reached = np.zeros((0, 6))
    for episode in range(episodes):
        actions = []
        for step in range(steps):
            view = TickView(f"e{episode}", step, "demo", episode, np.zeros(1, np.float32), np.zeros(7))
            said = device.read(view)
            assert said.grab and np.abs(said.action).max() <= SPEED_MAX and (said.action != 0.0).sum() <= 1
            actions.append(said.action)
        driven = np.array(actions)
        reached = np.vstack([reached, np.cumsum(driven * scale, axis=0).max(axis=0)])
        assert (np.cumsum(driven * scale, axis=0) >= -0.15 * np.array(REACH)).all()
        for axis in np.flatnonzero(np.abs(driven).max(axis=0)):
            moved = driven[driven[:, axis] != 0.0, axis]
            assert np.sqrt(np.mean(moved**2)) > (SPEED_MIN if rate_hz == 10 else 0.0)
    assert ((reached > 0.2 * np.array(REACH)) & (reached < 1.3 * np.array(REACH))).sum(axis=0).tolist() == [1] * 6


def test_an_episode_that_is_done_again_drives_the_same_axis() -> None:
    """Pins: an axis that was driven only in an episode that did not count, and another one twice."""
    device = Config().build(contract(10, 100))

    def axis(episode_id: str, seed: int) -> list[int]:
        view = TickView(episode_id, 3, "demo", seed, np.zeros(1, np.float32), np.zeros(7))
        return np.flatnonzero(device.read(view).action).tolist()

    assert [axis("e0", 7), axis("e1", 8), axis("e2", 8), axis("e3", 9)] == [[0], [1], [1], [2]]
