"""Pins: an arm that only the arbiter can stop. Here the arbiter is a broken one; no other node runs but the monitor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from inril_common.convert import array_to_pose, ns_to_stamp, pose_to_array
from inril_common.qos import LATCHED, TICK
from inril_msgs.msg import RobotState, SafetyPermit, Target

from inril_core.contract import load_contract
from tests.graph.harness import START_S, GraphRun

pytestmark = pytest.mark.timeout(400)
NODES = ["sim_cell", "safety_monitor", "lifecycle_manager"]
CONTRACT = load_contract("insert_leg")
CEILING_M = CONTRACT.limits.position_max_m[2] + CONTRACT.monitor.position_margin_m
STEP_M = 0.03


class BrokenArbiter:
    """Sends Targets `step_m` above the measured pose, wherever that is, and hears what arm and monitor say."""

    def __init__(self, graph: GraphRun) -> None:
        self.graph = graph
        self.permits: list[SafetyPermit] = []
        self.furthest_m = 0.0
        self.step_m: float | None = None
        """How far above the measured pose each Target lies; None: it sends none."""
        node = graph.node
        self._targets = node.create_publisher(Target, "target", TICK)
        node.create_subscription(SafetyPermit, "safety_permit", self.permits.append, LATCHED)
        node.create_subscription(RobotState, "robot_state", self._on_state, TICK)

    def _on_state(self, state: RobotState) -> None:
        pose = pose_to_array(state.tool_pose)
        self.furthest_m = max(self.furthest_m, float(pose[2]))
        if self.step_m is not None:
            message = Target(boot_id="broken", valid_until=ns_to_stamp(2 * 10**18), gripper_width_m=float("nan"))
            message.header.frame_id = "base"
            message.pose = array_to_pose(pose + np.array([0, 0, self.step_m, 0, 0, 0, 0]))
            self._targets.publish(message)

    @property
    def reasons(self) -> list[str]:
        """Of the newest permit; empty: it permits."""
        return list(self.permits[-1].reasons) if self.permits else ["never heard"]


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BrokenArbiter]:
    """An armed arm under its monitor, and a broken arbiter."""
    file = tmp_path / "pair.yaml"
    parameters = {"sim_cell": {"expected_subscribers": "robot_state:1"}}
    file.write_text(yaml.safe_dump({"description": "Arm and monitor.", "nodes": NODES, "parameters": parameters}))
    monkeypatch.setattr("tests.graph.harness.patient_graph", lambda graph, folder, respawn_s: Path(graph))
    with GraphRun(str(file), tmp_path / "run", real_time_factor=1.0) as graph:
        broken = BrokenArbiter(graph)
        graph.until(lambda: not broken.reasons, "a permit", START_S)
        graph._ask("robot/arm", arm=True)
        graph.until(lambda: not graph.status("robot").needs_rearm, "an armed arm", START_S)
        yield broken


def test_the_monitor_stops_a_broken_arbiter(broken: BrokenArbiter) -> None:
    """Red: `expects_monitor: false` in the graph."""
    graph, broken.step_m = broken.graph, STEP_M
    graph.until(lambda: graph.status("robot").needs_rearm, "the stop", START_S)
    graph.until(lambda: any("tool z" in reason for reason in broken.reasons), "the monitor's reason", START_S)
    seq = graph.status("robot").seq
    graph.until(lambda: graph.status("robot").seq > seq + 20, "twenty more periods of the broken arbiter")
    assert graph.status("robot").needs_rearm, "nothing re-arms itself"
    assert CEILING_M < broken.furthest_m < CEILING_M + 3 * STEP_M
    assert graph.inril("arm").returncode != 0


def test_a_dead_monitor_stops_the_arm_and_its_successor_does_not_start_it(broken: BrokenArbiter) -> None:
    graph, broken.step_m = broken.graph, 0.0
    old = graph.kill("safety_monitor")
    graph.until(lambda: graph.status("robot").needs_rearm, "the stop", START_S)
    graph.restarted("safety_monitor", old)
    boot = broken.permits[0].boot_id
    graph.until(lambda: broken.permits[-1].boot_id != boot and not broken.reasons, "a new permit", START_S)
    seq = graph.status("robot").seq
    graph.until(lambda: graph.status("robot").seq > seq + 10, "ten more periods")
    assert graph.status("robot").needs_rearm, "nothing re-arms itself"
