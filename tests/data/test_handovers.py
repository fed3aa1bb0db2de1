"""Pins: takeovers are found, with what led to them, and stand in the finished recording; its first second is there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcap.reader import make_reader

from inril_core.data import read_episode
from inril_core.data.finalise import RESULT, finalise
from inril_core.data.handovers import BEFORE_S, corrections, human_share
from inril_core.data.index import EpisodeIndex
from inril_core.run import RunPaths
from inril_core.vocabulary import Source
from tests.data.synthetic import Synthetic

LETTERS = {"p": Source.POLICY, "h": Source.HUMAN, "-": Source.HOLD, "r": Source.RESET}


def steps(text: str) -> np.ndarray:
    return np.array([LETTERS[letter] for letter in text], np.uint8)


def found(text: str, period_s: float = 1.0) -> list[tuple[int, int, int]]:
    stamps_ns = np.arange(len(text) + 1, dtype=np.int64) * round(period_s * 1e9)
    return [tuple(correction) for correction in corrections(steps(text), stamps_ns)]  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("pppp", []),
        ("hhhh", [(0, 0, 4)]),
        ("pppphhpp", [(2, 4, 6)]),
        ("pppph-hp", [(2, 4, 7)]),
        ("ppp--hh-", [(3, 5, 7)]),
        ("phphp", [(0, 1, 2), (2, 3, 4)]),
        ("rrhh", [(2, 2, 4)]),
        ("hhrrpphh", [(0, 0, 2), (4, 6, 8)]),
        ("", []),
    ],
)
def test_closed_forms(text: str, wanted: list[tuple[int, int, int]]) -> None:
    """A second a step: two steps before belong to it."""
    assert found(text) == wanted


@given(st.text("ph-r", max_size=60), st.sampled_from([0.02, 0.1, 1.0]))
def test_every_step_of_a_person_is_in_exactly_one(text: str, period_s: float) -> None:
    ranges = found(text, period_s)
    inside = [step for _, first, end in ranges for step in range(first, end)]
    assert len(inside) == len(set(inside))
    assert {n for n, letter in enumerate(text) if letter == "h"} <= set(inside)
    for before, first, end in ranges:
        assert before <= first < end and text[first] == "h" and (first - before) * period_s <= BEFORE_S + 1e-9
        assert "p" not in text[first:end]


def test_share_of_human_steps() -> None:
    assert human_share(steps("pph-r-")) == pytest.approx(1 / 3)
    assert np.isnan(human_share(steps("--")))


def test_the_finished_recording_says_where_people_took_over_and_has_every_step(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    for folder in (paths.raw, paths.episodes):
        folder.mkdir(parents=True)
    made = Synthetic(steps=40, episode_id="e", purpose="train", seed=1, human_from=25)
    entry = finalise(made.record(paths.raw), paths.episodes, EpisodeIndex(paths.episodes))
    path = paths.episodes / "e.mcap"
    with path.open("rb") as file:
        records = {record.name: record.metadata for record in make_reader(file).iter_metadata()}
    episode = read_episode(path)
    assert entry.steps == episode.steps == 40
    assert json.loads(records[RESULT]["corrections"]) == [
        list(c) for c in corrections(episode.source, episode.stamps_ns)
    ]
    ((before, first, end),) = json.loads(records[RESULT]["corrections"])
    assert (first, end) == (25, 40) and before < first
    assert (episode.source[25:] == Source.HUMAN).all() and np.isfinite(episode.actions[25:]).all()
