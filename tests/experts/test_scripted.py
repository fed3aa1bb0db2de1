"""Pins: the scripted expert solves the task from observations alone, and its dials make it worse."""

from __future__ import annotations

import numpy as np
import pytest

from inril_core.bench.cell_speed import score_expert
from inril_core.contract import Contract
from inril_core.errors import ConfigError
from inril_core.experts import ExpertConfig
from inril_core.experts.scripted.insert_leg import InsertLegExpert


@pytest.mark.parametrize("purpose", ["train", "demo"])
def test_succeeds_at_its_best(contract: Contract, purpose: str) -> None:
    score = score_expert(contract, 8, 500, purpose, ExpertConfig())
    assert score.successes == 8, score
    assert score.longest_steps < 60


def test_dials_make_it_worse(contract: Contract) -> None:
    noisy = score_expert(contract, 6, 500, "train", ExpertConfig(noise=0.5))
    slow = score_expert(contract, 4, 500, "train", ExpertConfig(hesitation=0.1))
    assert noisy.successes < 4
    assert slow.median_steps > 29


def test_actions_are_in_range_and_reproducible(contract: Contract) -> None:
    observation = np.random.default_rng(0).normal(size=contract.observation_size).astype(np.float32)
    expert = InsertLegExpert(contract, noise=1.0, bias=0.01, hesitation=0.5, seed=4)
    first = [expert.act(observation) for _ in range(20)]
    expert.reset(4)
    assert all(np.array_equal(action, expert.act(observation)) for action in first)
    assert all(action.dtype == np.float32 and action.shape == (6,) for action in first)
    assert np.abs(first).max() <= 1.0


@pytest.mark.parametrize("dials", [{"noise": -0.1}, {"noise": float("nan")}, {"bias": 1.0}, {"hesitation": 1.1}])
def test_bad_dials_are_refused(contract: Contract, dials: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(dials))):
        InsertLegExpert(contract, **dials)


def test_an_observation_that_is_not_finite_is_refused(contract: Contract) -> None:
    with pytest.raises(ValueError, match="not finite"):
        InsertLegExpert(contract).act(np.full(contract.observation_size, np.nan, np.float32))
