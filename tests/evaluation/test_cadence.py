"""Pins: cadence is measured within episodes, not across their pauses, and against the contract's limits."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from inril_core.data.episode import Episode
from inril_core.data.reader import read_episode
from inril_core.evaluation.cadence import measure
from tests.data.synthetic import CONTRACT, Synthetic


@pytest.fixture
def episode(tmp_path: Path) -> Episode:
    """Five steps at exactly the contract's rate."""
    return read_episode(Synthetic(steps=5).record(tmp_path))


def test_pauses_between_episodes_are_no_periods(episode: Episode) -> None:
    later = dataclasses.replace(episode, stamps_ns=episode.stamps_ns + 7_000_000_000)
    cadence = measure([episode, later], CONTRACT)
    np.testing.assert_allclose(cadence.periods_ms, np.full(10, 100.0))
    assert (cadence.episodes, cadence.steps, cadence.expected_ms) == (2, 10, 100.0)


def test_ages_are_compared_with_the_limit_of_their_link(episode: Episode) -> None:
    ages_s = np.tile(np.array([0.010, 0.020, np.nan], np.float32), (6, 1))
    ages_s[3, 0] = CONTRACT.staleness.robot_state_s + 0.05
    links = measure([dataclasses.replace(episode, link_age_s=ages_s)], CONTRACT).links
    assert [link.name for link in links] == ["robot_state", "part_poses", "camera_front"]
    assert [link.over_limit for link in links] == [1, 0, 0]
    assert [link.limit_ms for link in links] == pytest.approx([300.0, 300.0, 300.0])
    assert links[0].ages_ms is not None and links[0].ages_ms.largest == pytest.approx(350.0, abs=1e-3)
    assert links[1].ages_ms is not None and links[1].ages_ms.p50 == pytest.approx(20.0, abs=1e-3)
    assert links[2].ages_ms is None


def test_foreign_links_are_refused(episode: Episode) -> None:
    with pytest.raises(ValueError, match="2 links, not 3"):
        measure([dataclasses.replace(episode, link_age_s=np.zeros((6, 2), np.float32))], CONTRACT)


def test_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no episode"):
        measure([], CONTRACT)
