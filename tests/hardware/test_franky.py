"""Pins: a Franka arm that moves before a target, hides a reflex, recovers by itself, or waits for its hand."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ruckig")

from inril_core.contract import Contract
from inril_core.errors import ConfigError
from inril_core.hardware.arms import base as arms
from inril_core.hardware.arms.base import ArmLost
from inril_core.hardware.arms.franky import FrankyArm
from inril_core.hardware.driver import ArmDriver, TargetCommand
from tests.hardware import franky_stand_in as stand_in

PERIOD_NS = 100_000_000
FOREVER_NS = 10**18
UP_M = 0.002


@pytest.fixture
def make(contract: Contract, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., FrankyArm]]:
    monkeypatch.setitem(sys.modules, "franky", stand_in)
    monkeypatch.setattr(stand_in.Robot, "refuses", None)
    made: list[FrankyArm] = []

    def build(**settings: Any) -> FrankyArm:
        arm = arms.arm_config("franky", {"host": "10.0.0.9", "realtime": "ignore", **settings}).build(contract)
        assert isinstance(arm, FrankyArm)
        made.append(arm)
        return arm

    yield build
    for arm in made:
        arm.close()


def robot() -> stand_in.Robot:
    assert stand_in.Robot.last is not None
    return stand_in.Robot.last


def hand() -> stand_in.Gripper:
    assert stand_in.Gripper.last is not None
    return stand_in.Gripper.last


def until(condition: Callable[[], Any], what: str) -> None:
    deadline_s = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.001)


def goal(up_m: float = UP_M) -> np.ndarray:
    return np.array([0.5, 0.0, 0.2 + up_m, 1.0, 0.0, 0.0, 0.0])


def test_it_sets_limits_load_and_tool_and_moves_nothing(make: Callable[..., FrankyArm]) -> None:
    arm = make(load_mass_kg=0.3, tool_in_nominal_m=[0.0, 0.0, 0.1])
    arm.open()
    said = dict(robot().said)
    assert said["connect"] == ("10.0.0.9", 0.05, stand_in.RealtimeConfig.Ignore), "5 % is where one begins"
    assert said["collision"] == ([20, 20, 18, 18, 16, 14, 12], [20, 20, 20, 25, 25, 25])
    assert said["load"][0] == 0.3 and said["ee"][12:15] == (0.0, 0.0, 0.1), "column by column"
    assert not robot().count("move") and not robot().count("track") and not hand().said
    state = arm.measure()
    assert state.mode == "idle" and not state.fault
    assert state.tool_pose.tolist() == [0.5, 0.0, 0.2, 1.0, 0.0, 0.0, 0.0]
    assert state.external_wrench is not None and state.external_wrench.tolist() == [0, 1, 2, 3, 4, 5]
    assert "0.3 kg" in arm.described
    arm.hold()
    assert not robot().count("move"), "hold before the first target leaves the arm alone"


def test_impedance_begins_at_the_measured_pose_and_reaches_the_target(make: Callable[..., FrankyArm]) -> None:
    arm = make(motion={"relative_dynamics_factor": 1.0}, control="impedance")
    arm.open()
    begun = robot().at.translation.copy()

    def there() -> bool:
        arm.follow(goal(), None)
        return bool(np.allclose(robot().at.translation, goal()[:3], atol=1e-6))

    until(there, "the target")
    targets = [pose.translation for pose in robot().targets]  # type: ignore[attr-defined]
    assert np.array_equal(targets[1], begun) or np.linalg.norm(targets[1] - begun) < 1e-3
    assert robot().count("track") == 1


def test_each_target_is_a_motion_of_franky_where_that_is_chosen(make: Callable[..., FrankyArm]) -> None:
    arm = make(control="motion")
    arm.open()
    arm.follow(goal(), None)
    (motion,) = robot().said[-1][1]
    assert isinstance(motion, stand_in.CartesianMotion) and motion.reference_type is stand_in.ReferenceType.Absolute
    assert np.allclose(motion.target.translation, goal()[:3])
    arm.hold()
    assert isinstance(robot().said[-1][1][0], stand_in.CartesianStopMotion)


@pytest.mark.parametrize("control", ["impedance", "motion"])
def test_a_reflex_is_a_named_fault_and_recovers_only_when_a_person_arms(
    make: Callable[..., FrankyArm], control: str
) -> None:
    arm = make(control=control)
    arm.open()
    driver = ArmDriver(arm, False, 10 * PERIOD_NS)
    driver.reset(0, "e", "train")
    target = TargetCommand("b", 0, "e", goal().tolist(), float("nan"), False, FOREVER_NS)
    assert driver.offer(target, 0, 0)
    assert not driver.run_period(1).fault
    robot().reflex()
    fault = driver.run_period(2).fault
    assert driver.needs_rearm and "reflex (cartesian_reflex)" in fault and "inril arm" in fault
    for _ in range(5):
        driver.run_period(3)
    assert not robot().count("recover"), "it recovered by itself"
    with pytest.raises(ArmLost, match="inril arm"):
        arm.follow(goal(), None)
    assert driver.arm(True, "ann", 4) == (True, "armed by ann")
    assert robot().count("recover") == 1 and not driver.run_period(5).fault
    robot().reflex()
    robot().recovers = False
    driver.run_period(6)
    success, message = driver.arm(True, "ann", 7)
    assert not success and "error recovery failed" in message and driver.needs_rearm


@pytest.mark.parametrize("mode", ["UserStopped", "Guiding", "Other"])
def test_a_stop_button_or_a_hand_on_the_arm_is_named_and_not_recovered_from(
    make: Callable[..., FrankyArm], mode: str
) -> None:
    arm = make()
    arm.open()
    robot().mode = stand_in.RobotMode[mode]
    assert arm.measure().fault
    with pytest.raises(ArmLost, match="does not move"):
        arm.recover()
    assert not robot().count("recover")
    robot().mode = stand_in.RobotMode.Idle
    with pytest.raises(ArmLost, match="inril arm"):
        arm.follow(goal(), None)
    arm.recover()
    arm.follow(goal(), None)


def test_the_hand_never_blocks_and_the_newest_width_wins(make: Callable[..., FrankyArm]) -> None:
    arm = make(control="motion")
    arm.open()
    arm.follow(goal(), 0.0)
    hand().until("grasp")
    assert hand().said[0] == ("grasp", 0.0, 0.05, 20.0, 0.08, 0.08), "fingers stopped by an object are a success"
    for _ in range(10):
        arm.follow(goal(), 0.0)  # the same wish, while the first still runs
    arm.follow(goal(), 0.05)
    arm.follow(goal(), 0.08)
    hand().until("grasp", "stop", "move")
    assert hand().said[2][:2] == ("move", 0.08), "0.05 was never begun"
    hand().done.set()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (stand_in.NetworkException("refused"), ("10.0.0.9:1337", "FCI", "cable")),
        (stand_in.IncompatibleVersionException("server version 7"), ("10.0.0.9:1337", "5.9.0", "server version 7")),
    ],
)
def test_what_libfranka_raises_names_address_port_cause_and_fix(
    make: Callable[..., FrankyArm], monkeypatch: pytest.MonkeyPatch, error: Any, words: tuple[str, ...]
) -> None:
    arm = make()
    monkeypatch.setattr(stand_in.Robot, "refuses", error)
    with pytest.raises(ArmLost) as caught:
        arm.open()
    assert all(word in str(caught.value) for word in words)
    monkeypatch.setattr(stand_in.Robot, "refuses", None)
    arm.open()
    robot().raises = error
    with pytest.raises(ArmLost):
        arm.measure()
    robot().raises = None
    with pytest.raises(ArmLost, match="inril arm"):
        arm.follow(goal(), None)


def test_a_state_that_does_not_change_is_no_state(make: Callable[..., FrankyArm], monkeypatch: Any) -> None:
    arm = make()
    arm.open()
    robot().frozen = True
    arm.measure()
    later_s = time.monotonic() + 0.5
    monkeypatch.setattr(time, "monotonic", lambda: later_s)
    with pytest.raises(ArmLost, match="the same"):
        arm.measure()


def test_without_the_package_the_remedy_is_named(contract: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "franky", None)
    with pytest.raises(ConfigError, match="pip install"):
        arms.arm_config("franky", {"host": "x"}).build(contract)
    with pytest.raises(ConfigError, match="host"):
        arms.arm_config("franky")


USED = ["Robot", "Gripper", "CartesianImpedanceTracker", "CartesianMotion", "CartesianStopMotion", "Affine", "Model"]
USED += ["BoolFuture", "Duration"]


def real_methods() -> dict[str, dict[str, list[list[str]]]]:
    """Parameters of each overload of each method, properties as [], of the installed package's classes."""
    spec = importlib.util.find_spec("franky")
    assert spec is not None and spec.origin is not None
    folder = Path(spec.origin).parent
    found: dict[str, dict[str, list[list[str]]]] = {}
    for file in ("_franky.pyi", "tracker.py"):
        for node in ast.parse((folder / file).read_text()).body:
            if isinstance(node, ast.ClassDef):
                methods = found.setdefault(node.name.replace("_RobotInternal", "Robot"), {})
                for item in node.body:
                    if isinstance(item, ast.FunctionDef):
                        names = [a.arg for a in (*item.args.args, *item.args.kwonlyargs)][1:]
                        methods.setdefault(item.name, []).append(names)
    return found


@pytest.mark.skipif(importlib.util.find_spec("franky") is None, reason="franky-control is not installed")
def test_the_stand_in_has_the_api_of_the_installed_package() -> None:
    real = real_methods()
    own = {
        "Robot": {"reflex", "count"},
        "Gripper": {"until"},
        "BoolFuture": {"__init__"},
    }  # the package makes a BoolFuture
    for name in USED:
        for method, value in vars(getattr(stand_in, name)).items():
            if (method.startswith("_") and method != "__init__") or method in own.get(name, ()):
                continue
            if isinstance(value, property):
                assert method in real[name], f"franky.{name} has no {method}"
            elif inspect.isfunction(value):
                names = list(inspect.signature(value).parameters)[1:]
                overloads = real[name].get(method, [])
                assert any(set(names) <= set(overload) for overload in overloads), (
                    f"{name}.{method}{names}: {overloads}"
                )
                positional = [
                    n for n, p in inspect.signature(value).parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD
                ]
                assert any(overload[: len(positional[1:])] == positional[1:] for overload in overloads) or name in (
                    "Robot",
                    "CartesianImpedanceTracker",
                ), f"{name}.{method}: order of {positional}"
    fields = set(real["RobotState"])
    assert {"O_T_EE", "q", "dq", "tau_J", "O_F_ext_hat_K", "robot_mode", "current_errors", "time"} <= fields
    assert {"width", "max_width"} <= set(real["Gripper"]) and {"is_in_control", "has_errors"} <= set(real["Robot"])
    assert {"translation", "quaternion"} <= set(real["Affine"])


@pytest.mark.skipif(importlib.util.find_spec("franky") is None, reason="franky-control is not installed")
def test_the_installed_package_refuses_an_arm_that_is_not_there(contract: Contract) -> None:
    import franky

    for mode in stand_in.RobotMode:
        assert mode.name in franky.RobotMode.__members__
    assert issubclass(franky.NetworkException, franky.Exception) and issubclass(
        franky.ControlException, franky.Exception
    )
    arm = arms.arm_config("franky", {"host": "127.0.0.1", "realtime": "ignore"}).build(contract)
    with pytest.raises(ArmLost, match=r"127\.0\.0\.1:1337.*NetworkException"):
        arm.open()
