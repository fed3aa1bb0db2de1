"""A graph as JSON, for launchers under another interpreter: `python -m inril_bringup.describe GRAPH`.

With `--arguments`: the graph's arguments. Otherwise: its nodes with the given NAME:=VALUE filled in.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from inril_bringup.graph import load_graph, parse_values
from inril_bringup.programs import node_program, ros_remappings
from inril_bringup.starting import prepare
from inril_core.errors import InrilError


def describe_arguments(name: str) -> dict[str, Any]:
    """Argument name to description and default as text; None: must be given, '': not set."""
    arguments = {}
    for key, argument in load_graph(name).arguments.items():
        default = None if argument.required else _text(argument.default)
        arguments[key] = {"description": f"{argument.description} ({argument.allowed})", "default": default}
    return arguments


def _text(value: object) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def describe_nodes(name: str, values: Sequence[str]) -> dict[str, Any]:
    """The run folder, the place to hold, and each node's settings in starting order.

    Raises:
        ConfigError: as `Graph.resolve` and `prepare`.
    """
    start = prepare(load_graph(name).resolve(parse_values(values)))
    place, graph = start.place, start.graph
    nodes = {}
    for key, node in graph.nodes.items():
        (program, *words), environment = node_program(node, os.environ)
        nodes[key] = {
            **node.model_dump(mode="json"),
            "program": program,
            "words": words,
            "environment": environment,
            "namespace": graph.namespace,
            "remappings": ros_remappings(node, graph.namespace),
        }
    return {
        "run_dir": str(graph.run_dir),
        "place": None if place is None else {"domain": place.domain, "namespace": place.namespace},
        "facts": start.facts,
        "nodes": nodes,
    }


def main(words: Sequence[str]) -> int:
    """Print the JSON; an error a user can fix goes to stderr with exit code 1."""
    try:
        name, *values = words
        print(json.dumps(describe_arguments(name) if values == ["--arguments"] else describe_nodes(name, values)))
    except InrilError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
