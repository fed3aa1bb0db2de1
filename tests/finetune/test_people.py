"""Pins: how much people helped is a curve over the newest training episodes."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from inril_core.finetune.people import WINDOW_EPISODES, PeopleCurve

POLICY, HUMAN = 0, 1


def episode(*source: int) -> Any:
    return SimpleNamespace(source=np.array(source, np.uint8), stamps_ns=np.arange(len(source) + 1) * 10**8)


def test_takeovers_and_share_over_the_newest_episodes() -> None:
    curve = PeopleCurve()
    assert all(math.isnan(value) for value in curve.facts().values())
    curve.saw(episode(POLICY, HUMAN, POLICY, HUMAN))
    curve.saw(episode(POLICY, POLICY))
    assert curve.facts() == {"interventions_per_episode": 1.0, "human_share": 0.25}
    for _ in range(WINDOW_EPISODES):
        curve.saw(episode(POLICY))
    assert curve.facts() == {"interventions_per_episode": 0.0, "human_share": 0.0}
    curve.saw(episode(2, 2))
    assert curve.facts()["human_share"] == pytest.approx(0.0)
