"""Pins: a session that died goes on where the disk says, and a plan with a mistake is refused."""

from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inril_core.errors import ConfigError
from inril_core.evaluation.headline import summary
from inril_core.files import write_lines
from inril_core.session.ledger import EpisodeResult, Ledger
from inril_core.session.plan import Segment, episode_seed, parse_plan
from tests.strategies import JSON


def result(index: int, segment: str = "train:50:steps", segment_index: int = 0, valid: bool = True) -> EpisodeResult:
    return EpisodeResult(
        segment_index,
        segment,
        index,
        f"e{index}",
        "train",
        index,
        20,
        True,
        True,
        "cell",
        "",
        3,
        0,
        1.5,
        10.0,
        valid,
    )


def test_plan_is_parsed() -> None:
    assert parse_plan("eval:100:episodes, train:60:seconds") == (
        Segment("eval", 100, "episodes"),
        Segment("train", 60, "seconds"),
    )


@pytest.mark.parametrize(
    "item", ["eval", "eval:0:episodes", "eval:-1:steps", "train:5:minutes", "play:5:steps", "a:b:c:d"]
)
def test_mistake_is_named(item: str) -> None:
    with pytest.raises(ConfigError, match=item):
        parse_plan(item)


def test_empty_plan_is_refused() -> None:
    with pytest.raises(ConfigError, match="PURPOSE:AMOUNT:UNIT"):
        parse_plan("")


def test_evaluation_starts_are_the_same_for_every_run_and_never_trained_on() -> None:
    evaluation = {episode_seed("eval", i, 0) for i in range(1000)}
    assert evaluation == {episode_seed("eval", i, 7) for i in range(1000)}
    others = {episode_seed(p, i, s) for p in ("demo", "train") for i in range(5000) for s in range(5)}
    assert not evaluation & others
    assert len(others) == 2 * 5 * 5000


def test_ledger_goes_on_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "session.jsonl"
    ledger = Ledger(path)
    ledger.append(result(0))
    ledger.append(result(1, valid=False))
    again = Ledger(path)
    assert again.results == ledger.results
    progress = again.progress(0)
    assert (progress.episodes, progress.steps, again.attempts(0)) == (1, 20, 2)
    assert not progress.done(parse_plan("train:50:steps")[0])


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_line_torn_by_a_crash_costs_only_itself(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "session.jsonl"
    Ledger(path).append(result(0))
    Ledger(path).append(result(1))
    path.write_bytes(path.read_bytes()[:-cut])
    torn = Ledger(path)
    torn.append(result(2))
    kept = [r.index for r in Ledger(path).results]
    assert kept == [0, 2]


@settings(max_examples=300, deadline=None)
@given(key=st.sampled_from([*asdict(result(0)), "other"]), value=JSON)
def test_a_field_of_another_type_costs_its_line_alone_and_is_named(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: object
) -> None:
    path = tmp_path_factory.mktemp("run") / "session.jsonl"
    write_lines(path, [asdict(result(0)), {**asdict(result(1)), key: value}, asdict(result(2))])
    ledger = Ledger(path)
    assert [r.index for r in ledger.results if r.episode_id != "e1"][:1] == [0] and ledger.results[-1].index == 2
    assert len(ledger.results) + len(ledger.problems) == 3
    assert all(problem.startswith(f"{path}, line 2: ") for problem in ledger.problems)
    # the id of an episode whose line cannot be read is never given again
    assert ledger.attempts(0) == 3 or ledger.results[1].segment_index != 0
    summary(path.parent)


@pytest.mark.parametrize(("key", "value"), [("purpose", 1.5), ("segment_index", []), ("steps", True), ("seed", -1)])
def test_the_field_is_named(tmp_path: Path, key: str, value: object) -> None:
    write_lines(tmp_path / "session.jsonl", [{**asdict(result(0)), key: value}])
    assert f"line 1: {key} = {value}: " in Ledger(tmp_path / "session.jsonl").problems[0]


def test_another_plan_is_refused_but_a_longer_one_is_not(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "session.jsonl")
    ledger.append(result(0))
    ledger.check_plan(parse_plan("train:50:steps,eval:1:episodes"))
    with pytest.raises(ConfigError, match="new run_dir"):
        ledger.check_plan(parse_plan("eval:1:episodes"))
