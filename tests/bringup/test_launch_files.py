"""The launch files against the graph descriptions, through a recording stand-in for `launch`."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from inril_bringup.graph import load_graph, packaged_graphs
from inril_bringup.network import LOOPBACK
from inril_bringup.place import place_of
from inril_bringup.programs import programs_of

from inril_core.errors import ConfigError
from tests.domains import own_domain

ROOT = Path(__file__).parents[2]


class Recorded:
    """Any class of launch: keeps its arguments."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        self.args, self.settings = args, settings


@pytest.fixture(scope="module")
def launch() -> Iterator[types.SimpleNamespace]:
    """Puts the stand-in in place of launch and launch_ros."""
    names = {
        "launch": ["LaunchContext", "LaunchDescription"],
        "launch.actions": ["DeclareLaunchArgument", "LogInfo", "OpaqueFunction", "Shutdown"],
        "launch.events": [],
        "launch.events.process": ["ProcessExited"],
        "launch_ros": [],
        "launch_ros.actions": ["Node"],
    }
    classes: dict[str, type] = {}
    with pytest.MonkeyPatch.context() as patch:
        for module_name, class_names in names.items():
            module = types.ModuleType(module_name)
            for name in class_names:
                classes[name] = type(name, (Recorded,), {})
                setattr(module, name, classes[name])
            patch.setitem(sys.modules, module_name, module)
        from inril_bringup import describe as description
        from inril_bringup import launching, starting

        asked = launching._describe  # in a process of its own; here in this one, and without demonstrations to look at

        def described(graph: str, *words: str) -> Any:
            if words == ("--arguments",):
                return json.loads(json.dumps(description.describe_arguments(graph)))
            try:
                return json.loads(json.dumps(description.describe_nodes(graph, words)))
            except ConfigError as error:
                raise RuntimeError(str(error)) from error

        patch.setattr(launching, "_describe", described)
        patch.setattr(starting, "check", lambda graph: None)
        patch.setattr(starting, "refuse_neighbours", lambda graph, place: None)
        with own_domain() as domain:
            patch.setenv("ROS_DOMAIN_ID", str(domain))
            yield types.SimpleNamespace(**classes, asked=asked, locks=launching._held_locks)
    sys.modules.pop("inril_bringup.launching", None)


@pytest.fixture(autouse=True)
def nothing_held(launch: types.SimpleNamespace) -> Iterator[None]:
    """Each test starts with a free place, as in a process of its own."""
    yield
    while launch.locks:
        launch.locks.pop().close()


def describe(graph: str) -> tuple[dict[str, Any], Any]:
    """Declared arguments by name, and the action that starts the nodes."""
    made = runpy.run_path(str(ROOT / "launch" / f"{graph}.launch.py"))["generate_launch_description"]()
    *declared, start = made.args[0]
    return {argument.args[0]: argument.settings for argument in declared}, start


def start(action: Any, configurations: dict[str, str], argv: list[str] | None = None) -> list[Any]:
    context = types.SimpleNamespace(launch_configurations=configurations, argv=argv or [])
    actions: list[Any] = action.settings["function"](context, *action.settings["args"])
    return actions


def required(name: str, folder: Path) -> dict[str, str]:
    return {key: str(folder) for key, argument in load_graph(name).arguments.items() if argument.required}


def filled(declared: dict[str, Any], **given: str) -> dict[str, str]:
    return {name: settings["default_value"] for name, settings in declared.items()} | given


@pytest.mark.parametrize("name", packaged_graphs())
def test_every_packaged_graph_has_a_launch_file_with_its_nodes(
    launch: types.SimpleNamespace, name: str, tmp_path: Path
) -> None:
    """Pins two descriptions of one graph that drift apart."""
    declared, action = describe(name)
    graph = load_graph(name)
    assert list(declared) == list(graph.arguments)
    assert all(settings["description"] for settings in declared.values())
    assert [argument for argument, settings in declared.items() if settings["default_value"] is None] == [
        name for name, argument in graph.arguments.items() if argument.required
    ]

    given = {**required(name, tmp_path), "namespace": "left"}
    given |= {"seed": "7"} if "seed" in graph.arguments else {}
    nodes = start(action, filled(declared, **given), [f"{key}:={value}" for key, value in given.items()])
    resolved = graph.resolve(given)
    assert [node.settings["name"] for node in nodes] == list(resolved.nodes)
    for node in nodes:
        expected = resolved.nodes[node.settings["name"]]
        assert node.settings["arguments"] == ["-m", f"{expected.package}.{expected.executable}"]
        (parameters,) = node.settings["parameters"]
        assert parameters.pop("graph_id").startswith("test-every")
        assert parameters.pop("control_socket", "/tmp").startswith("/tmp")
        assert parameters.pop("blob_host", LOOPBACK) == LOOPBACK
        assert parameters == {k: v for k, v in expected.parameters.items() if k not in ("control_socket", "blob_host")}
        assert node.settings["namespace"] == "left"
        assert dict(node.settings["remappings"]) == {"/clock": "/left/clock", **expected.remappings}
        assert node.settings["respawn"] == (expected.respawn is not None)
        assert node.settings.get("prefix", "") == (f"nice -n {expected.nice}" if expected.nice else "")


@pytest.mark.parametrize("name", packaged_graphs())
def test_the_supervisor_starts_the_same_with_the_same_parameters(
    launch: types.SimpleNamespace, name: str, tmp_path: Path
) -> None:
    """Pins a parameter that has another value or type under `inril up` than under `ros2 launch`."""
    declared, action = describe(name)
    given = required(name, tmp_path)
    nodes = start(action, filled(declared, **given))
    graph_id = nodes[0].settings["parameters"][0]["graph_id"]
    place = place_of(os.environ)
    graph = load_graph(name).resolve(given).started_as(graph_id, str(place.socket))
    for node, program in zip(nodes, programs_of(graph), strict=True):
        settings = node.settings
        assert program.name == settings["name"]
        assert program.command[:3] == (settings["executable"], *settings["arguments"])
        written = yaml.safe_load(Path(program.command[program.command.index("--params-file") + 1]).read_text())
        assert written == {f"/**/{program.name}": {"ros__parameters": settings["parameters"][0]}}


def test_slips_are_refused(launch: types.SimpleNamespace, tmp_path: Path) -> None:
    """Pins `real_time_facter:=1`, which launch itself takes in silence, and values of another type."""
    declared, action = describe("finetune")
    good = filled(declared, **required("finetune", tmp_path))
    with pytest.raises(RuntimeError, match="did you mean 'real_time_factor'"):
        start(action, good, ["real_time_facter:=1"])
    with pytest.raises(RuntimeError, match="seed = 'one'; give an integer"):
        start(action, good | {"seed": "one"})
    remark = start(action, good, ["rviz:=true"])[0]
    assert isinstance(remark, launch.LogInfo) and "rviz" in remark.settings["msg"]


def test_the_checks_of_inril_up_come_first(launch: types.SimpleNamespace, tmp_path: Path) -> None:
    """Pins ten nodes that start with a plan that each of them refuses."""
    for wrong, told in (("plan:=trian:5:steps", "trian"), ("demos:=nope", "demos = ")):
        words = [wrong, f"run_dir:={tmp_path / 'run'}", f"initial_weights:={tmp_path}"]
        words += [] if wrong.startswith("demos") else [f"demos:={tmp_path}"]
        with pytest.raises(RuntimeError, match=told):
            launch.asked("finetune", *words)
    assert not (tmp_path / "run").exists()


def test_a_second_launch_in_the_same_place_is_refused(launch: types.SimpleNamespace, tmp_path: Path) -> None:
    """Pins two graphs that serve each other's requests."""
    declared, action = describe("collect_demos")
    start(action, filled(declared, run_dir=str(tmp_path / "A")))
    with pytest.raises(RuntimeError, match="graph A-.*namespace:="):
        start(action, filled(declared, run_dir=str(tmp_path / "B")))
    assert start(action, filled(declared, run_dir=str(tmp_path / "B"), namespace="left"))


def test_what_an_exit_means(launch: types.SimpleNamespace, tmp_path: Path) -> None:
    """Pins a launch that outlives the plan or a required node, or that ends with the learner."""
    declared, action = describe("finetune")
    nodes = {node.settings["name"]: node for node in start(action, filled(declared, **required("finetune", tmp_path)))}

    def exits(name: str, code: int) -> Any:
        return nodes[name].settings["on_exit"](types.SimpleNamespace(returncode=code), None)

    assert isinstance(exits("session_node", 0), launch.Shutdown)
    with pytest.raises(RuntimeError, match="as it is configured"):
        exits("arbiter_node", os.EX_CONFIG)
    with pytest.raises(RuntimeError, match="waited for a person and nobody came"):
        exits("session_node", 3)
    retries = nodes["sim_cell"].settings["respawn_max_retries"]
    assert [exits("sim_cell", 1) for _ in range(retries)] == [None] * retries
    with pytest.raises(RuntimeError, match="sim_cell is required and was lost"):
        exits("sim_cell", 1)
    assert [exits("learner_node", -9) for _ in range(200)] == [None] * 200


def test_launch_files_need_nothing_of_inril_s_interpreter() -> None:
    """Pins an import that a native Jazzy's interpreter does not have, such as pydantic 2."""
    code = f"""
import sys, types
sys.path[:0] = [{str(ROOT / "ros2_ws" / "src" / "inril_bringup")!r}]
names = "launch launch.actions launch.events launch.events.process launch_ros launch_ros.actions"
for name in names.split():
    module = sys.modules[name] = types.ModuleType(name)
    module.__getattr__ = lambda attribute: (lambda *args, **settings: (args, settings))
import runpy
print(runpy.run_path({str(ROOT / "launch" / "finetune.launch.py")!r})["generate_launch_description"]())
"""
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "run_dir" in done.stdout


def test_the_package_installs_the_launch_files() -> None:
    """Pins `ros2 launch inril_bringup finetune.launch.py` that finds nothing."""
    folder = ROOT / "ros2_ws" / "src" / "inril_bringup" / "launch"
    installed = sorted(path.name.removesuffix(".launch.py") for path in folder.glob("*.launch.py"))
    assert installed == packaged_graphs()
