"""The command `inril`: what it refuses, with one message and an exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from inril_bringup import cli, operate

from tests.domains import own_domain

COMMANDS = [
    "up",
    "demos",
    "pretrain",
    "demo",
    "preflight",
    "status",
    "arm",
    "disarm",
    "down",
    "rollback",
    "unpin",
    "label",
    "episode",
]


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(list(words))
    return int(ended.value.code or 0)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Pins a command that cannot be used without reading its source."""
    assert run(command, "--help") == 0
    out = capsys.readouterr().out
    assert f"examples:\n  inril {command}" in out and "exit code: 0: done" in out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["up", "finetun"], "did you mean 'finetune'"),
        (["up", "finetune"], "run_dir is missing"),
        (["up", "finetune", "run_dir"], "'run_dir': give arguments as NAME:=VALUE"),
        (["up", "finetune", "run_dir:=a", "run_dir:=b"], "run_dir is given twice"),
        (["up", "finetune", "run_dir:=a", "sed:=1"], "did you mean 'seed'"),
        (["up", "finetune", "run_dir:=a"], "demos is missing; give demos:=VALUE"),
        (["up", "finetune", "run_dir:=a", "demos:=."], "initial_weights is missing"),
        (["up", "finetune", "run_dir:=a", "demos:=b", "initial_weights:=."], "demos = "),
        (["up", "finetune", "run_dir:=a", "demos:=.", "initial_weights:=.", "preset:=weighted"], "'weighted'"),
        (["up", "finetune", "run_dir:=a", "demos:=.", "initial_weights:=.", "plan:=trane:5:steps"], "trane"),
        (["up", "deploy", "run_dir:=a", "contract:=insert_log"], "insert_log"),
        (["up", "finetune", "run_dir:=a", "demos:=.", "initial_weights:=."], "no demonstrations in"),
        (["up", "deploy", "run_dir:=a", "run_id:=../a"], "run_id = '../a'"),
        (["up", "deploy", "run_dir:=a", "namespace:=1st"], "namespace = '1st'"),
        (["-n", "left", "up", "deploy", "run_dir:=a", "namespace:=left"], "are both given"),
        (["demos", "--count", "1", "--run-dir", "x", "contract:=insert_log"], "insert_log"),
        (["demos", "--count", "1", "--run-dir", "/proc/self/status/x"], "is not a folder"),
        (["demos", "--count", "0", "--run-dir", "x"], "--count = 0; give 1 or more"),
        (["demos", "--count", "1", "--run-dir", "x", "plan:=demo:1:steps"], "plan:= is set by an option"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_1(
    words: list[str],
    told: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Pins a traceback where a word would do, and a typo that starts a run."""
    monkeypatch.chdir(tmp_path)
    assert run(*words) == 1
    assert told in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_arguments_of_a_graph_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """Pins an argument that nobody can find."""
    assert run("up", "finetune", "--show-args") == 0
    out = capsys.readouterr().out
    assert "run_dir (a path; required)" in out and "sim_cell" in out


def test_demos_start_the_graph_that_records(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Pins `inril demos` that records another number, or arms a real arm unasked."""
    started: list[Any] = []
    monkeypatch.setattr("inril_bringup.supervisor.supervise", lambda start: started.append(start.graph) or 0)
    monkeypatch.setattr("inril_bringup.starting.refuse_neighbours", lambda graph, place: None)
    assert run("demos", "--count", "7", "--run-dir", str(tmp_path), "seed:=3") == 0
    session = started[0].nodes["session_node"].parameters
    assert started[0].name == "collect_demos"
    assert (session["plan"], session["seed"], session["arm_at_start"]) == ("demo:7:episodes", 3, False)


def test_without_a_graph_the_operator_is_told_so() -> None:
    """Pins `inril arm` or `inril status` that hangs, or says yes, when nothing runs."""
    code = """
from inril_bringup import operate
operate.SERVICE_TIMEOUT_S = operate.STATUS_TIMEOUT_S = 0.3
import json
with operate.operator() as person:
    try:
        person.call(operate.Arm, "arbiter/arm", operate.Arm.Request(arm=True), 0.3)
    except operate.Refused as error:
        print(json.dumps({"told": str(error), "heard": list(person.statuses(0.3))}))
"""
    with own_domain() as domain:
        environment = os.environ | {"ROS_DOMAIN_ID": str(domain)}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    found = json.loads(done.stdout.splitlines()[-1])
    assert f"arbiter/arm: nobody serves it on ROS domain {domain}; is the graph up?" in found["told"]
    assert found["heard"] == []


def test_every_status_can_be_shown() -> None:
    """Pins a status line that breaks on a field that was renamed, or on NaN."""
    states = {name: operate._plain(message_type()) for name, (message_type, _) in operate.STATUSES.items()}
    lines = operate.describe(states | {"learner": None})
    assert len(lines) == len(operate.STATUSES)
    assert "not armed" in lines[1] and "not heard" in lines[-1]
    message = operate.PolicyStatus(push_to_acting_ms=float("nan"))
    assert json.loads(json.dumps(operate._plain(message), allow_nan=False))["push_to_acting_ms"] is None


@pytest.mark.parametrize(
    ("refusals", "asked", "reason"),
    [
        (["not armed: robot_needs_rearm: call /robot/arm"] * 2, 3, ""),
        (["not armed: robot_needs_rearm: call /robot/arm"] * 99, operate.ARM_TRIES, "robot_needs_rearm"),
        (["not armed: recorder_lost: start it"] * 99, 1, "recorder_lost"),
    ],
)
def test_arming_waits_until_the_arbiter_has_heard_of_the_armed_robot_and_for_nothing_else(
    refusals: list[str], asked: int, reason: str
) -> None:
    """Pins: a person who must arm twice because the arm's state comes a moment after its answer."""
    calls = []

    class Person:
        def graph_id(self) -> str:
            return "run.launch"

        def pause(self, seconds: float) -> None:
            assert calls[-1] == "arbiter/arm"

        def call(self, _: object, service: str, request: Any) -> object:
            calls.append(service)
            assert request.graph_id == "run.launch"
            if service == "arbiter/arm" and refusals:
                raise operate.Refused(refusals.pop())
            return operate.Arm.Response(success=True, message="armed by Kim")

    with pytest.raises(operate.Refused, match=reason) if reason else nullcontext():
        assert operate.arm_both(Person(), "Kim") == "armed by Kim"  # type: ignore[arg-type]
    assert calls == ["robot/arm", *["arbiter/arm"] * asked]
