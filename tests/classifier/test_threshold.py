"""Pins: a threshold that keeps its precision by luck, or by being chosen on what it is judged by."""

import numpy as np
import pytest

from inril_core.classifier.agreement import Agreement
from inril_core.classifier.examples import Example, View, example_of, split
from inril_core.classifier.model import Threshold
from inril_core.classifier.threshold import TRIED, choose, counts, lower_bound, needed_n
from inril_core.errors import ConfigError
from tests.classifier.labelled import STEPS, labelled, many


def example(number: int, success: bool) -> Example:
    return example_of(labelled(number, success), View(True), 0.25)


def scored(closing: float, before: float = 0.1) -> np.ndarray:
    row = np.full(STEPS + 1, before, np.float32)
    row[-1] = closing
    return row


def test_the_closing_observation_is_the_positive_and_the_gap_before_it_is_nothing() -> None:
    won, lost = example(0, True), example(1, False)
    assert np.flatnonzero(won.positive).tolist() == [STEPS]
    assert np.flatnonzero(won.negative).tolist() == list(range(STEPS - 2)), "2.5 periods of the gap"
    assert not lost.positive.any() and lost.negative.all()
    assert won.progress[[0, -1]].tolist() == [0.0, 1.0] and np.isnan(lost.progress).all()


def test_the_bound_is_the_closed_form_when_all_were_right() -> None:
    """(1 - confidence) ^ (1/n), Clopper & Pearson 1934."""
    for count in (1, 10, 60):
        assert lower_bound(count, count, 0.95) == pytest.approx(0.05 ** (1 / count))
        assert lower_bound(count, count, 0.95, 8) == pytest.approx((0.05 / 8) ** (1 / count))
    assert lower_bound(0, 0, 0.95) == 0.0
    for precision in (0.5, 0.8, 0.9, 0.95):
        enough = needed_n(precision, 0.95)
        assert lower_bound(enough, enough, 0.95, len(TRIED)) >= precision
        assert lower_bound(enough - 1, enough - 1, 0.95, len(TRIED)) < precision


def test_a_success_that_is_called_too_early_is_wrong() -> None:
    early = scored(0.9)
    early[2] = 0.9
    episodes, scores = [example(0, True), example(2, True), example(1, False)], [scored(0.9), early, scored(0.9)]
    assert counts(episodes, scores, 0.8) == (3, 1)
    assert counts(episodes, scores, 0.95) == (0, 0)


def test_the_threshold_finds_most_of_those_that_keep_the_precision() -> None:
    wins, losses = [example(2 * n, True) for n in range(40)], [example(2 * n + 1, False) for n in range(40)]
    scores = [scored(0.65 if n < 8 else 0.93) for n in range(40)] + [scored(0.55 if n < 20 else 0.2) for n in range(40)]
    chosen = choose([*wins, *losses], scores, 0.85, 0.95)
    assert (chosen.score, chosen.fired_n, chosen.right_n, chosen.successes_n) == (0.6, 40, 40, 40)
    assert chosen.precision_low == pytest.approx((0.05 / 8) ** (1 / 40))
    with pytest.raises(ConfigError, match=r"no threshold has precision 0.95.*right in 40 of 40.*99 held-out successes"):
        choose([*wins, *losses], scores, 0.95, 0.95)


def test_whole_episodes_are_held_out_and_stay_so() -> None:
    shown, held_out = split([example(n, n % 2 == 0) for n in range(60)], 0.5)
    more = split([example(n, n % 2 == 0) for n in range(90)], 0.5)[1]
    names = {e.episode_id for e in held_out}
    assert names <= {e.episode_id for e in more} and not names & {e.episode_id for e in shown}
    with pytest.raises(ConfigError, match="both are needed"):
        split([example(0, True), example(1, False)], 0.5)


STATED = Threshold(0.9, 0.9, 0.95, 60, 60, 60, 0.92)


@pytest.mark.parametrize(
    "seen, warns",
    [
        (Agreement(40, 20, 20, 20), ""),
        (Agreement(40, 20, 17, 20), ""),  # three wrong of twenty do not exclude 0.9
        (Agreement(40, 20, 12, 20), "do not use it as a reward"),
        (Agreement(40, 5, 5, 20), "what the cameras see has changed"),
        (Agreement(0, 0, 0, 0), ""),
    ],
)
def test_drift_is_told_where_the_labels_exclude_what_was_stated(seen: Agreement, warns: str) -> None:
    said = seen.drift(STATED)
    assert warns in said and bool(said) == bool(warns)


def test_labels_of_the_machine_are_not_peoples() -> None:
    assert labelled(0, True).outcome_source == "ada" and len(many(4)) == 4
    assert not Agreement().saw(None, labelled(0, True, by="cell"))  # type: ignore[arg-type]
