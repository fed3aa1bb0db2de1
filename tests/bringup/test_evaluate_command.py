"""Pins: exit codes and keys of `inril evaluate`, on which scripts rely; errors of one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from inril_bringup import cli
from inril_bringup.run_dir import lock_run_dir

from inril_core.evaluation.session.folder import SessionFolder
from inril_core.evaluation.session.local import run_locally
from tests.evaluation.session.made import TASK, weights


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(["evaluate", *map(str, words)])
    return int(ended.value.code or 0)


def test_stats_has_the_promised_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("stats", "--successes", 17, "--trials", 20, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["wilson", "clopper_pearson"]
    assert found["clopper_pearson"] == pytest.approx([0.6211, 0.9679], abs=1e-4)
    assert run("stats", "--successes", 103, "--trials", 121, "--control", 85, 121, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {
        *("wilson", "clopper_pearson", "difference", "difference_interval", "p_value", "verdict"),
    }
    assert found["verdict"] == "better" and found["difference"] == pytest.approx(18 / 121)
    assert found["difference_interval"][0] > 0 and found["p_value"] < 0.05


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--successes", 21, "--trials", 20), "successes = 21"),
        (("--successes", -1, "--trials", 20), "successes = -1"),
        (("--successes", 0, "--trials", 0), "trials = 0"),
        (("--successes", "1.5", "--trials", 20), "'1.5' is not a whole number"),
        (("--successes", "nan", "--trials", 20), "'nan' is not a whole number"),
        (("--successes", 1), "--trials"),
        (("--successes", 1, "--trials", 2, "--control", 3, 2), "control successes = 3"),
        (("--successes", 1, "--trials", 2, "--confidence", "nan"), "confidence = nan"),
        (("--successes", 1, "--trials", 2, "--confidence", "0.9999999999999999", "--json"), "at least 1e-9 below 1"),
    ],
)
def test_bad_counts_are_one_line_and_exit_code_2(
    words: tuple[object, ...], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("stats", *words) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and text in said.err


@pytest.mark.parametrize("difference", ["1e-320", "1e-9", "0.001"])
def test_a_difference_that_needs_too_many_trials_is_refused(
    difference: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("power", "--baseline", 0, "--difference", difference, "--power", "0.999", "--confidence", "0.999") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "trials of each policy; ask for a larger one" in said


def test_two_do_not_run_one_session_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policies = ("--policy", "good=expert", "--policy", "again=expert", "--control", "again")
    assert run("plan", tmp_path / "s", "--task", TASK, *policies, "--difference", 0.3, "--starts", "full:2") == 0
    with lock_run_dir(tmp_path / "s"):
        assert run("run", tmp_path / "s", "--in-process") == 1
    assert "in use by the launcher" in capsys.readouterr().err
    assert SessionFolder(tmp_path / "s").begun == []
    (tmp_path / "s" / "launcher.lock").unlink()
    (tmp_path / "s" / "launcher.lock").mkdir()  # as where nothing can be written
    assert run("run", tmp_path / "s", "--in-process") == 1
    assert "make it writable" in capsys.readouterr().err


def test_a_reason_that_no_file_can_hold_is_kept_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A reason that is not UTF-8 made a line that could not be read: names were shown, and no deviation said so."""
    policies = ("--policy", "good=expert", "--policy", "again=expert", "--control", "again")
    assert run("plan", tmp_path / "s", "--task", TASK, *policies, "--difference", 0.3, "--starts", "full:2") == 0
    assert run("unseal", tmp_path / "s", "--early", "  ") == 2
    assert "again" not in capsys.readouterr().out
    assert run("unseal", tmp_path / "s", "--early", "\udcff\x1b[31m<b>red") == 0
    folder = SessionFolder(tmp_path / "s")
    assert [d.reason for d in folder.deviations] == ["??[31m<b>red"] and folder.problems == []


def test_people_get_sentences(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("stats", "--successes", 17, "--trials", 20, "--control", 14, 20) == 0
    out = capsys.readouterr().out
    assert "Clopper-Pearson" in out and "verdict: cannot tell" in out
    assert run("power", "--baseline", 0.7, "--difference", 0.15, "--trials", 20) == 0
    assert "121 trials" in capsys.readouterr().out


def test_from_plan_to_gate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "ab"
    planned = (
        *("plan", folder, "--task", TASK, "--policy", "good=expert"),
        *("--policy", f"raw={weights(tmp_path / 'raw.inril')}", "--control", "raw"),
        *("--difference", 0.3, "--starts", "full:12", "--tag", "lost"),
    )
    assert run("gate", folder, "--better-than", "raw") == 3
    assert run(*planned) == 0
    assert run(*planned) == 2, "a plan is not overwritten"
    assert run("unseal", folder) == 2
    run_locally(SessionFolder(folder), lambda line: None)
    assert run("label", folder, 0, "failure", "--tag", "lost") == 0
    assert run("label", folder, 0, "failure", "--tag", "fell") == 2
    assert run("report", folder) == 0
    assert run("gate", folder, "--better-than", "raw") == 3, "blind"
    assert run("unseal", folder) == 0
    assert run("report", folder) == 0
    assert run("gate", folder / "report.json", "--better-than", "raw") == 0
    assert run("gate", folder, "--better-than", "good") == 3
    report = json.loads((folder / "report.json").read_text())
    for verdict, finished, code in (
        *(("better", True, 0), ("worse", True, 1), ("no relevant gain", True, 1), ("cannot tell", True, 2)),
        *(("better", False, 2), ("splendid", True, 3)),
    ):
        report["comparisons"][0]["verdict"], report["finished"] = verdict, finished
        (tmp_path / "report.json").write_text(json.dumps(report))
        assert run("gate", tmp_path, "--better-than", "raw", "--policy", "good") == code, verdict
    assert run("gate", folder) == 3
    assert run("plan", tmp_path / "again", *planned[2:-4], "--failures-of", folder) == 0
    capsys.readouterr()
    assert run("plan", tmp_path / "x", "--policy", "raw", "--control", "raw", "--difference", 0.1) == 2
    said = capsys.readouterr().err
    assert "'raw'" in said and said.count("\n") == 1
    assert not (tmp_path / "x").exists()
