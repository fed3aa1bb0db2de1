"""Pins: a policy that is let loose on a real arm which nobody has driven by hand, however it is started."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from inril_bringup import cli, preflight
from inril_bringup.check import check
from inril_bringup.describe import describe_nodes
from inril_bringup.driven_arm import arm_of
from inril_bringup.graph import ResolvedGraph, load_graph
from inril_bringup.teleop_check import driving_graph, without_policy

from inril_core.calibration.stored import now
from inril_core.contract import load_contract
from inril_core.errors import ConfigError
from inril_core.teleop_check.stored import Arm, write_check
from tests.domains import own_domain
from tests.teleop_check.test_stored import made

REAL = {
    "description": "A person drives an arm that is not simulated.",
    "nodes": ["robot_node", "safety_monitor", "observation_node", "arbiter_node", "teleop_node", "recorder_node"]
    + ["session_node", "lifecycle_manager"],
    "defaults": {"arm": "simulated", "device": "gamepad"},
}
NAME = "teleop_check_simulated_insert_leg"


@pytest.fixture
def real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A graph of an arm that says it is real, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "real.yaml"
    path.write_text(yaml.safe_dump(REAL))
    return path


def resolved(path: Path | str, **values: str) -> ResolvedGraph:
    return load_graph(path).resolve({"run_dir": "run", "plan": "demo:1:episodes", **values})


def test_a_run_on_a_real_arm_needs_a_check_or_its_name(real: Path) -> None:
    told = f"{NAME}.yaml is missing; make it with `inril teleop-check`.*without_teleop_check:={NAME}"
    with pytest.raises(ConfigError, match=told):
        check(resolved(real))
    check(resolved(real, without_teleop_check=f"teleop_check_left, {NAME}"))
    arm, contract = arm_of(resolved(real)), load_contract("insert_leg")
    write_check(Path("calibration"), made(contract, arm, created=now()))
    check(resolved(real))
    for other in ({"namespace": "left"}, {"arm_settings": "{delay_steps: 1}"}):
        with pytest.raises(ConfigError, match="without_teleop_check:="):
            check(resolved(real, **other))
    check(resolved(real, calibration="calibration"))
    with pytest.raises(ConfigError, match="elsewhere/.* is missing"):
        check(resolved(real, calibration="elsewhere"))


def test_the_launch_files_and_inril_up_say_the_same(real: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with own_domain() as domain, pytest.MonkeyPatch.context() as shell:
        shell.setenv("ROS_DOMAIN_ID", str(domain))
        with pytest.raises(ConfigError, match=f"without_teleop_check:={NAME}"):
            describe_nodes(str(real), ["run_dir:=run", "plan:=demo:1:episodes"])
        with pytest.raises(SystemExit) as ended:
            cli.main(["up", str(real), "run_dir:=run", "plan:=demo:1:episodes"])
    assert ended.value.code == 1 and f"without_teleop_check:={NAME}" in capsys.readouterr().err
    assert not Path("run").exists()


def test_what_needs_none(real: Path) -> None:
    """A simulated cell, a graph that joins another one, and one without episodes and policy."""
    check(resolved("collect_demos"))
    assert arm_of(resolved("collect_demos")) == Arm(name="simulated", simulated=True)
    content = REAL | {"nodes": ["robot_node", "safety_monitor", "lifecycle_manager"], "defaults": {"arm": "simulated"}}
    real.write_text(yaml.safe_dump(content))
    check(load_graph(real).resolve({"run_dir": "run"}))


def test_an_arm_that_is_a_node_of_its_own_is_known_by_its_name(real: Path) -> None:
    node = {"package": "inril_hardware", "executable": "camera_node", "lifecycle": True, "required": True}
    mine = {**node, "package": "my_driver"}
    nodes = ["my_arm", *REAL["nodes"][1:]]
    content = REAL | {"nodes": nodes, "defaults": {"device": "gamepad"}, "define": {"nodes": {"my_arm": mine}}}
    real.write_text(yaml.safe_dump(content))
    assert arm_of(resolved(real, namespace="left")) == Arm(name="my_arm", namespace="left")


def test_preflight_says_what_it_found(real: Path) -> None:
    def line(*words: str) -> tuple[str, str]:
        (found,) = preflight.driven_by_hand(words, Path("runs"))
        return found.level, found.found

    words = (str(real), "plan:=demo:1:episodes")
    assert line() == ("OK", "none in calibration/: a run on a real arm needs one (inril teleop-check)")
    assert line("collect_demos")[0] == "OK" and "needs none" in line("collect_demos")[1]
    assert line(*words)[0] == "FAIL" and f"{NAME}.yaml is missing" in line(*words)[1]
    assert line(*words, f"without_teleop_check:={NAME}") == ("WARN", f"{NAME} is overridden")
    assert line("nowhere.yaml")[0] == "FAIL"
    contract = load_contract("insert_leg")
    write_check(Path("calibration"), made(contract, arm_of(resolved(real)), created=now()))
    assert line(*words) == ("OK", f"{NAME}: passed lately")
    assert line()[0] == "OK" and "passed on" in line()[1]
    write_check(Path("calibration"), made(contract, Arm(name="simulated"), passed=False, reasons=("too slow",)))
    assert line(*words)[0] == "FAIL" and line()[0] == "WARN"


def test_the_graph_of_a_policy_becomes_that_of_a_person() -> None:
    """What collect_demos says of itself, from the graph that learns."""
    person, demos = without_policy(load_graph("finetune")), load_graph("collect_demos")
    assert person.nodes == {name: person.nodes[name] for name in demos.nodes}
    for name, node in demos.nodes.items():
        assert node.parameters.items() <= person.nodes[name].parameters.items(), name
    person.resolve({"run_dir": "run"})  # without demonstrations and weights
    with pytest.raises(ConfigError, match="teleop_node, recorder_node, session_node.*lacks"):
        without_policy(load_graph("calibrate"))


def test_the_check_starts_without_the_check_that_it_makes(
    real: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    driving = driving_graph(without_policy(load_graph(real)), {}, None)
    check(driving)
    assert driving.arguments["plan"] == "demo:6:episodes" and driving.arguments["full_rate"] is True
    assert "inril arm" in capsys.readouterr().out
    simulated = driving_graph(without_policy(load_graph("collect_demos")), {"seed": 3}, 2)
    check(simulated)
    wanted = {"device": "sweep", "arm_at_start": True, "plan": "demo:2:episodes", "real_time_factor": 1.0, "seed": 3}
    assert wanted.items() <= simulated.arguments.items() and not capsys.readouterr().out
    with pytest.raises(ConfigError, match="'sweep' acts without a person"):
        check(driving_graph(without_policy(load_graph(real)), {"device": "sweep"}, None))


@pytest.mark.parametrize(
    ("given", "episodes", "told"),
    [
        ({"plan": "demo:1:episodes"}, None, "plan:= is set by `inril teleop-check` itself"),
        ({"without_teleop_check": NAME}, None, "without_teleop_check:= is set"),
        ({}, 0, "--episodes = 0; give 1 to 1000"),
        ({"run_dir": "old"}, None, "something was recorded there"),
        ({"contract": "nothing"}, None, "nothing"),
    ],
)
def test_arguments_that_will_not_do(real: Path, given: dict[str, str], episodes: int | None, told: str) -> None:
    old = Path("old")
    old.mkdir()
    (old / "session.jsonl").write_text("")
    with pytest.raises(ConfigError, match=told):
        driving_graph(without_policy(load_graph(real)), given, episodes)
