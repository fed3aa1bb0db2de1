"""Pins: what was fixed before the first trial stays fixed, or the report says so; codes do not give names away."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from inril_core.errors import ConfigError
from inril_core.evaluation.session.folder import SessionFolder, amend
from inril_core.evaluation.session.local import run_locally
from inril_core.evaluation.session.make import make_session
from inril_core.evaluation.session.plan import Level, order, read_plan
from inril_core.run import RunPaths
from tests.evaluation.session.made import session, weights, wish


def change(folder: Path, edit) -> None:
    """As a person with an editor."""
    path = RunPaths(folder).evaluation_plan
    content = json.loads(path.read_text())
    edit(content["plan"])
    path.unlink()
    path.write_text(json.dumps(content))


def test_every_policy_meets_every_start_in_mixed_blocks() -> None:
    levels = [Level(name="full", seeds=tuple(range(30))), Level(name="narrow", seeds=tuple(range(10)))]
    trials = order(levels, "ABC", 2, np.random.default_rng(0))
    met = Counter((t.level, t.seed, t.code) for t in trials)
    assert len(met) == 40 * 3 and set(met.values()) == {2}
    first = [t.code for t in trials[::3]]
    assert {code: first.count(code) for code in "ABC"}.keys() == {"A", "B", "C"} and min(Counter(first).values()) > 15
    assert len({t.level for t in trials[:60]}) == 2, "levels are mixed"
    blocks = [t.block for t in trials]
    assert blocks == sorted(blocks)


def test_the_folder_names_no_policy_but_in_the_sealed_file(tmp_path: Path) -> None:
    folder = session(tmp_path)
    for path in folder.root.rglob("*"):
        if path.is_file() and path.name != "sealed.json":
            assert b"scripted" not in path.read_bytes(), path
    assert (folder.root / "sealed.json").stat().st_mode & 0o077 == 0
    secret = folder.sealed.model_copy(update={"nonce": "0" * 64})
    assert secret.sha256 != folder.plan.sealed_sha256, "names alone do not give the digest"


def test_a_plan_that_was_changed_is_refused_until_it_is_locked_again(tmp_path: Path) -> None:
    folder = session(tmp_path)
    change(folder.root, lambda plan: plan.update(confidence=0.9))
    with pytest.raises(ConfigError, match="was changed after it was locked"):
        SessionFolder(folder.root)
    with pytest.raises(ConfigError, match="reason"):
        amend(folder.root, " ", "me", 0.0)
    assert amend(folder.root, "a slip", "me", 1.0) == ["confidence"]
    assert SessionFolder(folder.root).deviations == [], "before the first trial it is none"
    assert SessionFolder(folder.root).plan.confidence == 0.9


def test_a_change_after_the_first_trial_is_a_deviation(tmp_path: Path) -> None:
    folder = session(tmp_path)
    run_locally(folder, lambda line: None)
    extra = [trial.model_dump() for trial in folder.plan.trials[:2]]
    for trial in extra:
        trial["block"] = 99
    change(folder.root, lambda plan: plan["trials"].extend(extra))
    amend(folder.root, "one more start", "me", 1.0)
    again = SessionFolder(folder.root)
    assert [(d.what, d.reason) for d in again.deviations] == [("trials changed", "one more start")]
    run_locally(again, lambda line: None)
    assert len(again.done) == 26


def test_trials_that_were_begun_and_codes_cannot_change(tmp_path: Path) -> None:
    folder = session(tmp_path)
    run_locally(folder, lambda line: None)
    change(folder.root, lambda plan: plan["trials"].__delitem__(slice(0, 2)))
    with pytest.raises(ConfigError, match="were begun and cannot change"):
        amend(folder.root, "these were bad", "me", 1.0)
    change(folder.root, lambda plan: plan.update(sealed_sha256="0" * 64))
    with pytest.raises(ConfigError, match="sealed_sha256: cannot change"):
        amend(folder.root, "other names", "me", 1.0)


def test_another_secret_than_the_plan_commits_to_is_refused(tmp_path: Path) -> None:
    folder = session(tmp_path)
    path = folder.root / "sealed.json"
    swapped = json.loads(path.read_text())
    swapped["subjects"] = dict(zip(swapped["subjects"], reversed(list(swapped["subjects"].values())), strict=True))
    path.chmod(0o600)
    path.write_text(json.dumps(swapped))
    with pytest.raises(ConfigError, match="not what the plan commits to"):
        SessionFolder(folder.root)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"control": "nobody"}, "control = 'nobody'"),
        ({"starts": {"wide": 3}}, "name"),
        ({"starts": {"full": 0}}, "1 or more"),
        ({"difference": 0.0}, "difference = 0.0"),
        ({"repetitions": 0}, "repetitions = 0"),
        ({"failure_tags": ("",)}, "failure_tags"),
        ({"subjects": {"raw": "nowhere.inril"}}, "nowhere.inril"),
        ({"subjects": {"raw": "expert", "a/b": "expert"}}, "a/b"),
    ],
)
def test_wishes_that_cannot_be_planned_leave_no_plan(tmp_path: Path, changes: dict, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        session(tmp_path, **changes)
    assert not RunPaths(tmp_path / "session").evaluation_plan.exists()


def test_weights_of_another_task_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="another task or contract"):
        make_session(tmp_path / "s", wish(tmp_path, task="insert_leg"))


def test_a_plan_is_never_overwritten(tmp_path: Path) -> None:
    folder = session(tmp_path)
    with pytest.raises(ConfigError, match="holds a plan already"):
        make_session(folder.root, wish(tmp_path))


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"plan": {}, "digest": ""}', b"\xff\xfe", b"[" * 10_000])
def test_damaged_plans_are_named(tmp_path: Path, content: bytes) -> None:
    RunPaths(tmp_path).evaluation_plan.write_bytes(content)
    with pytest.raises(ConfigError, match="no plan of an evaluation session"):
        read_plan(tmp_path)


def test_the_question_comes_first(tmp_path: Path) -> None:
    plan = session(tmp_path, starts={}, baseline=0.5, difference=0.3).plan
    assert len(plan.trials) // 2 == plan.question.trials_needed_n
    assert plan.question.power_planned >= 0.8
    weights(tmp_path / "other.inril", 1)
    three = {"a": "expert", "raw": str(tmp_path / "raw.inril"), "b": str(tmp_path / "other.inril")}
    make_session(tmp_path / "three", wish(tmp_path, subjects=three, starts={}, baseline=0.5, difference=0.3))
    more = read_plan(tmp_path / "three")
    assert more.question.trials_needed_n > plan.question.trials_needed_n, "two comparisons share the false alarms"
    assert more.comparison_confidence == pytest.approx(0.975)


def test_the_session_node_s_part_loads_no_torch() -> None:
    """Pins: a node that would need 200 MB more to count trials."""
    code = "import sys, inril_core.evaluation.session.graph; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
