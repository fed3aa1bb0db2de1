"""Pins: FurnitureBench's arm that is driven unasked, against its own API, or on after its environment has failed."""

from __future__ import annotations

import enum
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

pytest.importorskip("ruckig")

from inril_core.contract import Contract
from inril_core.errors import ConfigError
from inril_core.hardware.arms import base as arms
from inril_core.hardware.arms.base import ArmLost
from inril_core.hardware.arms.furniture_bench import FurnitureBenchArm

NAME = "furniture_bench.envs.furniture_bench_env"


class PandaError(enum.Enum):
    """As the benchmark's."""

    OK = 0
    Gripper = 1


class Panda:
    """The environment's robot, which says its state at any time."""

    def __init__(self, env: FurnitureBenchEnv) -> None:
        self._env = env

    def get_state(self) -> tuple[Any, PandaError]:
        """State, or None and why."""
        fails = self._env.fails
        return (None, fails) if fails is not PandaError.OK else (SimpleNamespace(**self._env.state()), fails)


class FurnitureBenchEnv:
    """The benchmark's class as far as the arm uses it: old gym API; the tool is at once where it is sent.

    `steps` lets its steps happen: the real one paces itself.
    """

    last: FurnitureBenchEnv | None = None

    def __init__(
        self,
        furniture: str,
        with_display: bool = True,
        manual_done: bool = False,
        manual_label: bool = False,
        manual_reset: bool = True,
        visualize_init_pose: bool = True,
    ) -> None:
        assert not (with_display or manual_reset or visualize_init_pose), "they need an X display and a keyboard"
        FurnitureBenchEnv.last = self
        self.furniture_name = furniture
        self.position_m, self.turned = np.array([0.5, 0.0, 0.2]), Rotation.from_quat([1.0, 0.0, 0.0, 0.0])
        self.actions: list[np.ndarray] = []
        self.steps = threading.Semaphore(1)
        self.fails = PandaError.OK
        self.env_steps = 0
        self.free = False
        self.robot = Panda(self)

    def state(self) -> dict[str, np.ndarray]:
        """robot_state as it is now."""
        return {
            "ee_pos": self.position_m.copy(),
            "ee_quat": self.turned.as_quat(),
            "ee_pos_vel": np.zeros(3),
            "ee_ori_vel": np.zeros(3),
            "joint_positions": np.full(7, 0.1),
            "joint_velocities": np.zeros(7),
            "joint_torques": np.ones(7),
            "gripper_width": np.array([0.05], np.float32),
        }

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, dict[str, Any]]:
        """Observation of before the action, as the real one's."""
        while not (self.free or self.steps.acquire(timeout=0.05)):
            pass
        self.env_steps += 1
        if self.fails is not PandaError.OK:
            return None, 0, True, {"obs_success": False, "error": self.fails}
        state = self.state()
        self.actions.append(np.asarray(action))
        assert np.abs(action[:3]).max() <= 0.11 and abs(np.linalg.norm(action[3:7]) - 1.0) < 1e-9
        self.position_m = self.position_m + action[:3]
        self.turned = self.turned * Rotation.from_quat(action[3:7])
        return {"robot_state": state}, 0.0, False, {"action_success": True, "obs_success": True}


@pytest.fixture
def arm(contract: Contract, monkeypatch: pytest.MonkeyPatch) -> Iterator[FurnitureBenchArm]:
    module = ModuleType(NAME)
    module.FurnitureBenchEnv = FurnitureBenchEnv  # type: ignore[attr-defined]
    for name in ("furniture_bench", "furniture_bench.envs"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, NAME, module)
    settings = (
        "{furniture: square_table, moves_when_opened: true, max_age_s: 5.0, motion: {relative_dynamics_factor: 1.0}}"
    )
    made = arms.arm_config("furniture_bench", settings).build(contract)
    assert isinstance(made, FurnitureBenchArm)
    made.open()
    yield made
    env().free = True
    made.close()


def env() -> FurnitureBenchEnv:
    assert FurnitureBenchEnv.last is not None
    return FurnitureBenchEnv.last


def until(condition: Callable[[], Any]) -> None:
    deadline_s = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.001)


def stepped() -> None:
    """Let one more step happen."""
    before = env().env_steps
    env().steps.release()
    until(lambda: env().env_steps > before)


def test_it_stays_until_a_target_comes_and_then_goes_there_in_the_environment_s_terms(arm: FurnitureBenchArm) -> None:
    state = arm.measure()
    assert state.tool_pose.tolist() == [0.5, 0.0, 0.2, 1.0, 0.0, 0.0, 0.0] and state.gripper_width_m == np.float32(0.05)
    stepped()
    arm.hold()
    stepped()
    assert all(action.tolist() == [0, 0, 0, 0, 0, 0, 1, 0] for action in env().actions), "it moved without a target"
    turned = (Rotation.from_rotvec([0.0, 0.0, 0.1]) * Rotation.from_quat([1.0, 0.0, 0.0, 0.0])).as_quat()
    goal = np.array([0.51, 0.0, 0.19, *turned])

    def there() -> bool:
        arm.follow(goal, 0.0)
        stepped()
        way_rad = (env().turned * Rotation.from_quat(goal[3:]).inv()).magnitude()
        return bool(np.allclose(env().position_m, goal[:3], atol=1e-4) and way_rad < 1e-3)

    until(there)
    assert env().actions[-1][7] == 1.0, "width 0 closes"
    arm.follow(goal, 0.08)
    stepped()
    stepped()
    assert env().actions[-1][7] == -1.0


def test_what_the_environment_reports_loses_the_arm(arm: FurnitureBenchArm) -> None:
    env().fails = PandaError.Gripper
    env().steps.release()

    def lost() -> bool:
        try:
            arm.measure()
        except ArmLost as error:
            return "PandaError.Gripper" in str(error)
        return False

    until(lost)
    with pytest.raises(ArmLost):
        arm.follow(np.array([0.5, 0.0, 0.2, 1.0, 0.0, 0.0, 0.0]), None)


def test_that_it_moves_when_it_is_made_must_be_said(contract: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="home pose"):
        arms.arm_config("furniture_bench", "{furniture: square_table}").build(contract)
    monkeypatch.setitem(sys.modules, NAME, None)
    with pytest.raises(ConfigError, match="polymetis"):
        arms.arm_config("furniture_bench", "{furniture: square_table, moves_when_opened: true}").build(contract)
