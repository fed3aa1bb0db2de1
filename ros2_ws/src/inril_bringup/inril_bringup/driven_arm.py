"""Which arm a graph drives, and whether its runs need a recent teleop check."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from inril_bringup.graph import ResolvedGraph
from inril_core.contract import Contract
from inril_core.settings import read_mapping
from inril_core.teleop_check.stored import OVERRIDE, Arm, require

_ARM_PROGRAM = ("inril_hardware", "sim_cell")
_ACT_IN_EPISODES = {"session_node", "policy_node"}
"""Executables that make a graph a run: without them nobody but a person moves the arm."""


def is_run(graph: ResolvedGraph) -> bool:
    """Whether a policy, or a person within episodes, drives an arm in this graph."""
    return not graph.joins and any(node.executable in _ACT_IN_EPISODES for node in graph.nodes.values())


def arm_of(graph: ResolvedGraph) -> Arm:
    """The arm by name and settings; one that is a node of its own, by the names of the nodes that are not inril's."""
    simulated = graph.simulated
    for node in graph.nodes.values():
        if (node.package, node.executable) == _ARM_PROGRAM:
            name = str(node.parameters.get("arm", "simulated"))
            settings = dict(read_mapping(node.parameters.get("arm_settings", ""), "arm_settings"))
            return Arm(name=name, namespace=graph.namespace, settings=settings, simulated=simulated)
    others = [name for name, node in graph.nodes.items() if not (node.package or "").startswith("inril_")]
    return Arm(name="_".join(others) or graph.name, namespace=graph.namespace, simulated=simulated)


def arm_to_be_checked(graph: ResolvedGraph) -> Arm | None:
    """The real arm that a run of this graph drives; None: there is none."""
    arm = arm_of(graph)
    return arm if is_run(graph) and not arm.simulated else None


def overridden(graph: ResolvedGraph) -> list[str]:
    """Names of the checks that the graph's argument says it does without."""
    return [name.strip() for name in str(graph.arguments.get(OVERRIDE) or "").split(",") if name.strip()]


def require_check(graph: ResolvedGraph, contract: Contract) -> None:
    """Refuse a run on a real arm that nobody has driven by hand lately.

    Raises:
        ConfigError: see `inril_core.teleop_check.stored.require`.
    """
    arm = arm_to_be_checked(graph)
    if arm is not None:
        require(arm, contract, Path(str(graph.arguments["calibration"])), overridden(graph), datetime.now(UTC))
