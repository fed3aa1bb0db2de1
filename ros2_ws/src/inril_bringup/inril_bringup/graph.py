"""Graphs as data: which nodes, with which parameters, and what happens when one of them dies.

`graphs/nodes.yaml` describes every node and argument once; a graph file (`graphs/finetune.yaml`) picks
nodes in starting order. The supervisor and the launch files are made from the same `Graph`, so they
cannot drift apart.

Over 400 lines: the schema, what an argument may be, and how references between files are resolved check each other.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from inril_bringup.network import LOOPBACK
from inril_core.contract.load import describe
from inril_core.errors import ConfigError
from inril_core.hardware.cameras.base import CELL_SOURCE
from inril_core.settings import read_mapping
from inril_core.yaml_text import read_yaml

Value = bool | int | float | str
ParameterValue = Value | list[str]

MANAGED_NODES = "managed_nodes"
"""`${managed_nodes}` stands for the names of the graph's lifecycle nodes, in starting order."""
SIMULATED_CELL = "simulated_cell"
"""`${simulated_cell}`: whether a node of the graph says `simulated: true`."""
SIMULATED_TIME = "simulated_time"
"""`${simulated_time}`: stamps are those of the cell's /clock: it is simulated, and not at real time."""
OTHER_CAMERAS = "other_cameras"
"""`when: other_cameras`: some camera is no part of the simulated cell, so camera_node reads it."""
GRAPH_ID = "graph_id"
"""`${graph_id}`: run id and launch; every node of inril's own gets it as a parameter of that name."""
CONTROL_SOCKET = "control_socket"
"""`${control_socket}`: where the arbiter listens for the people at this machine."""
THIS_HOST = "this_host"
"""`${this_host}`: address that other hosts reach this one at (`network.py`)."""
_GIVEN_AT_START = (GRAPH_ID, CONTROL_SOCKET, THIS_HOST)
_NOT_ARGUMENTS = {MANAGED_NODES, SIMULATED_CELL, SIMULATED_TIME, OTHER_CAMERAS, *_GIVEN_AT_START}
ALWAYS = ("run_dir", "run_id", "namespace", "calibration", "without_calibration")
"""Arguments of every graph, whether or not a node refers to them."""

_REFERENCE = re.compile(r"\$\{([a-z][a-z0-9_]*)\}")
_NAME = r"^[a-z][a-z0-9_]*$"
_M = TypeVar("_M", bound=BaseModel)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Respawn(_Frozen):
    """Restart of a node that died, with exponential back-off."""

    initial_s: float = Field(default=0.5, gt=0, le=60)
    """The n-th restart in a row waits min(initial_s * factor**n, max_s)."""
    factor: float = Field(default=2.0, ge=1, le=10)
    max_s: float = Field(default=10.0, gt=0, le=600)
    max_restarts: int = Field(default=8, ge=1, le=1000)
    """After so many in a row the node is given up."""
    stable_s: float = Field(default=30.0, gt=0, le=3600)
    """A node that lived for so long starts a new row."""


class Argument(_Frozen):
    """A fact of a deployment, given as `name:=value`."""

    type: Literal["str", "path", "int", "float", "bool"]
    description: str = Field(min_length=1)
    default: Value | None = None
    """None: not set, and parameters that are `${name}` are left to the node's own default, unless `required`."""
    required: bool = False
    choices: tuple[str, ...] | None = None
    low: float | None = None
    high: float | None = None
    pattern: str | None = None
    """Regular expression that the whole text must match."""
    simulation_only: bool = False
    """In a graph without a simulated cell it, and any parameter of its name, can only be `elsewhere`."""
    elsewhere: Value | None = None

    @property
    def allowed(self) -> str:
        """What a value may be, for messages and help."""
        if self.choices is not None:
            return f"one of {list(self.choices)}"
        words = {
            "bool": "true or false",
            "str": "text",
            "path": "a path",
            "int": "an integer",
            "float": "a number",
        }
        words["str"] += "" if self.pattern is None else f" that matches {self.pattern}"
        low = "" if self.low is None else f", at least {self.low:g}"
        high = "" if self.high is None else f", at most {self.high:g}"
        return words[self.type] + low + high

    def convert(self, value: Value) -> Value:
        """Give a value, or the text a user typed, its type.

        Raises:
            ValueError: it is not `allowed`.
        """
        typed = self._typed(value)
        if self.choices is not None and typed not in self.choices:
            raise ValueError
        if self.pattern is not None and not re.fullmatch(self.pattern, str(typed)):
            raise ValueError
        if isinstance(typed, int | float) and not isinstance(typed, bool):
            if not math.isfinite(typed):
                raise ValueError
            if (self.low is not None and typed < self.low) or (self.high is not None and typed > self.high):
                raise ValueError
        return typed

    def _typed(self, value: Value) -> Value:
        if self.type == "bool":
            if isinstance(value, bool) or value in ("true", "false"):
                return value is True or value == "true"
            raise ValueError
        if self.type in ("int", "float"):
            if isinstance(value, bool) or (self.type == "int" and isinstance(value, float)):
                raise ValueError
            return int(value) if self.type == "int" else float(value)
        if not isinstance(value, str) or not value:
            raise ValueError
        return str(Path(value).expanduser().absolute()) if self.type == "path" else value


class NodeSpec(_Frozen):
    """One node of a graph: a Python module of inril's environment, or any executable that takes `--ros-args`."""

    package: str | None = Field(default=None, pattern=_NAME)
    executable: str | None = Field(default=None, pattern=_NAME)
    """With `package`: the process is `python -m PACKAGE.EXECUTABLE` in inril's own interpreter."""
    command: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Instead of package and executable: a program with its arguments, or `[ros2, run, PACKAGE, EXECUTABLE]`."""
    environment: Literal["inril", "inherit"] = "inril"
    """inril: without other ROS installations and overlays. inherit: as the shell that started the graph has it."""
    simulated: bool = False
    """It simulates the cell; see `Argument.simulation_only`."""
    lifecycle: bool
    """The lifecycle_manager configures and activates it."""
    required: bool
    """When it is given up, the graph ends with a non-zero exit code."""
    ends_graph: bool = False
    """Its exit code 0 means that the work is done: the graph stops with exit code 0."""
    manages: bool = False
    """It is the lifecycle_manager: asked first to stop, and waited for."""
    nice: int = Field(default=0, ge=0, le=19)
    respawn: Respawn | None = None
    """None: not started again."""
    parameters: dict[str, ParameterValue] = Field(default_factory=dict)
    remappings: dict[str, str] = Field(default_factory=dict)
    when: str | None = Field(default=None, pattern=_NAME)
    """A bool argument, or `other_cameras`: the node is part of the graph only where it is true. None: always."""
    needs: tuple[str, ...] = ()
    """Arguments without which it cannot start: required in every graph that has this node."""

    @model_validator(mode="after")
    def _one_program(self) -> NodeSpec:
        module = self.package is not None and self.executable is not None
        if module == (self.command is not None) or (self.package is None) != (self.executable is None):
            raise ValueError("give either package and executable, or command")
        if self.environment == "inherit" and self.command is None:
            raise ValueError("environment: inherit needs command: a module runs in inril's own environment")
        return self

    def references(self) -> set[str]:
        """Names of the arguments that it stands on: parameters, remappings and needs."""
        texts = [value for value in [*self.parameters.values(), *self.remappings.values()] if isinstance(value, str)]
        named = {name for text in texts for name in _REFERENCE.findall(text)}.union(self.needs)
        return named.union([self.when] if self.when else []) - _NOT_ARGUMENTS


class Catalogue(_Frozen):
    """Nodes and arguments that graphs can pick from."""

    arguments: dict[str, Argument] = Field(default_factory=dict)
    nodes: dict[str, NodeSpec] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Catalogue:
        for name, argument in self.arguments.items():
            if argument.default is not None:
                try:
                    argument.convert(argument.default)
                except ValueError:
                    raise ValueError(
                        f"arguments.{name}.default = {argument.default!r}: not {argument.allowed}"
                    ) from None
        return self


class _GraphFile(_Frozen):
    """A graph file as written."""

    description: str = Field(min_length=1)
    nodes: list[str] = Field(min_length=1)
    defaults: dict[str, Value] = Field(default_factory=dict)
    """Defaults of arguments in this graph."""
    parameters: dict[str, dict[str, ParameterValue]] = Field(default_factory=dict)
    """Node name to parameters that differ in this graph."""
    define: Catalogue = Field(default_factory=Catalogue)
    """Nodes and arguments of one's own, e.g. the driver of a real arm."""


class Graph(_Frozen):
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
            **{name: f"${{{name}}}" for name in _GIVEN_AT_START},
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


class ResolvedGraph(_Frozen):
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
    return node.model_copy(update={"parameters": kept, "remappings": remappings})


def _fill(value: ParameterValue, values: Mapping[str, ParameterValue | None]) -> ParameterValue | None:
    if not isinstance(value, str):
        return value
    whole = _REFERENCE.fullmatch(value)
    if whole:
        return values.get(whole.group(1), value)
    return _REFERENCE.sub(lambda match: str(values.get(match.group(1), match.group(0))), value)


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
    graphs = (_read(_folder() / f"{name}.yaml", _GraphFile) for name in packaged_graphs())
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
    return _assemble(path, _read(path, _GraphFile), catalogue)


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


def _assemble(path: Path, file: _GraphFile, catalogue: Catalogue) -> Graph:
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
    if "$" in _REFERENCE.sub("", value):
        raise ConfigError(f"{where}: a $ that is not ${{argument_name}}; fix the reference")
    if _REFERENCE.fullmatch(value):
        return
    for name in _REFERENCE.findall(value):
        if name in _NOT_ARGUMENTS:
            continue
        argument = graph.arguments.get(name)
        if argument is None or (argument.default is None and not argument.required):
            raise ConfigError(f"{where}: {name} may be unset; give it a default or let ${{{name}}} stand alone")
