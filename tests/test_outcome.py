"""Pins: when an episode is over, and who decides whether it was a success."""

from __future__ import annotations

from itertools import product

from inril_core.outcome import CellReport, EndRequest, Outcome, Said, judge, success_of

DONE, DROPPED, NOTHING = (
    CellReport(True, False, "done"),
    CellReport(False, True, "dropped"),
    CellReport(False, False, ""),
)
PERSON = EndRequest(True, "ann", "saw it")


def test_the_cell_counts_before_a_request_and_a_request_before_the_length() -> None:
    assert judge(5, 5, DONE, PERSON) == Outcome(True, True, False, "cell", "done")
    assert judge(1, 5, DROPPED, PERSON) == Outcome(False, True, False, "cell", "dropped")
    assert judge(5, 5, NOTHING, PERSON) == Outcome(True, True, False, "ann", "saw it")
    assert judge(1, 5, None, EndRequest(None, "session", "stop")) == Outcome(False, False, True, "session", "stop")
    assert judge(5, 5, None) == Outcome(False, False, True, "episode_length", "5 steps")
    assert not judge(4, 5, NOTHING).ended


def test_a_person_overrules_and_the_newest_word_counts() -> None:
    failed = judge(3, 5, DROPPED)
    labels = [Said(True, "ann", ""), Said(False, "bob", "look again"), Said(None, "cy", "")]
    assert success_of(failed, labels) == Said(False, "bob", "look again")
    assert success_of(failed, labels[:1]) == Said(True, "ann", "dropped")


def test_without_anybody_who_knows_it_is_not_a_failure() -> None:
    at_length, asked = judge(5, 5, None), judge(2, 5, None, EndRequest(None, "session", "stop"))
    assert success_of(at_length).success is None
    assert success_of(at_length, cell_success=False).success is False
    assert success_of(at_length, cell_success=True).success is True
    assert success_of(asked, cell_success=False).success is None, "the cell was stopped before it could know"


def test_every_outcome_says_one_thing() -> None:
    for cell, request, steps in product((None, NOTHING, DONE, DROPPED), (None, PERSON), (1, 5)):
        outcome = judge(steps, 5, cell, request)
        assert not (outcome.terminated and outcome.truncated)
        assert bool(outcome.source) == outcome.ended
        assert outcome.terminated or not outcome.success
        if outcome.terminated:
            assert success_of(outcome).success == outcome.success
