"""Graph descriptions: what is refused, and with which words."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from inril_bringup.graph import load_graph, packaged_graphs
from inril_bringup.graph_schema import Argument

from inril_core.errors import ConfigError
from inril_core.finetune import DEFAULT_PRESET

COMMAND: dict[str, Any] = {
    "command": ["ros2", "run", "my_robot", "driver"],
    "environment": "inherit",
    "lifecycle": False,
    "required": True,
    "parameters": {"id": "${graph_id}"},
}
NODE: dict[str, Any] = {"package": "my_robot", "executable": "driver", "lifecycle": False, "required": True}


def write(folder: Path, **content: Any) -> Path:
    path = folder / "mine.yaml"
    path.write_text(yaml.dump({"description": "mine", "nodes": ["robot"]} | content))
    return path


def defining(**settings: Any) -> dict[str, Any]:
    return {"define": {"nodes": {"robot": NODE | settings}}}


@pytest.mark.parametrize("name", packaged_graphs())
def test_packaged_graphs_are_whole(name: str) -> None:
    """Pins a packaged graph that cannot be started, or that nobody ends."""
    graph = load_graph(name)
    resolved = graph.resolve({name: "run" for name, argument in graph.arguments.items() if argument.required})
    assert resolved.run_dir.is_absolute()
    if not resolved.joins:
        assert resolved.nodes["lifecycle_manager"].parameters["managed_nodes"] == graph.managed_nodes
        assert [node for node, spec in graph.nodes.items() if spec.ends_graph] == [
            "capture_node" if name == "calibrate" else "session_node"
        ]
    assert all(spec.respawn is not None for spec in graph.nodes.values())


@pytest.mark.parametrize(("factor", "simulated"), [(0.0, True), (4.0, True), (1.0, False)])
@pytest.mark.parametrize("name", [name for name in packaged_graphs() if name != "finetune_learner"])
def test_who_stamps_what_is_recorded_follows_the_cells_clock(name: str, factor: float, simulated: bool) -> None:
    """Pins one recording with stamps of two clocks."""
    graph = load_graph(name)
    given: dict[str, str | float] = {name: "run" for name, argument in graph.arguments.items() if argument.required}
    nodes = graph.resolve({**given, "real_time_factor": factor}).nodes
    recorded = nodes.keys() - {"sim_cell", "store_node", "learner_node", "lifecycle_manager"}
    assert {name: nodes[name].parameters["use_sim_time"] for name in recorded} == dict.fromkeys(recorded, simulated)


@pytest.mark.parametrize(("factor", "lockstep"), [(0.0, True), (1.0, False), (2.0, False)])
def test_a_learner_knows_whether_the_graph_waits_for_it(factor: float, lockstep: bool) -> None:
    """Pins a learner that takes the cores of a graph in real time, or of an arm's; and one that a busy machine lets
    wait, while a graph waits for it."""
    given = {"run_dir": "run", "demos": "demos", "initial_weights": "x.inril", "real_time_factor": factor}
    learner = load_graph("finetune").resolve(given).nodes["learner_node"]
    assert learner.parameters["lockstep"] is lockstep and learner.nice == (0 if lockstep else 10)
    alone = load_graph("finetune_learner").resolve({name: given[name] for name in list(given)[:3]})
    assert alone.nodes["learner_node"].parameters["lockstep"] is False and alone.nodes["learner_node"].nice == 10


def test_an_arm_has_the_systems_clock(tmp_path: Path) -> None:
    graph = load_graph(write(tmp_path, **defining(parameters={"use_sim_time": "${simulated_time}"})))
    assert graph.resolve({"run_dir": "x"}).nodes["robot"].parameters["use_sim_time"] is False


def test_who_is_in_which_graph() -> None:
    """Pins a learner in a deployment, and a policy that answers during demonstrations."""
    assert "learner_node" not in load_graph("deploy").nodes
    correct = load_graph("correct")
    assert "learner_node" not in correct.nodes and {"policy_node", "teleop_node", "recorder_node"} < set(correct.nodes)
    assert correct.resolve({"run_dir": "x", "initial_weights": "y"}).nodes["session_node"].parameters["plan"] == (
        "train:20:episodes"
    )
    assert not {"learner_node", "policy_node"} & set(load_graph("collect_demos").nodes)
    assert load_graph("collect_demos").nodes["arbiter_node"].parameters["expects_policy"] is False
    assert {"learner_node", "policy_node"} < set(load_graph("finetune").nodes)


def test_what_is_for_simulation_is_refused_without_a_simulated_cell(tmp_path: Path) -> None:
    """Pins a real arm that arms with nobody there, or that runs at the rate of its state stream."""
    nodes = ["robot", "observation_node", "session_node", "teleop_node", "lifecycle_manager"]
    path = write(tmp_path, nodes=nodes, **defining())
    plain = load_graph(path)
    given = {"run_dir": "x"}
    resolved = plain.resolve(given)
    for name in ("observation_node", "session_node"):
        assert resolved.nodes[name].parameters["real_time_factor"] == 1.0
    assert resolved.nodes["observation_node"].parameters["simulated_cell"] is False
    assert load_graph("deploy").resolve({"run_dir": "x"}).nodes["observation_node"].parameters["simulated_cell"] is True
    for name, value in (("arm_at_start", "true"), ("real_time_factor", "0.0"), ("unattended", "true")):
        with pytest.raises(ConfigError, match=f"{name} = {value}.*simulated"):
            plain.resolve({**given, name: value})
        for content in ({"defaults": {name: yaml.safe_load(value)}}, {"parameters": {"session_node": {name: 0.5}}}):
            other = write(tmp_path, nodes=nodes, **defining(), **content)
            with pytest.raises(ConfigError, match=f"{name} = .*simulated"):
                load_graph(other).resolve(given)
    assert load_graph(write(tmp_path, nodes=nodes, **defining(simulated=True))).resolve(
        {"run_dir": "x", "arm_at_start": "true"}
    )


def test_every_node_learns_whose_it_is(tmp_path: Path) -> None:
    """Pins a node that obeys every graph."""
    path = write(tmp_path, nodes=["arbiter_node", "robot", "lifecycle_manager"], define={"nodes": {"robot": COMMAND}})
    started = load_graph(path).resolve({"run_dir": "x"}).started_as("run.1", "/tmp/socket")
    assert started.nodes["arbiter_node"].parameters["graph_id"] == "run.1"
    assert started.nodes["arbiter_node"].parameters["control_socket"] == "/tmp/socket"
    assert started.nodes["robot"].parameters == {"id": "run.1"}


def test_a_graph_of_ones_own_may_define_nodes(tmp_path: Path) -> None:
    """Pins the way to put a real arm in without touching the packaged files."""
    node = defining(parameters={"speed": "${speed}", "address": "${speed}/x", "left_out": "${plan}"})
    node["define"]["arguments"] = {"speed": {"type": "float", "description": "m/s", "default": 0.5}}
    graph = load_graph(write(tmp_path, **node))
    always = {"calibration", "namespace", "run_dir", "run_id", "without_calibration", "without_teleop_check"}
    assert set(graph.arguments) == {"plan", "speed", *always}
    resolved = graph.resolve({"run_dir": "x", "speed": "1"})
    assert resolved.nodes["robot"].parameters == {"speed": 1.0, "address": "1.0/x"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"nodes": ["arbiter_nod"]}, "nodes: no node 'arbiter_nod'; did you mean 'arbiter_node'?"),
        ({"nodes": ["store_node", "store_node"]}, "stands there twice"),
        ({"nodes": ["arbiter_node"]}, "nobody activates ['arbiter_node']; add lifecycle_manager"),
        ({"nodes": []}, "nodes: "),
        ({"node": ["x"]}, "node: remove it or fix its name"),
        (defining(required="yes"), "define.nodes.robot.required"),
        (defining(respawn={"initial_s": 0}), "define.nodes.robot.respawn.initial_s"),
        (defining(nice=-5), "define.nodes.robot.nice"),
        (defining(command=["x"]), "either package and executable, or command"),
        (defining(environment="inherit"), "environment: inherit needs command"),
        (defining(executable="a b"), "define.nodes.robot.executable"),
        (defining(parameters={"a": "${nothing}"}), "no argument 'nothing' for ${nothing}"),
        (defining(parameters={"a": "$(rm -rf)"}), "a $ that is not ${argument_name}"),
        (defining(parameters={"a": "${plan}/x"}), "plan may be unset"),
        (defining(parameters={"a": None}), "define.nodes.robot.parameters.a"),
        (
            defining() | {"parameters": {"robo": {"a": 1}}},
            "parameters: no node 'robo' in this graph; did you mean",
        ),
        (defining() | {"defaults": {"sed": 1}}, "defaults: no argument 'sed'"),
        (
            defining(parameters={"a": "${seed}"}) | {"defaults": {"seed": -1}},
            "defaults.seed = -1; give an integer, at least 0",
        ),
        (
            {"define": {"arguments": {"a": {"type": "int", "description": "x", "default": "b"}}}},
            "arguments.a.default = 'b': not an integer",
        ),
    ],
)
def test_a_wrong_file_names_file_field_and_fix(tmp_path: Path, content: dict[str, Any], words: str) -> None:
    """Pins a typo in a graph file that is taken in silence, or told without saying where."""
    path = write(tmp_path, **content)
    with pytest.raises(ConfigError) as error:
        load_graph(path)
    assert words in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("text", ["", "- a list", "{", "nodes: [a]\nnodes: !!python/object:os.system {}", "a: .nan"])
def test_what_is_no_graph_at_all(tmp_path: Path, text: str) -> None:
    """Pins a traceback, or code that runs, for a file that is something else."""
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"odd\.yaml"):
        load_graph(path)


def test_an_unknown_graph_is_refused() -> None:
    """Pins `inril up finetun`."""
    with pytest.raises(ConfigError, match="did you mean 'finetune'"):
        load_graph("finetun")


@pytest.mark.parametrize(
    ("given_arguments", "words"),
    [
        ({}, "run_dir is missing; give run_dir:=VALUE"),
        ({"run_dir": "x", "demos": "d"}, "initial_weights is missing; give initial_weights:=VALUE"),
        ({"run_dir": "x", "sede": "1"}, "no argument 'sede'; did you mean 'seed'?"),
        ({"run_dir": "x", "seed": "1.5"}, "seed = '1.5'; give an integer, at least 0"),
        ({"run_dir": "x", "seed": True}, "seed = True"),
        ({"run_dir": "x", "real_time_factor": "nan"}, "real_time_factor = 'nan'; give a number"),
        ({"run_dir": "x", "real_time_factor": "-1"}, "real_time_factor = '-1'"),
        ({"run_dir": ""}, "run_dir = ''; give a path"),
    ],
)
def test_wrong_arguments_are_refused(given_arguments: dict[str, Any], words: str) -> None:
    """Pins a mistyped argument that leaves the default in force."""
    with pytest.raises(ConfigError) as error:
        load_graph("finetune").resolve(given_arguments)
    assert words in str(error.value)


def test_only_true_and_false_are_bools() -> None:
    """Pins a word such as `Ture` or `0` that is silently false."""
    argument = Argument(type="bool", description="x")
    assert (argument.convert("true"), argument.convert("false"), argument.convert(True)) == (
        True,
        False,
        True,
    )
    for word in ("True", "1", "yes", "", 1, 0):
        with pytest.raises(ValueError):
            argument.convert(word)


@given(st.one_of(st.text(max_size=8), st.integers(), st.floats(), st.booleans()))
def test_whatever_is_given_is_in_range_or_refused(value: Any) -> None:
    """Pins a number out of range, or another error than the one that is told to the user."""
    argument = Argument(type="float", description="x", low=0.0, high=1.0)
    with contextlib.suppress(ValueError, OverflowError):
        assert 0.0 <= argument.convert(value) <= 1.0  # type: ignore[operator]


def test_the_graph_and_the_commands_agree_on_the_default_preset() -> None:
    """Pins: `ros2 launch` that fine-tunes in another way than `inril demo`, and a policy pre-trained for neither."""
    assert load_graph("finetune").arguments["preset"].default == DEFAULT_PRESET


def test_a_node_that_nobody_asked_for_is_not_in_the_graph(tmp_path: Path) -> None:
    graph = load_graph("collect_demos")
    assert not {"console_node", "standard_topics"} & graph.resolve({"run_dir": "x"}).nodes.keys()
    both = graph.resolve({"run_dir": "x", "console": True, "standard_topics": True, "console_port": 9000})
    assert both.nodes["console_node"].parameters["console_port"] == 9000
    assert both.nodes["console_node"].parameters["device"] == "scripted" and "standard_topics" in both.nodes
    with pytest.raises(ConfigError, match="when: device: must be a bool argument"):
        load_graph(write(tmp_path, **defining(when="device")))
    with pytest.raises(ConfigError, match="no lifecycle|without lifecycle"):
        manager = ["robot", "lifecycle_manager"]
        load_graph(write(tmp_path, nodes=manager, **defining(when="console", lifecycle=True)))


def test_cameras_that_are_no_part_of_the_cell_are_read_by_camera_node(tmp_path: Path) -> None:
    """Pins a camera that is chosen and that nobody reads."""
    graph = load_graph("collect_demos")
    other = "{front: {source: uvc, device: 2}}"
    assert "camera_node" not in graph.resolve({"run_dir": "r"}).nodes
    assert "camera_node" not in graph.resolve({"run_dir": "r", "cameras": "{front: {source: rendered}}"}).nodes
    node = graph.resolve({"run_dir": "r", "cameras": other}).nodes["camera_node"]
    assert node.parameters["cameras"] == other and node.required
    path = write(tmp_path, nodes=["robot_node", "lifecycle_manager"], defaults={"arm": "simulated"})
    with pytest.raises(ConfigError, match="nobody reads them; add camera_node"):
        load_graph(path).resolve({"run_dir": "r", "cameras": other})
