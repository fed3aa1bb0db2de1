"""What the processes of a graph inherit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from inril_bringup.environment import PROFILES, RANGE, TRANSPORTS, child_environment, is_local

from tests.graph.harness import own_domain

OWN = Path("/home/me/inril/.venv")


def test_another_ros_is_left_out_and_everything_else_stays() -> None:
    """Pins nodes that import the rclpy of a sourced native Jazzy, built for another Python."""
    given = {
        "PYTHONPATH": f"/opt/ros/jazzy/lib/python3.12:/home/me/mine:{OWN}/lib:/ws/install/lib/python3",
        "LD_LIBRARY_PATH": f"{OWN}/lib:/opt/ros/jazzy/lib:/usr/local/cuda/lib64",
        "AMENT_PREFIX_PATH": f"/ws/install:/opt/ros/jazzy:{OWN}",
        "ROS_DOMAIN_ID": "7",
    }
    made = child_environment(given, OWN)
    assert made["PYTHONPATH"] == f"/home/me/mine:{OWN}/lib"
    assert made["LD_LIBRARY_PATH"] == f"{OWN}/lib:/usr/local/cuda/lib64"
    assert made["AMENT_PREFIX_PATH"] == str(OWN)
    assert made["ROS_DOMAIN_ID"] == "7"


NODE = """
import os, rclpy
rclpy.init()
node = rclpy.create_node("looked_at")
print([open(f"/proc/self/task/{t}/comm").read().strip() for t in os.listdir("/proc/self/task")])
"""


def threads_of_a_node(environment: dict[str, str]) -> str:
    """Names of the threads of a process that has a node."""
    return subprocess.run(
        [sys.executable, "-c", NODE], env=environment, capture_output=True, text=True, check=True, timeout=60
    ).stdout


def outer(**given: str) -> dict[str, str]:
    """This process's environment without what the tests say of DDS."""
    return {name: value for name, value in os.environ.items() if name not in (RANGE, TRANSPORTS, *PROFILES)} | given


@pytest.mark.parametrize("given", [{}, {RANGE: "LOCALHOST"}, {RANGE: "SUBNET"}])
def test_no_node_uses_shared_memory(given: dict[str, str]) -> None:
    """Pins a node that is deaf after kill -9 and a restart, because others cleared its port away."""
    with own_domain() as domain:
        threads = threads_of_a_node(child_environment(outer(ROS_DOMAIN_ID=str(domain), **given)))
    assert "dds.udp" in threads and "dds.shm" not in threads


def test_a_child_of_a_child_talks_alike() -> None:
    once = child_environment({}, OWN)
    assert child_environment(once, OWN) == once


@pytest.mark.parametrize(
    "chosen", [{RANGE: "SUBNET"}, {TRANSPORTS: "DEFAULT"}, {PROFILES[0]: "/mine.xml"}, {PROFILES[1]: "/mine.xml"}]
)
def test_what_the_operator_chose_is_kept(chosen: dict[str, str]) -> None:
    made = child_environment(chosen, OWN)
    assert {**made, **chosen} == made
    assert PROFILES[0] in chosen or PROFILES[0] not in made


def test_the_network_is_not_asked_by_default() -> None:
    """Pins a graph that everybody on the network can command."""
    assert is_local(child_environment({}, OWN)) and is_local(child_environment({RANGE: "LOCALHOST"}, OWN))
    assert not is_local(child_environment({RANGE: "SUBNET"}, OWN))
