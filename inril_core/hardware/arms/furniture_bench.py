"""The Panda of FurnitureBench's real environment (Heo et al., RSS 2023), with its class of the old gym API."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import Field

from inril_core.contract import Contract
from inril_core.errors import ConfigError
from inril_core.hardware.arms.base import Arm, ArmConfig, ArmLost, ArmState
from inril_core.hardware.motion import MotionLimits, SmoothMotion
from inril_core.transforms import quat_conjugate, quat_multiply, quat_normalise, quat_problem

STEP_S = 0.1
"""Its environment steps at 10 Hz and paces itself."""
LARGEST_STEP_M = 0.1
"""Per axis; the environment silently skips a step above 0.11 m."""
JOIN_S = 10.0


class Config(ArmConfig):
    """Settings of FurnitureBench's arm."""

    furniture: str = Field(min_length=1)
    """E.g. ``square_table``."""
    moves_when_opened: bool = False
    """The environment drives the arm to its home pose when it is made, before anybody has armed. Say true once the cell
    is clear and a hand is on the stop."""
    closed_below_m: float = Field(0.03, gt=0.0, le=0.08)
    """Its gripper knows open and closed alone: a width below this closes it, one above opens it."""
    motion: MotionLimits = MotionLimits()
    max_age_s: float = Field(1.0, gt=0.0, le=5.0)

    def build(self, contract: Contract) -> FurnitureBenchArm:
        """See `ArmConfig.build`."""
        if not self.moves_when_opened:
            raise ConfigError(
                "arm_settings.moves_when_opened = false: FurnitureBench's environment drives the arm to its home pose "
                "when it is made; clear the cell, have a hand on the stop, then set it to true"
            )
        if contract.control_rate_hz * STEP_S != 1.0:
            raise ConfigError(
                f"control_rate_hz = {contract.control_rate_hz}: FurnitureBench runs at {1.0 / STEP_S:g} Hz"
            )
        try:
            from furniture_bench.envs.furniture_bench_env import FurnitureBenchEnv
        except ImportError as error:
            raise ConfigError(
                f"arm = 'furniture_bench' needs the benchmark with polymetis and its cameras, as its manual says "
                f"({error})"
            ) from error
        return FurnitureBenchArm(self, contract, FurnitureBenchEnv)


class FurnitureBenchArm(Arm):
    """Steps the environment in a thread of its own, from the first target on; before that, and in hold, it asks it to
    stay. A person lays the parts out: the environment's own reset, which waits at a keyboard, is not called.
    """

    def __init__(self, config: Config, contract: Contract, env_class: Any) -> None:
        self._config, self._env_class = config, env_class
        self._motion = SmoothMotion(config.motion, STEP_S, contract.staleness.target_s)
        self._lock = threading.Lock()
        self._env: Any = None
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._newest: tuple[Mapping[str, Any], float] | None = None
        self._lost = "not opened"
        self._started = False
        self._grip = -1.0

    def open(self) -> None:
        """Make the environment, which moves the arm to its home pose, and measure once."""
        self.close()
        made = {"with_display": False, "manual_done": True, "manual_label": True, "manual_reset": False}
        try:
            self._env = self._env_class(self._config.furniture, visualize_init_pose=False, **made)
        except Exception as error:  # of polymetis, a camera or the benchmark
            raise ArmLost(
                f"FurnitureBench's environment cannot be made ({type(error).__name__}: {error}); look at its servers "
                "(SERVER_IP) and cameras (CAM_WRIST_SERIAL, CAM_FRONT_SERIAL, CAM_REAR_SERIAL)"
            ) from error
        self._env.env_steps = 0  # made by its reset alone
        self._closing.clear()
        self._newest, self._lost, self._started = None, "", False
        self._thread = threading.Thread(target=self._run, name="furniture-bench", daemon=True)
        self._thread.start()
        deadline_s = time.monotonic() + JOIN_S
        while self._newest is None and not self._lost and time.monotonic() < deadline_s:
            time.sleep(0.01)
        self.measure()

    def measure(self) -> ArmState:
        """See `Arm.measure`."""
        newest = self._newest
        if self._lost:
            raise ArmLost(f"FurnitureBench's arm: {self._lost}")
        if newest is None or time.monotonic() - newest[1] > self._config.max_age_s:
            raise ArmLost(f"FurnitureBench's arm is silent for over {self._config.max_age_s:g} s; look at its servers")
        state = newest[0]
        twist = np.concatenate([_row(state, "ee_pos_vel", 3), _row(state, "ee_ori_vel", 3)])
        return ArmState(
            tool_pose=_pose(state),
            tool_twist=twist,
            joint_position_rad=_row(state, "joint_positions", 7),
            joint_velocity_radps=_row(state, "joint_velocities", 7),
            joint_torque_nm=_row(state, "joint_torques", 7),
            gripper_width_m=float(_row(state, "gripper_width", 1)[0]),
        )

    def follow(self, tool_pose: np.ndarray, gripper_width_m: float | None) -> None:
        """See `Arm.follow`."""
        measured = self.measure()
        now_s = time.monotonic()
        with self._lock:
            if not self._started:
                self._motion.start(measured.tool_pose.tolist(), now_s)
                self._grip = 1.0 if measured.gripper_width_m < self._config.closed_below_m else -1.0
                self._started = True
            self._motion.aim(tool_pose.tolist(), now_s)
            if gripper_width_m is not None:
                self._grip = 1.0 if gripper_width_m < self._config.closed_below_m else -1.0

    def hold(self) -> None:
        """See `Arm.hold`."""
        with self._lock:
            if self._started:
                self._motion.stop(time.monotonic())

    def recover(self) -> None:
        """See `Arm.recover`: commanding begins anew at the measured pose."""
        self.measure()
        with self._lock:
            self._started = False

    def close(self) -> None:
        """See `Arm.close`."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(JOIN_S)
        self._env = self._thread = None
        self._lost = self._lost or "closed"

    def _run(self) -> None:
        env, stay = self._env, np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0])
        while not self._closing.is_set():
            try:
                # a step is relative to the pose that it finds; its observation is older than that by a step, and a
                # way computed from it would swing about the target
                state, error = env.robot.get_state()
                if error.name != "OK":
                    self._lost = f"it reports {error}; look at its servers and at Desk"
                    return
                self._newest = dict(vars(state)), time.monotonic()
                observation, _, _, info = env.step(self._action(_pose(self._newest[0]), stay))
            except Exception as error:  # of polymetis, a camera or the benchmark
                self._lost = f"{type(error).__name__}: {error}"
                return
            if observation is None:
                self._lost = f"it reports {info.get('error', 'an error')}; look at its servers and at Desk"
                return

    def _action(self, measured: np.ndarray, stay: np.ndarray) -> np.ndarray:
        """float64[8]: from the measured pose to the set-point of the step's end; the turn is in the tool's frame."""
        with self._lock:
            if not self._started:
                return stay
            pose, grip = self._motion.at(time.monotonic() + STEP_S).pose, self._grip
        way = np.clip(pose[:3] - measured[:3], -LARGEST_STEP_M, LARGEST_STEP_M)
        turn = quat_multiply(quat_conjugate(measured[3:].tolist()), pose[3:].tolist())
        return np.array([*way, *quat_normalise(turn), grip])


def _row(state: Mapping[str, Any], name: str, size: int) -> np.ndarray:
    values = np.asarray(state.get(name, ()), np.float64).reshape(-1)
    if values.shape != (size,) or not np.isfinite(values).all():
        raise ArmLost(f"FurnitureBench's robot_state.{name} is {values.tolist()}: {size} finite numbers are needed")
    return values


def _pose(state: Mapping[str, Any]) -> np.ndarray:
    quat = _row(state, "ee_quat", 4)
    if problem := quat_problem(quat.tolist()):
        raise ArmLost(f"FurnitureBench's robot_state.ee_quat: {problem}")
    return np.array([*_row(state, "ee_pos", 3), *quat_normalise(quat.tolist())])
