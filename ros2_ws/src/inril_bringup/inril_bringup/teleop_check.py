"""A person drives the arm through the training loop before any policy does: the graph, and what its recordings show."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from inril_bringup.control import person_name
from inril_bringup.driven_arm import arm_of
from inril_bringup.graph import Graph, ParameterValue, ResolvedGraph, Value, load_graph, parse_values
from inril_bringup.starting import prepare
from inril_bringup.supervisor import supervise
from inril_core.bench.origin import code_version
from inril_core.calibration.stored import now, software_version
from inril_core.contract import load_contract
from inril_core.errors import ConfigError
from inril_core.run import RunPaths
from inril_core.session.ledger import read_ledger
from inril_core.teleop.sweep import Sweep, episodes_needed
from inril_core.teleop_check.drive import read_drive
from inril_core.teleop_check.measure import measure
from inril_core.teleop_check.report import report_lines
from inril_core.teleop_check.stored import OVERRIDE, TeleopCheck, check_name, compared, write_check
from inril_core.teleop_check.verdict import reasons

GRAPH = "collect_demos"
PERSON_EPISODES = 6
"""One axis each."""
NEEDED = ("arbiter_node", "teleop_node", "recorder_node", "session_node", "observation_node")
LEFT_OUT = ("policy_node", "learner_node")
WITHOUT: Mapping[str, Mapping[str, ParameterValue]] = {
    "arbiter_node": {"expects_policy": False},
    "session_node": {"expects_policy": False, "expects_learner": False, "evaluation": False},
}
"""Parameters of a graph in which a person is alone."""
OBSERVERS = "observation:3,episode_outcome:1"
"""expected_subscribers of observation_node without the policy."""
_TELL = """Drive the tool by hand ({device}). In each of {episodes} episodes of {seconds:g} s one axis to and fro,
slowly first, then quicker: x, y, z, then a turn about x, y, z. Keep a hand on the stop.
To begin: `inril arm` in another terminal."""


def run(arguments: argparse.Namespace) -> int:
    """See `teleop_check_command.run`."""
    words = list(arguments.words)
    name = words.pop(0) if words and ":=" not in words[0] else GRAPH
    given = parse_values(words)
    if arguments.namespace:
        given = {"namespace": arguments.namespace} | given
    graph = driving_graph(without_policy(load_graph(name)), given, arguments.episodes)
    code = supervise(prepare(graph))
    if code:
        print(f"inril teleop-check: the driving ended with {code} (above); nothing is judged", file=sys.stderr)
        return 1
    check = judged(graph)
    path = write_check(Path(str(graph.arguments["calibration"])), check)
    print("\n".join((*report_lines(check), f"stored in {path}")), flush=True)
    if arguments.json:
        print(json.dumps(check.model_dump(mode="json")), flush=True)
    return 0 if check.passed else 1


def without_policy(graph: Graph) -> Graph:
    """The same graph for a person alone: nobody waits for a policy or a learner.

    Raises:
        ConfigError: a person cannot drive in it, or nothing is recorded.
    """
    there = {node.executable for node in graph.nodes.values()}
    missing = [name for name in NEEDED if name not in there]
    if missing:
        raise ConfigError(f"graph {graph.name}: a person drives through {', '.join(missing)}, which it lacks; add them")
    dropped = [node for node in graph.nodes.values() if node.executable in LEFT_OUT]
    nodes = {name: node for name, node in graph.nodes.items() if node.executable not in LEFT_OUT}
    for name, node in nodes.items():
        own: dict[str, ParameterValue] = dict(WITHOUT.get(node.executable or "", {}))
        if node.executable == "observation_node" and any(node.executable == "policy_node" for node in dropped):
            own["expected_subscribers"] = OBSERVERS
        nodes[name] = node.model_copy(update={"parameters": node.parameters | own})
    used = {need for node in nodes.values() for need in node.needs}
    needless = {need for node in dropped for need in node.needs} - used
    arguments = {
        name: argument.model_copy(update={"required": False}) if name in needless else argument
        for name, argument in graph.arguments.items()
    }
    return graph.model_copy(update={"nodes": nodes, "arguments": arguments})


def driving_graph(graph: Graph, given: Mapping[str, Value], episodes: int | None) -> ResolvedGraph:
    """With all its arguments. A sweep drives a simulated cell unless another device is given; else it says what to do.

    Raises:
        ConfigError: as `Graph.resolve`; an argument is given that the check sets itself; or the folder is not new.
    """
    for own in sorted({"plan", "full_rate", OVERRIDE} & given.keys()):
        raise ConfigError(f"{own}:= is set by `inril teleop-check` itself; leave it out")
    if episodes is not None and not 1 <= episodes <= 1000:
        raise ConfigError(f"--episodes = {episodes}; give 1 to 1000")
    sweeps = graph.simulated and given.get("device", Sweep.name) == Sweep.name
    usual: dict[str, Value] = {"run_dir": str(Path("runs") / time.strftime("teleop-check-%Y%m%d-%H%M%S"))}
    usual |= {"device": Sweep.name, "real_time_factor": 1.0} if graph.simulated else {}
    usual |= {"arm_at_start": True, "unattended": True} if sweeps else {}
    contract = load_contract(str(given.get("contract", graph.arguments["contract"].default)))
    planned = episodes or (episodes_needed(contract) if sweeps else PERSON_EPISODES)
    values = usual | dict(given) | {"plan": f"demo:{planned}:episodes", "full_rate": True}
    resolved = graph.resolve(values)
    if RunPaths(resolved.run_dir).session.exists():
        raise ConfigError(f"run_dir = {resolved.run_dir}: something was recorded there; give a new folder")
    arm = arm_of(resolved)
    if not arm.simulated:  # this very run makes the check that others need
        resolved = graph.resolve(values | {OVERRIDE: check_name(arm, contract.task)})
    if not sweeps:
        seconds = contract.episode_length_steps / contract.control_rate_hz
        print(_TELL.format(device=resolved.arguments["device"], episodes=planned, seconds=seconds), flush=True)
    return resolved


def judged(graph: ResolvedGraph) -> TeleopCheck:
    """What the recordings of a graph that has run show.

    Raises:
        ConfigError: nothing can be read of them.
    """
    paths, contract = RunPaths(graph.run_dir), load_contract(str(graph.arguments["contract"]))
    results = read_ledger(paths.session).values
    drives = [read_drive(_recording(paths, result.episode_id)) for result in results if result.valid]
    cut = [f"episode {result.episode_id} ended: {result.reason}" for result in results if result.source == "fault"]
    late = sum(result.late_ticks for result in results)
    found = measure(drives, contract, late, cut, graph.arguments.get("real_time_factor", 1.0) == 1.0)
    arm, why = arm_of(graph), reasons(found, contract)
    return TeleopCheck(
        name=check_name(arm, contract.task),
        created=now(),
        software=software_version(),
        commit=code_version(),
        operator=person_name(),
        device=str(graph.arguments["device"]),
        arm=arm,
        task=contract.task,
        interface_digest=contract.interface_digest,
        deployment_digest=contract.deployment_digest,
        contract=compared(contract),
        passed=not why,
        reasons=why,
        found=found,
    )


def _recording(paths: RunPaths, episode_id: str) -> Path:
    """The finished file, or the raw one where the recorder was ended before."""
    finished = paths.episodes / f"{episode_id}.mcap"
    return finished if finished.exists() else paths.raw / finished.name
