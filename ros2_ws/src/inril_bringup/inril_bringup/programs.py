"""From a node of a graph to the process that runs it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from inril_bringup.graph import NodeSpec, ParameterValue, ResolvedGraph, Respawn

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Program:
    """A process to supervise; the fields mean what they mean in `NodeSpec`."""

    name: str
    command: tuple[str, ...]
    required: bool = True
    ends_graph: bool = False
    manages: bool = False
    nice: int = 0
    respawn: Respawn | None = None


class _Quoted(str):
    """A text that stays a text for the ROS parameter parser, also where it looks like a number."""


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(_Quoted, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))


def parameter_file(name: str, parameters: Mapping[str, ParameterValue], folder: Path) -> Path:
    """Write the parameters of a node as a ROS parameter file and return its path.

    A file keeps the types; `-p name:=1` on a command line would not.
    """

    def quoted(value: ParameterValue) -> ParameterValue | list[_Quoted]:
        if isinstance(value, list):
            return [_Quoted(item) for item in value]
        return _Quoted(value) if isinstance(value, str) else value

    content = {name: {"ros__parameters": {key: quoted(value) for key, value in parameters.items()}}}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text(yaml.dump(content, Dumper=_Dumper))
    return path


def node_command(name: str, node: NodeSpec, parameters: Path | None) -> tuple[str, ...]:
    """The command that runs a node with this interpreter."""
    command = [
        sys.executable,
        "-m",
        f"{node.package}.{node.executable}",
        "--ros-args",
        "-r",
        f"__node:={name}",
    ]
    for topic, other in node.remappings.items():
        command += ["-r", f"{topic}:={other}"]
    if parameters is not None:
        command += ["--params-file", str(parameters)]
    return tuple(command)


def programs_of(graph: ResolvedGraph) -> list[Program]:
    """The processes of a graph in starting order; writes their parameters below run_dir/params."""
    programs = []
    for name, node in graph.nodes.items():
        parameters = parameter_file(name, node.parameters, graph.run_dir / "params") if node.parameters else None
        programs.append(
            Program(
                name=name,
                command=node_command(name, node, parameters),
                required=node.required,
                ends_graph=node.ends_graph,
                manages=node.manages,
                nice=node.nice,
                respawn=node.respawn,
            )
        )
    return programs


def die_with_parent(nice: int = 0, number: signal.Signals = signal.SIGKILL) -> Callable[[], None]:
    """What a child does between fork and exec: be sent ``number`` when its parent dies, and be nice."""
    parent = os.getpid()

    def prepare() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:  # the parent died before prctl could notice it
            os._exit(1)
        if nice:
            os.nice(nice)

    return prepare
