"""Pins: a session that died goes on where the disk says, and a plan with a mistake is refused."""

import json
from dataclasses import asdict, replace
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
    "item",
    ["eval", "eval:0:episodes", "eval:-1:steps", "eval:\u00b2:steps", "train:5:minutes", "play:5:steps", "a:b:c:d"],
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


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("purpose", 1.5),
        ("purpose", "play"),
        ("segment_index", []),
        ("segment_index", -1),
        ("segment", "something"),
        ("episode_id", ""),
        ("steps", "9"),
        ("steps", True),
        ("success", 1),
        ("seed", 10**400),
        ("duration_s", float("nan")),
        ("late_ticks", None),
    ],
)
def test_a_line_of_another_type_is_named_and_left_out(tmp_path: Path, field: str, value: object) -> None:
    """Pins: one line that parses as JSON and ends every session that reads it."""
    path = tmp_path / "session.jsonl"
    Ledger(path).append(result(0))
    wrong = {**json.loads(path.read_text()), "episode_id": "wrong", field: value}
    path.write_text(path.read_text() + json.dumps(wrong) + "\n")
    ledger = Ledger(path)
    ledger.append(result(1))
    ledger.check_plan(parse_plan("train:50:steps"))
    assert [r.episode_id for r in Ledger(path).results] == ["e0", "e1"]
    assert ledger.attempts(0) == 3, "the id of what cannot be read is not given again"
    assert len(ledger.problems) == 1 and f"{path}, line 2" in ledger.problems[0] and field in ledger.problems[0]


@settings(max_examples=300, deadline=None)
@given(key=st.sampled_from([*asdict(result(0)), "other"]), value=JSON)
def test_a_field_of_any_other_value_costs_its_line_alone(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: object
) -> None:
    path = tmp_path_factory.mktemp("run") / "session.jsonl"
    write_lines(path, [asdict(result(0)), {**asdict(result(1)), key: value}, asdict(result(2))])
    ledger = Ledger(path)
    assert (ledger.results[0].index, ledger.results[-1].index) == (0, 2)
    assert len(ledger.results) + len(ledger.problems) == 3
    assert all(problem.startswith(f"{path}, line 2: ") for problem in ledger.problems)
    summary(path.parent)


@pytest.mark.parametrize("line", ["[1, 2]", "null", '"text"', "[" * 100_000, "{}", "\x00"])
def test_a_line_that_is_no_result_is_named_and_left_out(tmp_path: Path, line: str) -> None:
    path = tmp_path / "session.jsonl"
    path.write_text(line + "\n")
    ledger = Ledger(path)
    assert not ledger.results and len(ledger.problems) == 1


def test_a_later_line_of_an_episode_is_the_word_that_counts(tmp_path: Path) -> None:
    path = tmp_path / "session.jsonl"
    ledger = Ledger(path)
    ledger.append(result(0))
    ledger.append(result(1))
    ledger.append(replace(result(0), success=False))
    ledger.append(replace(result(1), valid=False))
    for known in (ledger, Ledger(path)):
        assert [r.episode_id for r in known.results] == ["e0", "e1"] and known.attempts(0) == 2
        progress = known.progress(0)
        assert (progress.episodes, progress.steps, progress.successes) == (1, 20, 0)


def demo(index: int, segment: str = "demo:3:episodes", segment_index: int = 0) -> EpisodeResult:
    changed = {"purpose": "demo", "episode_id": f"d{segment_index}-{index}"}
    return replace(result(index, segment, segment_index), **changed)  # type: ignore[arg-type]


def test_the_segment_begun_last_may_have_another_amount(tmp_path: Path) -> None:
    """Pins: `inril demos --count 5` in a folder with 3, which died eight times."""
    ledger = Ledger(tmp_path / "session.jsonl")
    for index in range(3):
        ledger.append(demo(index))
    plan = parse_plan("demo:5:episodes")
    ledger.check_plan(plan)
    assert not ledger.progress(0).done(plan[0])
    ledger.append(demo(3, "demo:5:episodes"))
    ledger.check_plan(plan)
    ledger.check_plan(parse_plan("demo:2:episodes"))
    ledger.append(demo(0, "demo:1:episodes", segment_index=1))
    ledger.check_plan(parse_plan("demo:5:episodes,demo:9:episodes"))
    with pytest.raises(ConfigError, match="add a segment at the end"):
        ledger.check_plan(parse_plan("demo:6:episodes,demo:1:episodes"))


@pytest.mark.parametrize("plan", ["eval:1:episodes", "demo:3:steps", "eval:1:episodes,demo:3:episodes"])
def test_another_plan_is_refused_but_a_longer_one_is_not(tmp_path: Path, plan: str) -> None:
    ledger = Ledger(tmp_path / "session.jsonl")
    ledger.append(demo(0))
    ledger.check_plan(parse_plan("demo:3:episodes,eval:1:episodes"))
    with pytest.raises(ConfigError, match="new run_dir"):
        ledger.check_plan(parse_plan(plan))
