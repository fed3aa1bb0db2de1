"""Pins: pushes that a run's report misses, counts twice, or times wrongly."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inril_core.evaluation.headline import summary
from inril_core.files import write_lines
from inril_core.run import RunPaths
from inril_core.weights import Offer, Refusal
from inril_core.weights.log import MAX_RUN_ID_CHARS, WeightsLog
from tests.strategies import JSON

BEGAN_NS = 1_700_000_000_000_000_000


def offer(n: int, run_id: str = "run-1") -> Offer:
    return Offer.signed(bytes(32), run_id, n, 4, bytes(32))


def published_ns(n: int) -> int:
    return BEGAN_NS + n * 1_000_000_000


@pytest.fixture
def folder(tmp_path):
    made = RunPaths(tmp_path).weights
    made.mkdir()
    return made


def lines_of(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_the_report_counts_what_was_logged(folder, tmp_path):
    log = WeightsLog(folder)
    for n, delay_ms in ((1, 200), (2, 300), (3, 900)):
        log.offered(offer(n), published_ns(n), None)
        log.acting("run-1", n, published_ns(n), published_ns(n) + delay_ms * 1_000_000)
    log.offered(offer(4), published_ns(4), None)  # never acted
    log.offered(offer(3), published_ns(5), Refusal.OLD_VERSION)
    numbers = summary(tmp_path)
    assert (numbers["weights_pushed"], numbers["weights_rejected"]) == (4, 1)
    assert numbers["push_to_acting_ms_p50"] == 300.0


def test_a_line_says_which_version_when_and_why(folder):
    log = WeightsLog(folder)
    log.offered(offer(0), BEGAN_NS, Refusal.WILD_ACTION)
    log.acting("run-1", 0, BEGAN_NS, BEGAN_NS + 250_000_000)
    refused, acting = lines_of(folder)
    assert refused == {
        "event": "offered",
        "n": 0,
        "run_id": "run-1",
        "accepted": False,
        "reason": "wild_action",
        "offered_unix_s": 1.7e9,
    }
    assert acting == {
        "event": "acting",
        "n": 0,
        "run_id": "run-1",
        "push_to_acting_ms": 250.0,
        "acting_unix_s": 1.7e9 + 0.25,
    }


def test_a_refused_offer_heard_again_after_a_restart_is_one_push(folder):
    WeightsLog(folder).offered(offer(1), published_ns(1), Refusal.BAD_SIGNATURE)
    again = WeightsLog(folder)
    again.offered(offer(1), published_ns(1), Refusal.BAD_SIGNATURE)
    assert len(lines_of(folder)) == 1
    again.offered(offer(1), published_ns(2), Refusal.BAD_SIGNATURE)  # published anew
    assert len(lines_of(folder)) == 2


def test_a_torn_line_costs_no_other(folder, tmp_path):
    WeightsLog(folder).offered(offer(1), published_ns(1), None)
    with (folder / "log.jsonl").open("ab") as file:
        file.write(b'{"n": 2, "acc')
    WeightsLog(folder).offered(offer(3), published_ns(3), None)
    assert summary(tmp_path)["weights_pushed"] == 2


def test_a_line_that_was_not_written_is_an_error_and_is_tried_again(folder):
    (folder / "log.jsonl").mkdir()
    log = WeightsLog(folder)
    with pytest.raises(OSError):
        log.offered(offer(1), published_ns(1), None)
    (folder / "log.jsonl").rmdir()
    log.offered(offer(1), published_ns(1), None)
    assert [line["n"] for line in lines_of(folder)] == [1]


def test_an_announced_run_id_cannot_fill_the_log(folder):
    WeightsLog(folder).offered(offer(1, "r" * 10**6), published_ns(1), Refusal.UNKNOWN_RUN)
    assert lines_of(folder)[0]["run_id"] == "r" * MAX_RUN_ID_CHARS


@settings(max_examples=200, deadline=None)
@given(
    key=st.sampled_from(["n", "run_id", "accepted", "reason", "offered_unix_s", "push_to_acting_ms", "event"]),
    value=JSON,
)
def test_a_field_of_another_type_costs_its_line_alone(tmp_path_factory, key, value):
    root = tmp_path_factory.mktemp("run")
    folder = RunPaths(root).weights
    folder.mkdir()
    log = WeightsLog(folder)
    log.offered(offer(1), published_ns(1), None)
    log.acting("run-1", 1, published_ns(1), published_ns(1) + 1_000_000)
    good = lines_of(folder)
    write_lines(folder / "log.jsonl", [*good, *({**line, key: value} for line in good)])
    assert summary(root)["weights_pushed"] >= 1
    WeightsLog(folder).offered(offer(2), published_ns(2), None)
    assert lines_of(folder)[-1]["n"] == 2
