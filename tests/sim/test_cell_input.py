"""Pins: bad targets, widths and contracts are refused with the name of the field, and change nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from inril_core.contract import Contract
from inril_core.errors import ConfigError
from inril_core.sim.cell import Cell, CellError
from inril_core.tasks.families.cell import CellEnv


@pytest.mark.parametrize(
    ("position", "quat", "width"),
    [
        ([np.nan, 0, 0.2], [1, 0, 0, 0], None),
        ([0.5, 0, np.inf], [1, 0, 0, 0], None),
        ([0.5, 0, 0.2], [np.nan, 0, 0, 1], None),
        ([0.5, 0, 0.2], [0, 0, 0, 0], None),
        ([0.5, 0], [1, 0, 0, 0], None),
        ([0.5, 0, 0.2], [1, 0, 0, 0], np.nan),
        ([0.5, 0, 0.2], [1, 0, 0, 0], 0.5),
    ],
)
def test_bad_targets_are_refused(env: CellEnv, position: list[float], quat: list[float], width: float | None) -> None:
    before = env.cell.reset(0)
    with pytest.raises(ValueError):
        env.cell.step(np.array(position), np.array(quat, float), width)
    assert env.cell.state is before


def test_env_refuses_actions_that_are_not_finite(env: CellEnv) -> None:
    env.reset(0)
    with pytest.raises(ValueError, match="finite"):
        env.step(np.array([0, 0, np.nan, 0, 0, 0]))
    assert env.state.step == 0


def test_nothing_before_a_reset(contract: Contract) -> None:
    with pytest.raises(CellError, match="reset"):
        Cell(contract).hold()
    with pytest.raises(ValueError, match="reset"):
        CellEnv(contract).step(np.zeros(6))


def test_unknown_purpose_is_refused(env: CellEnv) -> None:
    with pytest.raises(ValueError, match="purpose"):
        env.reset(0, "test")


def test_contracts_it_cannot_simulate(changed: Callable[[Any], Contract]) -> None:
    with pytest.raises(ConfigError, match="sim"):
        Cell(changed(lambda content: content.update(sim=None)))
    with pytest.raises(ConfigError, match="control_rate_hz"):
        Cell(changed(lambda content: content.update(control_rate_hz=15.0)))
    with pytest.raises(ConfigError, match="task"):
        Cell(changed(lambda content: content.update(task="other")))


def test_demo_starts_are_narrower(env: CellEnv) -> None:
    wide = np.array([env.cell.reset(seed, "train").parts["leg"][:2] for seed in range(20)])
    narrow = np.array([env.cell.reset(seed, "demo").parts["leg"][:2] for seed in range(20)])
    assert np.ptp(narrow, axis=0).max() < np.ptp(wide, axis=0).min()
