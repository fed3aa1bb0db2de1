"""What graph files are made of: nodes, their parameters and restarts, and the arguments that they refer to."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Value = bool | int | float | str
ParameterValue = Value | list[str]

MANAGED_NODES = "managed_nodes"
"""`${managed_nodes}` stands for the names of the graph's lifecycle nodes, in starting order."""
SIMULATED_CELL = "simulated_cell"
"""`${simulated_cell}`: whether a node of the graph says `simulated: true`."""
SIMULATED_TIME = "simulated_time"
"""`${simulated_time}`: stamps are those of the cell's /clock: it is simulated, and not at real time."""
LOCKSTEP = "lockstep"
"""`${lockstep}`: the cell is simulated, and waits for every tick and between episodes for the learner."""
OTHER_CAMERAS = "other_cameras"
"""`when: other_cameras`: some camera is no part of the simulated cell, so camera_node reads it."""
GRAPH_ID = "graph_id"
"""`${graph_id}`: run id and launch; every node of inril's own gets it as a parameter of that name."""
CONTROL_SOCKET = "control_socket"
"""`${control_socket}`: where the arbiter listens for the people at this machine."""
THIS_HOST = "this_host"
"""`${this_host}`: address that other hosts reach this one at (`network.py`)."""
GIVEN_AT_START = (GRAPH_ID, CONTROL_SOCKET, THIS_HOST)
"""Filled in by the launcher."""
NOT_ARGUMENTS = {MANAGED_NODES, SIMULATED_CELL, SIMULATED_TIME, LOCKSTEP, OTHER_CAMERAS, *GIVEN_AT_START}
"""References that no user sets."""
ALWAYS = ("run_dir", "run_id", "namespace", "calibration", "without_calibration", "without_teleop_check")
"""Arguments of every graph, whether or not a node refers to them."""

REFERENCE = re.compile(r"\$\{([a-z][a-z0-9_]*)\}")
"""`${name}` in a parameter."""
_NAME = r"^[a-z][a-z0-9_]*$"


class Frozen(BaseModel):
    """Nothing is converted, and what is not known is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Respawn(Frozen):
    """Restart of a node that died, with exponential back-off."""

    initial_s: float = Field(default=0.5, gt=0, le=60)
    """The n-th restart in a row waits min(initial_s * factor**n, max_s)."""
    factor: float = Field(default=2.0, ge=1, le=10)
    max_s: float = Field(default=10.0, gt=0, le=600)
    max_restarts: int = Field(default=8, ge=1, le=1000)
    """After so many in a row the node is given up."""
    stable_s: float = Field(default=30.0, gt=0, le=3600)
    """A node that lived for so long starts a new row."""


class Argument(Frozen):
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


class NodeSpec(Frozen):
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
        named = {name for text in texts for name in REFERENCE.findall(text)}.union(self.needs)
        return named.union([self.when] if self.when else []) - NOT_ARGUMENTS


class Catalogue(Frozen):
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


class GraphFile(Frozen):
    """A graph file as written."""

    description: str = Field(min_length=1)
    nodes: list[str] = Field(min_length=1)
    defaults: dict[str, Value] = Field(default_factory=dict)
    """Defaults of arguments in this graph."""
    parameters: dict[str, dict[str, ParameterValue]] = Field(default_factory=dict)
    """Node name to parameters that differ in this graph."""
    define: Catalogue = Field(default_factory=Catalogue)
    """Nodes and arguments of one's own, e.g. the driver of a real arm."""
