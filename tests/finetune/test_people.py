"""Pins: how much people helped is a curve over the newest training episodes."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from inril_core.finetune.people import WINDOW_EPISODES, PeopleCurve

POLICY, HUMAN = 0, 1


def episode(*source: int, disagreement: list[float] | None = None) -> Any:
    told = None if disagreement is None else np.array(disagreement, np.float32)
    stamps_ns = np.arange(len(source) + 1) * 10**8
    return SimpleNamespace(source=np.array(source, np.uint8), stamps_ns=stamps_ns, disagreement=told)


def test_takeovers_and_share_over_the_newest_episodes() -> None:
    curve = PeopleCurve()
    assert all(math.isnan(value) for value in curve.facts().values())
    curve.saw(episode(POLICY, HUMAN, POLICY, HUMAN))
    curve.saw(episode(POLICY, POLICY))
    facts = curve.facts()
    assert math.isnan(facts.pop("disagreement")) and facts == {"interventions_per_episode": 1.0, "human_share": 0.25}
    for _ in range(WINDOW_EPISODES):
        curve.saw(episode(POLICY))
    facts = curve.facts()
    assert math.isnan(facts.pop("disagreement")) and facts == {"interventions_per_episode": 0.0, "human_share": 0.0}
    curve.saw(episode(2, 2))
    assert curve.facts()["human_share"] == pytest.approx(0.0)


def test_disagreement_is_the_mean_of_the_episodes_in_which_a_person_drove() -> None:
    curve, nan = PeopleCurve(), math.nan
    curve.saw(episode(POLICY, HUMAN, HUMAN, disagreement=[nan, 0.2, 0.4]))
    curve.saw(episode(POLICY, POLICY))
    curve.saw(episode(HUMAN, POLICY, disagreement=[0.7, nan]))
    assert curve.facts()["disagreement"] == pytest.approx(0.5)
