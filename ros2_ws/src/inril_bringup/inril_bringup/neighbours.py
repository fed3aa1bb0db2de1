"""Who else is in a ROS domain, found out by two processes that must hear each other under the graph's environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

from inril_bringup.environment import UDP_LOOPBACK, child_environment
from inril_bringup.graph import ResolvedGraph, catalogue_nodes, joining_nodes
from inril_bringup.network import peers
from inril_bringup.place import Place, taken
from inril_core.errors import ConfigError

PROBE = ("-m", "inril_bringup.probe")
PROBE_TIMEOUT_S = 60.0
"""Two interpreters on a busy machine; nothing is judged by it."""
_IFF_UP = 1


@dataclass(frozen=True)
class Neighbours:
    """What two probes found."""

    rmw: str
    others: tuple[str, ...]
    """Full names of the nodes that are there."""
    graph_ids: tuple[str, ...]
    """Of those in the namespace that was asked for, as far as they say it."""


def listen(namespace: str = "") -> Neighbours:
    """Let two processes exchange a message, and list who else is heard.

    Raises:
        ConfigError: the middleware cannot be loaded, or the two do not hear each other; names the likeliest cause.
    """
    command = [sys.executable, *PROBE, uuid.uuid4().hex[:8], f"/{namespace}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    probes = [subprocess.Popen(command, env=child_environment(os.environ), **pipes) for _ in range(2)]  # type: ignore[call-overload]
    found = []
    try:
        for probe in probes:
            out, errors = probe.communicate(timeout=PROBE_TIMEOUT_S)
            if not out.endswith("\n"):  # what is said counts, also where the middleware could not be left
                raise ConfigError(_why_not_started(errors))
            found.append(json.loads(out.splitlines()[-1]))
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"DDS did not start within {PROBE_TIMEOUT_S:.0f} s; is the machine overloaded?") from error
    finally:
        for probe in probes:
            probe.kill()
            probe.wait()
    if not all(one["exchanged"] for one in found):
        raise ConfigError(f"two processes on this machine do not hear each other over DDS: {_why_deaf(os.environ)}")
    others = {name for one in found for name in one["others"]}
    ids = {graph_id for one in found for graph_id in one["graph_ids"]}
    return Neighbours(found[0]["rmw"], tuple(sorted(others)), tuple(sorted(ids)))


def refuse_neighbours(graph: ResolvedGraph, place: Place) -> None:
    """Refuse to start a graph where a node of another one is heard: they would serve each other's requests.

    A graph that joins only minds nodes of its own names. Nodes that have joined already and are not part of this graph
    may be there: a robot that is started again finds its learner.

    Raises:
        ConfigError: somebody is there; says whose graph and the cures. Or DDS does not work; see `listen`.
    """
    found = listen(place.namespace)
    others = set() if graph.joins else {*catalogue_nodes()} - joining_nodes()
    names = {*graph.nodes, *others}
    prefix = f"/{place.namespace}/" if place.namespace else "/"
    there = sorted({name for name in names if f"{prefix}{name}" in found.others})
    if there:
        told = {"graph_id": f"{' and '.join(found.graph_ids)}, " if found.graph_ids else ""}
        whose = f"{told['graph_id']}with {', '.join(there)},"
        raise ConfigError(taken(place, {"graph_id": whose}))


def _why_not_started(errors: str) -> str:
    lines = [line for line in errors.splitlines() if line.strip()]
    timeout = next((line for line in lines if line.startswith("Timeout (")), "")  # of `faulthandler`: h:mm:ss
    if timeout:
        where = next((line.strip() for line in lines if line.strip().startswith("File ")), "")
        return f"DDS did not start: {timeout} {where}; is the machine overloaded?"
    rmw = os.environ.get("RMW_IMPLEMENTATION")
    if rmw and any("rmw" in line.lower() for line in lines):
        return f"RMW_IMPLEMENTATION = {rmw}: cannot be loaded; unset RMW_IMPLEMENTATION (tested is rmw_fastrtps_cpp)"
    return f"ROS 2 cannot be started: {(lines or ['no message'])[-1][:300]}"


def _why_deaf(environment: os._Environ[str]) -> str:
    """The likeliest cause, and its fix."""
    if environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE") == "OFF":
        return "ROS_AUTOMATIC_DISCOVERY_RANGE = OFF; unset it (inril sets LOCALHOST), or set LOCALHOST or SUBNET"
    server = environment.get("ROS_DISCOVERY_SERVER")
    if server:
        return f"ROS_DISCOVERY_SERVER = {server}: nobody answers there; start it, or unset the variable"
    for name in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE", "CYCLONEDDS_URI"):
        if environment.get(name, UDP_LOOPBACK) != UDP_LOOPBACK:
            return f"{name} = {environment[name]} may switch off what is needed; unset it and try again"
    if peers(environment):
        return f"ROS_STATIC_PEERS = {environment['ROS_STATIC_PEERS']}: a firewall may drop UDP 7400-7900; allow it"
    try:
        up = int(Path("/sys/class/net/lo/flags").read_text(), 16) & _IFF_UP
    except (OSError, ValueError):
        up = _IFF_UP
    if not up:
        return "the loopback interface is down; ip link set lo up"
    return "a firewall or container may drop UDP on loopback, ports 7400 and up; allow it"
