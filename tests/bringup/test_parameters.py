"""Every parameter that a graph sets is one that its node declares: ROS itself drops others in silence."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from inril_bringup.graph import load_graph, packaged_graphs
from inril_bringup.graph_schema import NodeSpec

SOURCES = Path(__file__).parents[2] / "ros2_ws" / "src"
NODES = {(graph, name): spec for graph in packaged_graphs() for name, spec in load_graph(graph).nodes.items()}


def declared(spec: NodeSpec) -> set[str]:
    """Names given to `self.param` in the node's package, read from the source."""
    names = {"use_sim_time"}  # of every ROS node
    base = SOURCES / "inril_common" / "inril_common" / "node.py"
    for path in [base, *(SOURCES / spec.package / spec.package).glob("*.py")]:
        for call in ast.walk(ast.parse(path.read_text())):
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
                continue
            if call.func.attr == "contract_param":
                names.add("contract")
            elif call.func.attr == "param" and call.args and isinstance(call.args[0], ast.Constant):
                names.add(call.args[0].value)
    return names if spec.lifecycle else names - {"expected_subscribers"}


@pytest.mark.parametrize(("graph", "name"), NODES)
def test_the_node_is_there_and_declares_what_it_is_given(graph: str, name: str) -> None:
    """Pins a renamed node, and a parameter whose typo or renaming leaves the node's default in force."""
    spec = NODES[graph, name]
    source = SOURCES / spec.package / spec.package / f"{spec.executable}.py"
    assert source.exists(), f"{graph}: {name}: there is no {source}"
    assert "def main(" in source.read_text()
    setup = (SOURCES / spec.package / "setup.py").read_text()
    assert f'"{spec.executable} = {spec.package}.{spec.executable}:main"' in setup
    assert set(spec.parameters) <= declared(spec)
