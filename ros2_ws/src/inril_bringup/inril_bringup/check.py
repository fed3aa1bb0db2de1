"""What can be known to be wrong before the first process of a graph is started."""

import importlib.util
from pathlib import Path

from inril_bringup.graph import ResolvedGraph
from inril_core.contract import load_contract
from inril_core.errors import ConfigError
from inril_core.session.plan import parse_plan
from inril_core.teleop import device_config


def check(graph: ResolvedGraph) -> None:
    """Read what the nodes will read: contract, device, plan, preset, and the files and programs that must be there.

    Raises:
        ConfigError: one of them is wrong; the nodes would say so too, one by one, in their logs.
    """
    given = graph.arguments
    for name, node in graph.nodes.items():
        program = f"{node.package}.{node.executable}"
        if not _exists(program):
            raise ConfigError(
                f"graph {graph.name}: nodes.{name}: there is no Python module {program}; install the package into "
                "inril's environment, or mend package and executable"
            )
    if given.get("contract") is not None:
        load_contract(str(given["contract"]))
    if "teleop_node" in graph.nodes:
        device_config(str(given.get("device", "scripted")), str(given.get("device_settings") or ""))
    if given.get("plan") is not None:
        parse_plan(str(given["plan"]))
    for name in ("demos", "initial_weights"):
        path = given.get(name)
        if path is not None and not Path(str(path)).exists():
            raise ConfigError(f"graph {graph.name}: {name} = {path}: is not there; give an existing path")
    if given.get("preset") is not None:
        from inril_core.finetune.config import load_config

        load_config(str(given["preset"]))


def _exists(program: str) -> bool:
    try:
        return importlib.util.find_spec(program) is not None
    except ModuleNotFoundError:
        return False
