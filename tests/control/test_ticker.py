"""Pins: T actions have T+1 observations, an episode closes exactly once, and a time limit truncates."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inril_core.control.ticker import EpisodeRefused, EpisodeSpec, EpisodeTick, EpisodeTicker
from inril_core.outcome import CellReport

NOTHING = CellReport(False, False, "")


def begun(max_steps: int = 5) -> EpisodeTicker:
    ticker = EpisodeTicker()
    ticker.begin(EpisodeSpec("e", "train", 1, True, max_steps))
    return ticker


def run(ticker: EpisodeTicker, verdicts: list[CellReport]) -> list[EpisodeTick]:
    return [tick for verdict in verdicts if (tick := ticker.tick(verdict)) is not None]


def test_no_tick_without_an_episode() -> None:
    assert EpisodeTicker().tick(NOTHING) is None


def test_length_limit_truncates() -> None:
    ticks = run(begun(5), [NOTHING] * 9)
    assert [t.step for t in ticks] == [0, 1, 2, 3, 4, 5]
    outcome = ticks[-1].outcome
    assert ticks[-1].last and outcome is not None
    assert (outcome.truncated, outcome.terminated, outcome.source, ticks[-1].step - 1) == (
        True,
        False,
        "episode_length",
        4,
    )


def test_success_terminates_also_on_the_last_step() -> None:
    ticks = run(begun(2), [NOTHING, NOTHING, CellReport(True, False, "inserted")])
    outcome = ticks[-1].outcome
    assert outcome is not None and (outcome.success, outcome.terminated, outcome.truncated) == (
        True,
        True,
        False,
    )


def test_verdict_at_step_0_judges_no_action() -> None:
    first = begun().tick(CellReport(False, True, "dropped"))
    assert first is not None and first.outcome is None and not first.last


@pytest.mark.parametrize(("label", "ends"), [(None, (False, False, True)), (True, (True, True, False))])
def test_requested_end(label: bool | None, ends: tuple[bool, bool, bool]) -> None:
    ticker = begun()
    ticker.tick(NOTHING)
    ticker.request_end("e", label, "person", "enough")
    tick = ticker.tick(NOTHING)
    assert tick is not None and tick.last and tick.outcome is not None
    assert (tick.outcome.success, tick.outcome.terminated, tick.outcome.truncated) == ends


def test_a_new_episode_replaces_one_that_nobody_can_close() -> None:
    """Pins: a session that died, or a cell that restarted, in mid-episode, after which no episode can begin."""
    ticker = begun()
    ticker.tick(None)
    ticker.request_end("e", None, "session", "fault")
    ticker.begin(EpisodeSpec("f", "eval", 1, False, 5))
    first, second = ticker.tick(None), ticker.tick(CellReport(False, False, ""))
    assert first is not None and second is not None
    assert (first.k, first.step, first.spec.episode_id, first.outcome) == (1, 0, "f", None)
    assert not second.last, "the end asked for the old episode is not the new one's"


def test_refusals_name_the_episode() -> None:
    ticker = begun()
    with pytest.raises(EpisodeRefused, match="f is not running"):
        ticker.request_end("f", None, "person", "")


@given(st.lists(st.lists(st.sampled_from(["", "success", "failed"]), min_size=1, max_size=12), max_size=6))
def test_ticks_are_numbered_without_gaps_and_close_once(episodes: list[list[str]]) -> None:
    ticker = EpisodeTicker()
    ks: list[int] = []
    for number, words in enumerate(episodes):
        if ticker.spec is None:
            ticker.begin(EpisodeSpec(str(number), "train", number, True, 4))
        ticks = run(ticker, [CellReport(w == "success", w == "failed", w) for w in words])
        ks += [t.k for t in ticks]
        assert sum(t.last for t in ticks) <= 1
        assert all(t.last is (t.outcome is not None and t.outcome.ended) for t in ticks)
    assert ks == list(range(len(ks)))
