"""Pins: one graph that is armed, reset, restarted or shut down by what was meant for another; and an arm that cannot be
stopped, or has to be armed twice, because DDS discovery is slow.

One graph, up and not armed, lives through all of it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from inril_bringup.control import here
from inril_msgs.srv import Arm, BeginEpisode, EndEpisode, LabelEpisode, ResetCell

from tests.graph.harness import START_S, GraphRun

pytestmark = pytest.mark.timeout(400)
FROM_ELSEWHERE = """
import sys
from pathlib import Path
from inril_bringup import cli, place
folder = Path(sys.argv.pop(1))
place._folder = lambda: folder
cli.main()
"""
"""As from another host or user: without the file that says who runs here."""


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GraphRun]:
    run_dir = tmp_path_factory.mktemp("whose") / "Größe 3 _läuft"
    arguments = {"real_time_factor": 1.0, "plan": "demo:100000:episodes"}
    with GraphRun("collect_demos", run_dir, {"arbiter_node": 20.0}, **arguments) as graph:
        graph.until(
            lambda: graph.status("session") and "not armed" in graph.status("session").waiting_for, "it", START_S
        )
        graph.until(lambda: graph.status("arbiter") and graph.status("robot"), "arbiter and arm", START_S)
        yield graph


def ask(graph: GraphRun, kind: Any, service: str, request: Any) -> Any:
    answers: list[Any] = []
    graph.until(lambda: not graph.calls.not_served(kind, service), service)
    graph.calls.call(kind, service, request, time.monotonic_ns(), 30.0, answers.append, answers.append)
    return graph.until(lambda: answers, f"an answer of {service}")[0]


def test_a_second_graph_in_the_same_place_does_not_start(graph: GraphRun, tmp_path: Path) -> None:
    other = tmp_path / "B"
    done = graph.inril("demos", "--count", "3", "--run-dir", str(other), "--arm-at-start")
    assert done.returncode == 1
    assert graph.graph_id() in done.stderr and str(graph.paths.root) in done.stderr
    assert all(cure in done.stderr for cure in ("namespace:=", "ROS_DOMAIN_ID", "inril down"))
    assert not other.exists()
    assert not graph.status("arbiter").armed and not graph.events


def test_a_graph_that_only_dds_knows_of_is_heard(graph: GraphRun, tmp_path: Path) -> None:
    words = ("up", "collect_demos", f"run_dir:={tmp_path / 'B'}")
    done = graph.python("-c", FROM_ELSEWHERE, str(tmp_path / "places"), *words)
    assert done.returncode == 1, done.stdout
    assert re.search(rf"graph {re.escape(graph.graph_id())}, with \w+", done.stderr), done.stderr
    assert not (tmp_path / "B").exists()


@pytest.mark.parametrize("graph_id", ["", "B-12345678.00000000"])
@pytest.mark.parametrize(
    ("kind", "service", "fields"),
    [
        (Arm, "arbiter/arm", {"arm": True, "operator_name": "test"}),
        (Arm, "robot/arm", {"arm": True, "operator_name": "test"}),
        (ResetCell, "cell/reset", {"reset_id": "x"}),
        (BeginEpisode, "observation/begin_episode", {"episode_id": "x", "max_steps": 5}),
        (EndEpisode, "observation/end_episode", {"episode_id": "x"}),
        (LabelEpisode, "session/label_episode", {"episode_id": "x", "label": 1}),
    ],
)
def test_a_request_for_another_graph_is_refused_by_name(
    graph: GraphRun, kind: Any, service: str, fields: dict[str, Any], graph_id: str
) -> None:
    answer = ask(graph, kind, service, kind.Request(graph_id=graph_id, **fields))
    assert not answer.success
    assert graph.graph_id() in answer.message
    assert (repr(graph_id) if graph_id else "names no graph") in answer.message


def test_one_inril_arm_is_enough_and_disarm_stops_both(graph: GraphRun) -> None:
    assert graph.inril("disarm").returncode == 0
    graph.until(lambda: graph.status("robot").needs_rearm, "the arm's own hold")
    armed = graph.inril("arm")
    assert (armed.returncode, armed.stdout.split(" by ")[0]) == (0, "armed")
    graph.until(lambda: graph.events, "an episode", START_S)
    disarmed = graph.inril("disarm")
    assert disarmed.returncode == 0 and "disarmed" in disarmed.stdout
    graph.until(lambda: not graph.status("arbiter").armed and graph.status("robot").needs_rearm, "both to hold")


def test_a_stop_that_names_no_graph_is_obeyed(graph: GraphRun) -> None:
    assert graph.inril("arm").returncode == 0
    assert ask(graph, Arm, "arbiter/arm", Arm.Request(arm=False, operator_name="test")).success
    graph.until(lambda: not graph.status("arbiter").armed, "the disarming")


def test_over_dds_too_one_call_arms(graph: GraphRun, tmp_path: Path) -> None:
    graph.until(lambda: graph.status("robot").needs_rearm, "the arm's own hold")
    armed = graph.python("-c", FROM_ELSEWHERE, str(tmp_path), "arm")
    assert armed.returncode == 0, armed.stderr
    disarmed = graph.python("-c", FROM_ELSEWHERE, str(tmp_path), "disarm")
    assert disarmed.returncode == 0, disarmed.stderr


def test_another_run_is_not_meant(graph: GraphRun, tmp_path: Path) -> None:
    for command in ("arm", "disarm", "down"):
        done = graph.inril(command, "--run-dir", str(tmp_path))
        assert done.returncode == 1 and graph.graph_id() in done.stderr
    elsewhere = graph.inril("-n", "left", "down")
    assert elsewhere.returncode == 1 and "namespace /left" in elsewhere.stderr


def test_with_a_dead_arbiter_disarm_says_so_and_tells_the_arm(graph: GraphRun) -> None:
    assert graph.inril("arm").returncode == 0
    graph.until(lambda: not graph.status("robot").needs_rearm, "an armed arm")
    graph.kill("arbiter_node")
    done = graph.inril("disarm")
    assert "arbiter" in done.stderr and "does not run" in done.stderr
    assert (done.returncode, done.stdout) == (0, "the arm is disarmed; the arbiter does not run\n")
    assert graph.inril("arm").returncode == 1


def test_down_stops_it_and_the_place_is_free(graph: GraphRun, monkeypatch: pytest.MonkeyPatch) -> None:
    graph_id = graph.graph_id()
    monkeypatch.setenv("ROS_DOMAIN_ID", str(graph.domain))
    running = here("")
    assert running is not None and running.graph_id == graph_id
    done = graph.inril("down")
    assert (done.returncode, done.stdout) == (0, f"graph {graph_id} has stopped\n")
    assert graph.finished(START_S) == 130
    assert here("") is None
