"""Pins: a graph that opens sockets on a network that nobody named, or is deaf to its other half without a word."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as xml
from pathlib import Path

import pytest
from inril_bringup import network, place
from inril_bringup.environment import PROFILES, RANGE, child_environment, is_local, is_over_udp
from inril_bringup.graph import catalogue_nodes, joining_nodes
from inril_bringup.network import HOST, PEERS, hosts_profile, network_fault

PAIR = {HOST: "127.0.0.2", PEERS: "127.0.0.3; 127.0.0.4"}
"""Linux answers on all of 127.0.0.0/8."""
OWN = Path(sys.prefix)


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "_folder", lambda: tmp_path / "places")


def addresses(path: Path, tag: str) -> set[str]:
    space = "{http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles}"
    return {
        element.text or "" for found in xml.parse(path).iter(space + tag) for element in found.iter(space + "address")
    }


def test_only_the_named_hosts_are_talked_with() -> None:
    made = child_environment(PAIR, OWN)
    path = Path(made[PROFILES[0]])
    assert addresses(path, "interfaceWhiteList") == {"127.0.0.1", "127.0.0.2"}
    assert addresses(path, "initialPeersList") == {"127.0.0.1", "127.0.0.3", "127.0.0.4"}
    assert made[RANGE] == "SYSTEM_DEFAULT" and is_over_udp(made) and not is_local(made)
    assert child_environment(made, OWN) == made, "a child of a child talks alike"
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_without_a_peer_a_graph_stays_at_home() -> None:
    for given in ({}, {HOST: "127.0.0.2"}, {PEERS: "127.0.0.3"}, {**PAIR, HOST: "192.0.2.1"}):
        assert hosts_profile(given) is None and is_local(child_environment(given, OWN))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({PEERS: "10.0.0.2"}, "set INRIL_HOST to the address of this host"),
        ({HOST: "127.0.0.2"}, "set ROS_STATIC_PEERS"),
        ({**PAIR, HOST: "192.0.2.1"}, "give an address of this host"),
        ({**PAIR, HOST: "robot.lab"}, "not an IPv4 address"),
        ({**PAIR, PEERS: "127.0.0.3;</address>"}, "not an IPv4 address"),
        ({**PAIR, PEERS: "::1"}, "not an IPv4 address"),
    ],
)
def test_a_slip_is_named_with_its_fix(given: dict[str, str], said: str) -> None:
    assert said in network_fault(given)
    assert hosts_profile(given) is None


def test_right_settings_have_no_fault() -> None:
    assert network_fault({}) == network_fault(PAIR) == ""


def test_a_robot_that_starts_again_does_not_mind_its_learner() -> None:
    assert joining_nodes() == {"learner_node"} and "learner_node" in catalogue_nodes()


def test_network_needs_the_standard_library_alone() -> None:
    """launch imports it into a native interpreter."""
    absent = ["numpy", "yaml", "pydantic", "rclpy"]
    code = f"import sys; sys.modules.update(dict.fromkeys({absent})); import inril_bringup.network"
    environment = {**os.environ, "PYTHONPATH": str(Path(network.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)
