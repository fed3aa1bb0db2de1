"""Pins: a reflex that the arbiter takes for a missing Target, and an arm that anything but a person arms again."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

pytest.importorskip("rclpy")
pytest.importorskip("ruckig")

from std_srvs.srv import Trigger

from tests.domains import own_domain, spawn
from tests.graph.harness import PATIENT_S, START_S, GraphRun, patient_contract

pytestmark = pytest.mark.timeout(600)
ROOT = Path(__file__).resolve().parents[2]
GRAPH = {
    "description": "An arm behind controllers of another process, and who commands it.",
    "nodes": ["robot_node", "camera_node", "safety_monitor", "observation_node", "arbiter_node", "lifecycle_manager"],
    "defaults": {
        "arm": "ros2_control",
        "arm_settings": "{mode_topic: robot_mode, recovery: error_recovery, max_age_s: 5.0, gripper_max_age_s: 5.0, "
        "connect_s: 60.0}",
        "cameras": "{front: {source: 'tests.hardware.outside:CountingConfig'}}",
    },
    "parameters": {
        "robot_node": {"expected_subscribers": ""},
        "observation_node": {"expected_subscribers": ""},
        "arbiter_node": {
            "expected_subscribers": "",
            **dict.fromkeys(
                ("expects_policy", "expects_teleop", "expects_recorder", "expects_session", "expects_device"), False
            ),
        },
    },
}


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GraphRun]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    path, contract = tmp_path / "behind.yaml", patient_contract(tmp_path)
    path.write_text(yaml.safe_dump(GRAPH))
    command = [
        sys.executable,
        "-m",
        "inril_hardware.simulated_controllers",
        "--ros-args",
        "-p",
        f"contract:={contract}",
    ]
    with own_domain() as domain:
        controllers = spawn(command, domain)
        try:
            with GraphRun(str(path), tmp_path / "run", domain=domain, contract=contract) as running:
                yield running
        finally:
            controllers.kill()
            controllers.wait()


def test_a_reflex_is_a_fault_by_name_until_a_person_arms(graph: GraphRun) -> None:
    graph.until(lambda: graph.status("robot") and graph.status("arbiter"), "the arm's state", START_S)
    assert not graph.status("robot").simulated and graph.status("robot").mode == "move"
    graph.arm()
    graph.until(lambda: graph.status("arbiter").armed and not graph.status("arbiter").faults, "armed", PATIENT_S)
    client = graph.node.create_client(Trigger, "simulate_reflex")
    graph.until(client.service_is_ready, "the controllers' service", PATIENT_S)
    client.call_async(Trigger.Request())
    graph.until(lambda: "robot_fault" in graph.status("arbiter").faults, "robot_fault", PATIENT_S)
    status = graph.status("arbiter")
    detail = status.details[status.faults.index("robot_fault")]
    assert "reflex (cartesian_reflex)" in detail and "inril arm" in detail
    graph.until(
        lambda: graph.status("robot").needs_rearm and graph.status("robot").mode == "reflex", "the reflex", PATIENT_S
    )
    graph.arm()
    graph.until(lambda: graph.status("arbiter").armed and not graph.status("arbiter").faults, "armed again", PATIENT_S)
    graph.until(lambda: graph.status("robot").mode == "move", "the recovered arm", PATIENT_S)
