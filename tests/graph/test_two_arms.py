"""Pins: two arms on one network that serve each other's requests: names are relative, each graph has its namespace."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from inril_bringup.graph import load_graph

from tests.domains import own_domain
from tests.graph.harness import START_S, GraphRun

pytestmark = pytest.mark.timeout(500)
SMALL = [
    "sim_cell",
    "safety_monitor",
    "observation_node",
    "arbiter_node",
    "teleop_node",
    "session_node",
    "lifecycle_manager",
]
NOBODY = {"expects_policy": False, "expects_recorder": False}


def small_graph(folder: Path) -> Path:
    """As collect_demos, without recorder and store."""
    parameters = {
        "arbiter_node": {**NOBODY, "expected_subscribers": "target:1"},
        "observation_node": {"expected_subscribers": "observation:2,episode_outcome:1"},
        "sim_cell": {"expected_subscribers": "robot_state:2,part_poses:1,cell_truth:1"},
        "teleop_node": {"expected_subscribers": "teleop_action:1,teleop_status:1"},
        "session_node": {**NOBODY, "expects_learner": False},
    }
    folder.mkdir()
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump({"description": "Small.", "nodes": SMALL, "parameters": parameters}))
    assert set(load_graph(path).nodes) == set(SMALL)
    return path


def test_two_graphs_in_two_namespaces_do_not_disturb_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph_file = small_graph(tmp_path / "graphs")
    monkeypatch.setattr("tests.graph.harness.patient_graph", lambda graph, folder, respawn_s: Path(graph))
    plan = {"plan": "demo:1:episodes"}  # in lockstep, with simulated time of its own: no load makes a fault

    def start(name: str) -> GraphRun:
        return GraphRun(str(graph_file), tmp_path / name, domain=domain, namespace=name, **plan)

    with own_domain() as domain, start("left") as left, start("right") as right:
        for graph in (left, right):
            waits = lambda graph=graph: (s := graph.status("session")) and "not armed" in s.waiting_for  # noqa: E731
            graph.until(waits, "a graph that wants to be armed", START_S)
        assert left.graph_id() != right.graph_id()

        armed = left.inril("-n", "left", "arm")
        assert armed.returncode == 0, armed.stderr
        assert left.finished(START_S) == 0
        assert [result.valid for result in left.results()] == [True]
        right.until(lambda: right.status("arbiter"), "the other arbiter")
        assert not right.status("arbiter").armed and not right.events and not right.targets
        assert right.results() == []

        assert right.inril("-n", "right", "arm").returncode == 0
        assert right.finished(START_S) == 0
        assert [result.valid for result in right.results()] == [True]
        ids = {result.episode_id.split("-")[0] for graph in (left, right) for result in graph.results()}
        assert ids == {"left", "right"}
