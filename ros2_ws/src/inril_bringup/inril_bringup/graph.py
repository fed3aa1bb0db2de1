"""Graphs as data: which nodes, with which parameters, and what happens when one of them dies.

`graphs/nodes.yaml` describes every node and argument once; a graph file (`graphs/finetune.yaml`) picks
nodes in starting order. The supervisor and the launch files are made from the same `Graph`, so they
cannot drift apart. What stands in the files is in `graph_schema`.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from inril_bringup.graph_schema import (
    ALWAYS,
    CONTROL_SOCKET,
    GIVEN_AT_START,
    GRAPH_ID,
    LOCKSTEP,
    MANAGED_NODES,
    NOT_ARGUMENTS,
    OTHER_CAMERAS,
    REFERENCE,
    SIMULATED_CELL,
    SIMULATED_TIME,
    THIS_HOST,
    Argument,
    Catalogue,
    Frozen,
    GraphFile,
    NodeSpec,
    ParameterValue,
    Value,
)  # fmt: skip
from inril_bringup.network import LOOPBACK
from inril_core.contract.load import describe
from inril_core.errors import ConfigError
from inril_core.hardware.cameras.base import CELL_SOURCE
from inril_core.settings import read_mapping
from inril_core.yaml_text import read_yaml

_M = TypeVar("_M", bound=BaseModel)


class Graph(Frozen):
    """A graph with its arguments still open."""

    name: str
    description: str
    source: str
    arguments: dict[str, Argument]
    nodes: dict[str, NodeSpec]
    """In starting order."""
    simulation_only: dict[str, Argument]
    """Those of all known arguments that are for simulated cells, used here or not."""

    @property
    def managed_nodes(self) -> list[str]:
        """Lifecycle nodes in starting order."""
        return [name for name, node in self.nodes.items() if node.lifecycle]

    @property
    def simulated(self) -> bool:
        """Whether it has a simulated cell."""
        return any(node.simulated for node in self.nodes.values())

    def resolve(self, given: Mapping[str, Value]) -> ResolvedGraph:
        """Fill in the arguments.

        Args:
            given: argument name to value, or to the text a user typed.

        Raises:
            ConfigError: an argument is unknown, missing, of another type, out of range, or for simulation only.
        """
        for name in given:
            if name not in self.arguments:
                raise ConfigError(f"graph {self.name}: no argument {name!r}{suggest(name, self.arguments)}")
        values: dict[str, ParameterValue | None] = {
            MANAGED_NODES: self.managed_nodes,
            SIMULATED_CELL: self.simulated,
            **{name: f"${{{name}}}" for name in GIVEN_AT_START},
        }
        for name, argument in self.arguments.items():
            value = given.get(name, argument.default)
            if value is None:
                values[name] = None
                continue
            try:
                values[name] = argument.convert(value)
            except (ValueError, OverflowError):
                raise ConfigError(
                    f"graph {self.name}: {name} = {value!r}; give {argument.allowed}: {argument.description}"
                ) from None
        for name, argument in self.arguments.items():
            if argument.required and values[name] is None:
                raise ConfigError(f"graph {self.name}: {name} is missing; give {name}:=VALUE: {argument.description}")
        values[SIMULATED_TIME] = self.simulated and values.get("real_time_factor") != 1.0
        values[LOCKSTEP] = self.simulated and values.get("real_time_factor") == 0.0
        values[OTHER_CAMERAS] = _has_other_cameras(values.get("cameras"))
        if values[OTHER_CAMERAS] and not any(node.when == OTHER_CAMERAS for node in self.nodes.values()):
            raise ConfigError(
                f"graph {self.name}: cameras = {values['cameras']!r}: nobody reads them; add camera_node to the "
                "nodes of the graph file"
            )
        chosen = {name: node for name, node in self.nodes.items() if node.when is None or values[node.when] is True}
        nodes = {name: _fill_node(node, values) for name, node in chosen.items()}
        if not self.simulated:
            self._refuse_simulation_only(values, nodes)
        arguments = {name: value for name, value in values.items() if name in self.arguments}
        return ResolvedGraph(name=self.name, arguments=arguments, nodes=nodes)

    def _refuse_simulation_only(
        self, values: Mapping[str, ParameterValue | None], nodes: Mapping[str, NodeSpec]
    ) -> None:
        """Whether as an argument or as a parameter in the graph file: what is for simulation is not for an arm."""
        for name, argument in self.simulation_only.items():
            given = {f"{node}.{name}": spec.parameters.get(name) for node, spec in nodes.items()}
            for where, value in {name: values.get(name), **given}.items():
                if value is not None and value != argument.elsewhere:
                    only = "cannot be set" if argument.elsewhere is None else f"must be {_as_text(argument.elsewhere)}"
                    raise ConfigError(
                        f"graph {self.name}: {where} = {_as_text(value)}: for a simulated cell only, and no node of "
                        f"this graph says `simulated: true`; here it {only}"
                    )


class ResolvedGraph(Frozen):
    """A graph whose parameters are concrete values."""

    name: str
    arguments: dict[str, ParameterValue | None]
    nodes: dict[str, NodeSpec]

    @property
    def run_dir(self) -> Path:
        """Folder of everything this run writes."""
        return Path(str(self.arguments["run_dir"]))

    @property
    def namespace(self) -> str:
        """ROS namespace without slashes at its ends; empty: the root."""
        return str(self.arguments.get("namespace") or "").strip("/")

    @property
    def simulated(self) -> bool:
        """Whether it has a simulated cell."""
        return any(node.simulated for node in self.nodes.values())

    @property
    def joins(self) -> bool:
        """It commands no arm (no lifecycle nodes, no manager) and may run beside a graph that does."""
        return not any(node.lifecycle or node.manages for node in self.nodes.values())

    def started_as(self, graph_id: str, control_socket: str, this_host: str = LOOPBACK) -> ResolvedGraph:
        """The graph of one launch: every node learns whose it is."""
        given: dict[str, ParameterValue | None] = {
            GRAPH_ID: graph_id,
            CONTROL_SOCKET: control_socket,
            THIS_HOST: this_host,
        }
        nodes = {}
        for name, node in self.nodes.items():
            own = {GRAPH_ID: graph_id} if node.command is None else {}
            nodes[name] = _fill_node(node.model_copy(update={"parameters": node.parameters | own}), given)
        return self.model_copy(update={"nodes": nodes})


def _fill_node(node: NodeSpec, values: Mapping[str, ParameterValue | None]) -> NodeSpec:
    parameters = {key: _fill(value, values) for key, value in node.parameters.items()}
    remappings = {key: str(_fill(value, values)) for key, value in node.remappings.items()}
    kept = {key: value for key, value in parameters.items() if value is not None}
    nice = 0 if values.get(LOCKSTEP) else node.nice  # there all wait for it
    return node.model_copy(update={"parameters": kept, "remappings": remappings, "nice": nice})


def _fill(value: ParameterValue, values: Mapping[str, ParameterValue | None]) -> ParameterValue | None:
    if not isinstance(value, str):
        return value
    whole = REFERENCE.fullmatch(value)
    if whole:
        return values.get(whole.group(1), value)
    return REFERENCE.sub(lambda match: str(values.get(match.group(1), match.group(0))), value)


def _has_other_cameras(chosen: object) -> bool:
    """Whether a value of `cameras` names another source than the cell's. What cannot be read is refused elsewhere."""
    try:
        sources = [dict(one).get("source", CELL_SOURCE) for one in read_mapping(chosen or "", "cameras").values()]
    except (ConfigError, TypeError, ValueError):
        return False
    return any(source != CELL_SOURCE for source in sources)


def _as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def suggest(name: str, known: Iterable[str]) -> str:
    """'; did you mean ...' for a mistyped name, or the list of known ones."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"


def parse_values(words: Iterable[str]) -> dict[str, Value]:
    """`name:=value` words as a mapping.

    Raises:
        ConfigError: a word is of another form, or a name is given twice.
    """
    values: dict[str, Value] = {}
    for word in words:
        name, separator, value = word.partition(":=")
        if not separator or not name:
            raise ConfigError(f"{word!r}: give arguments as NAME:=VALUE, e.g. seed:=3")
        if name in values:
            raise ConfigError(f"{name} is given twice; give it once")
        values[name] = value
    return values


def packaged_graphs() -> list[str]:
    """Names of the graphs that come with inril."""
    folder = resources.files("inril_bringup") / "graphs"
    names = [Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".yaml")]
    return sorted(name for name in names if name != "nodes")


def catalogue_nodes() -> list[str]:
    """Names of all nodes that packaged graphs are made of."""
    return sorted(_read(_folder() / "nodes.yaml", Catalogue).nodes)


def joining_nodes() -> set[str]:
    """Names of the nodes of packaged graphs that join one which runs already, maybe on another host."""
    graphs = (_read(_folder() / f"{name}.yaml", GraphFile) for name in packaged_graphs())
    known = _read(_folder() / "nodes.yaml", Catalogue).nodes
    return {
        name
        for graph in graphs
        if not any(known[node].lifecycle or known[node].manages for node in graph.nodes)
        for name in graph.nodes
    }


def _folder() -> Path:
    return Path(str(resources.files("inril_bringup") / "graphs"))


def load_graph(name_or_path: str | Path) -> Graph:
    """Read a graph by the name of a packaged one or by the path of a YAML file.

    Raises:
        ConfigError: missing, unreadable or not a valid graph; names file, field and fix.
    """
    folder = _folder()
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        if str(name_or_path) not in packaged_graphs():
            known = suggest(str(name_or_path), packaged_graphs())
            raise ConfigError(f"graph {str(name_or_path)!r}: neither a packaged graph nor a .yaml file{known}")
        path = folder / f"{name_or_path}.yaml"
    catalogue = _read(folder / "nodes.yaml", Catalogue)
    return _assemble(path, _read(path, GraphFile), catalogue)


def _read(path: Path, model: type[_M]) -> _M:
    try:
        content: Any = read_yaml(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML ({error}); fix the file or its path") from error
    try:
        # Lax about tuples only: YAML has lists; numbers and texts stay what they were written as.
        return model.model_validate_json(_to_json(content, path))
    except ValidationError as error:
        raise ConfigError(f"{path}:\n{describe(error)}") from error


def _to_json(content: Any, path: Path) -> str:
    try:
        return json.dumps(content, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{path}: {error}; only text, numbers, true, false, lists and mappings are allowed"
        ) from error


def _assemble(path: Path, file: GraphFile, catalogue: Catalogue) -> Graph:
    known_nodes = catalogue.nodes | file.define.nodes
    known_arguments = catalogue.arguments | file.define.arguments
    nodes: dict[str, NodeSpec] = {}
    for name in file.nodes:
        if name in nodes:
            raise ConfigError(f"{path}: nodes: {name!r} stands there twice; remove one")
        if name not in known_nodes:
            raise ConfigError(f"{path}: nodes: no node {name!r}{suggest(name, known_nodes)}")
        own = file.parameters.get(name, {})
        nodes[name] = known_nodes[name].model_copy(update={"parameters": known_nodes[name].parameters | own})
    for name in file.parameters:
        if name not in nodes:
            raise ConfigError(f"{path}: parameters: no node {name!r} in this graph{suggest(name, nodes)}")
    used = set(ALWAYS).union(*(node.references() for node in nodes.values()))
    for name in used:
        if name not in known_arguments:
            raise ConfigError(f"{path}: no argument {name!r} for ${{{name}}}{suggest(name, known_arguments)}")
    arguments = {name: argument for name, argument in known_arguments.items() if name in used}
    for needed in {need for node in nodes.values() for need in node.needs}:
        if arguments[needed].default is None:
            arguments[needed] = arguments[needed].model_copy(update={"required": True})
    if not any(node.simulated for node in nodes.values()):
        for name, argument in arguments.items():
            if argument.simulation_only:
                arguments[name] = argument.model_copy(update={"default": argument.elsewhere})
    for name, default in file.defaults.items():
        if name not in arguments:
            raise ConfigError(f"{path}: defaults: no argument {name!r} in this graph{suggest(name, arguments)}")
        arguments[name] = arguments[name].model_copy(update={"default": default, "required": False})
        try:
            arguments[name].convert(default)
        except ValueError:
            raise ConfigError(f"{path}: defaults.{name} = {default!r}; give {arguments[name].allowed}") from None
    graph = Graph(
        name=path.stem,
        description=file.description,
        source=str(path),
        arguments=arguments,
        nodes=nodes,
        simulation_only={name: argument for name, argument in known_arguments.items() if argument.simulation_only},
    )
    _check_roles(graph)
    return graph


def _check_roles(graph: Graph) -> None:
    """Refuse a graph that nobody activates, and references that cannot be filled."""
    managers = [name for name, node in graph.nodes.items() if node.manages]
    if len(managers) > 1:
        raise ConfigError(f"{graph.source}: {managers} all say manages: true; one lifecycle_manager is enough")
    if graph.managed_nodes and not managers:
        raise ConfigError(f"{graph.source}: nobody activates {graph.managed_nodes}; add lifecycle_manager to nodes")
    for name, node in graph.nodes.items():
        truth = node.when == OTHER_CAMERAS or (node.when is not None and graph.arguments[node.when].type == "bool")
        if node.when is not None and (not truth or node.lifecycle):
            raise ConfigError(
                f"{graph.source}: nodes.{name}: when: {node.when}: must be a bool argument, of a node without lifecycle"
            )
        for key, value in [*node.parameters.items(), *node.remappings.items()]:
            if isinstance(value, str):
                _check_references(graph, f"{graph.source}: nodes.{name}: {key}: {value!r}", value)


def _check_references(graph: Graph, where: str, value: str) -> None:
    if "$" in REFERENCE.sub("", value):
        raise ConfigError(f"{where}: a $ that is not ${{argument_name}}; fix the reference")
    if REFERENCE.fullmatch(value):
        return
    for name in REFERENCE.findall(value):
        if name in NOT_ARGUMENTS:
            continue
        argument = graph.arguments.get(name)
        if argument is None or (argument.default is None and not argument.required):
            raise ConfigError(f"{where}: {name} may be unset; give it a default or let ${{{name}}} stand alone")
