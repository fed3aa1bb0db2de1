"""From a node of a graph to the process that runs it."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from inril_bringup.environment import caller_environment, child_environment, find_program
from inril_bringup.graph import ResolvedGraph
from inril_bringup.graph_schema import NodeSpec, ParameterValue, Respawn
from inril_core.errors import ConfigError

STOP_TIMEOUT_S = 40.0
"""For a graph to stop its nodes one after another."""
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
    environment: Mapping[str, str] | None = None
    """None: the supervisor's for its children."""


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

    content = {f"/**/{name}": {"ros__parameters": {key: quoted(value) for key, value in parameters.items()}}}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text(yaml.dump(content, Dumper=_Dumper))
    return path


def node_program(node: NodeSpec, environment: Mapping[str, str]) -> tuple[tuple[str, ...], dict[str, str] | None]:
    """The words that start a node, without its ROS arguments, and its environment (None: that of inril's own nodes).

    Raises:
        ConfigError: its program is not there.
    """
    if node.command is None:
        return (sys.executable, "-m", f"{node.package}.{node.executable}"), None
    inherited = node.environment == "inherit"
    own = caller_environment(environment) if inherited else child_environment(environment)
    try:
        return find_program(node.command, own), own
    except FileNotFoundError as error:
        hint = "" if inherited else "; a program of a sourced overlay also needs `environment: inherit`"
        raise ConfigError(
            f"command {list(node.command)}: {error}; source its workspace or give its path{hint}"
        ) from error


def ros_remappings(node: NodeSpec, namespace: str) -> dict[str, str]:
    """A node's remappings; each namespace with simulated time has a clock of its own."""
    return ({"/clock": f"/{namespace}/clock"} if namespace else {}) | node.remappings


def node_command(
    name: str, node: NodeSpec, parameters: Path | None, namespace: str = "", program: Sequence[str] = ()
) -> tuple[str, ...]:
    """The command that runs a node; without `program`, a module with this interpreter."""
    command = [*(program or (sys.executable, "-m", f"{node.package}.{node.executable}"))]
    # The supervisor keeps what a node prints: a second log, below a home that may be read-only, is not needed.
    command += ["--ros-args", "--disable-external-lib-logs", "-r", f"__node:={name}"]
    command += ["-r", f"__ns:=/{namespace}"] if namespace else []
    for topic, other in ros_remappings(node, namespace).items():
        command += ["-r", f"{topic}:={other}"]
    if parameters is not None:
        command += ["--params-file", str(parameters)]
    return tuple(command)


def programs_of(graph: ResolvedGraph) -> list[Program]:
    """The processes of a graph in starting order; writes their parameters below run_dir/params."""
    programs = []
    for name, node in graph.nodes.items():
        parameters = parameter_file(name, node.parameters, graph.run_dir / "params") if node.parameters else None
        words, environment = node_program(node, os.environ)
        programs.append(
            Program(
                name=name,
                command=node_command(name, node, parameters, graph.namespace, words),
                environment=environment,
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


def interrupt(process: subprocess.Popen[bytes]) -> None:
    """Ctrl-C for a graph that runs, and the end of one that does not obey."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=STOP_TIMEOUT_S)
