"""The same graph descriptions as actions of the official `launch` and `launch_ros`.

Needs a ROS 2 with its launch tools (the project `launch` on PyPI is another one). They may run under any
interpreter, such as a native Jazzy's: beside them this module imports only the standard library, asks
inril's own interpreter for the description, and runs the nodes with that.
"""

from __future__ import annotations

import difflib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction, Shutdown
from launch.events.process import ProcessExited
from launch_ros.actions import Node

from inril_bringup.environment import CALLER, child_environment, remembered_paths
from inril_bringup.place import Place, hold_place
from inril_bringup.run_dir import lock_run_dir
from launch import LaunchContext, LaunchDescription

DESCRIBE_TIMEOUT_S = 120.0
NOBODY_CAME = 3
"""As inril_core.session.states.ExitCode, which this interpreter may not be able to import."""

_held_locks: list[Any] = []
"""The place and the run folder, held until this process ends."""


def generate_launch_description(graph: str) -> LaunchDescription:
    """The launch description of a packaged graph.

    Arguments are checked as `inril up` checks them. launch waits the same time before every restart
    (`initial_s`), where the supervisor backs off; the number of restarts is bounded in both.

    Raises:
        RuntimeError: the description cannot be had; the message says why and the fix.
    """
    arguments = _describe(graph, "--arguments")
    declared = [
        DeclareLaunchArgument(name, default_value=argument["default"], description=argument["description"])
        for name, argument in arguments.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=_start, args=[graph, list(arguments)])])


def inril_python() -> Path:
    """The interpreter of inril's virtual environment: $INRIL_PYTHON, or found from where this file lies."""
    given = os.environ.get("INRIL_PYTHON")
    if given:
        return Path(given)
    for folder in Path(__file__).resolve().parents:
        for prefix in (folder, folder / ".venv"):
            if (prefix / "pyvenv.cfg").exists():
                return prefix / "bin" / "python"
    return Path(sys.executable)


def _environment() -> dict[str, str]:
    return child_environment(os.environ, inril_python().parents[1])


def _describe(graph: str, *words: str) -> Any:
    command = [str(inril_python()), "-m", "inril_bringup.describe", graph, *words]
    try:
        done = subprocess.run(
            command,
            env=_environment() | {CALLER: remembered_paths(os.environ)},
            capture_output=True,
            text=True,
            timeout=DESCRIBE_TIMEOUT_S,
            check=False,
        )
    except OSError as error:
        raise RuntimeError(f"{command[0]}: {error}; run `make setup`, or set INRIL_PYTHON") from error
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip() or f"{' '.join(command)} ended with {done.returncode}")
    return json.loads(done.stdout)


def _start(context: LaunchContext, graph: str, names: list[str]) -> list[Any]:
    remarks = _check_names(graph, names, list(getattr(context, "argv", None) or []))
    texts = {name: context.launch_configurations.get(name, "") for name in names}
    description = _describe(graph, *(f"{name}:={text}" for name, text in texts.items() if text))
    if description["place"] is not None:
        _held_locks.append(hold_place(Place(**description["place"]), description["facts"]))
    _held_locks.append(lock_run_dir(Path(description["run_dir"])))
    return [*remarks, *(node_action(name, node) for name, node in description["nodes"].items())]


def _check_names(graph: str, names: list[str], argv: list[str]) -> list[LogInfo]:
    """launch takes any `name:=value` in silence: refuse what looks like a slip, mention the rest."""
    remarks = []
    for name in (word.split(":=")[0] for word in argv if ":=" in word):
        if name in names:
            continue
        close = difflib.get_close_matches(name, names, n=1)
        if close:
            raise RuntimeError(f"graph {graph}: no argument {name!r}; did you mean {close[0]!r}?")
        remarks.append(LogInfo(msg=f"graph {graph}: {name}:= is none of its arguments ({', '.join(names)}); ignored"))
    return remarks


def node_action(name: str, node: dict[str, Any]) -> Node:
    """One node as a launch action; `node` has the fields that `inril_bringup.describe` gives it."""
    settings: dict[str, Any] = {}
    if node["respawn"] is not None:
        settings["respawn"] = True
        settings["respawn_delay"] = node["respawn"]["initial_s"]
        settings["respawn_max_retries"] = node["respawn"]["max_restarts"]
    if node["nice"]:
        settings["prefix"] = f"nice -n {node['nice']}"
    environment = node["environment"] or _environment()
    changed = {key: value for key, value in environment.items() if os.environ.get(key) != value}
    return Node(
        executable=node["program"],
        arguments=node["words"],
        name=name,
        namespace=node["namespace"] or None,
        exec_name=name,
        parameters=[node["parameters"]] if node["parameters"] else None,
        remappings=list(node["remappings"].items()),
        output="both",
        additional_env=changed,
        on_exit=on_exit(name, node),
        **settings,
    )


def on_exit(name: str, node: dict[str, Any]) -> Callable[[ProcessExited, LaunchContext], Shutdown | None]:
    """End the launch when a node has finished the graph's work, or when a required one is lost."""
    restarts_left = node["respawn"]["max_restarts"] if node["respawn"] is not None else 0

    def react(event: ProcessExited, context: LaunchContext) -> Shutdown | None:
        nonlocal restarts_left
        if node["ends_graph"] and event.returncode == 0:
            return Shutdown(reason=f"{name} has finished")
        if node["ends_graph"] and event.returncode == NOBODY_CAME:
            raise RuntimeError(f"{name} waited for a person and nobody came; its last lines say what for")
        if event.returncode == os.EX_CONFIG and node["required"]:
            raise RuntimeError(f"{name} cannot work as it is configured; its last lines say why")
        restarts_left -= 1
        if restarts_left < 0 and node["required"]:
            # Not a Shutdown: launch stops everything in both cases, but only an error fails `ros2 launch`.
            raise RuntimeError(f"{name} is required and was lost (exit code {event.returncode})")
        return None

    return react
