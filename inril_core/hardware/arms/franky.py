"""A Franka arm through franky (franky-control 2.0, which brings libfranka 0.21)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Literal

import numpy as np
from pydantic import Field

from inril_core.contract import Contract
from inril_core.errors import missing_package
from inril_core.hardware.arm_modes import fault_of, snake
from inril_core.hardware.arms.base import Arm, ArmConfig, ArmLost, ArmState
from inril_core.hardware.motion import MotionLimits, SmoothMotion
from inril_core.hardware.newest import NewestWins
from inril_core.hardware.stream import SetPointStream
from inril_core.transforms import pose_problem, quat_normalise

PORT = 1337
HAND_PERIOD_S = 0.02
GRASP_MARGIN_M = 0.002
"""A width below the present one by more than this is a grasp."""

_CAUSES = {
    "NetworkException": (
        "it does not answer: look at the cable and the address (its web page, Desk, must open), unlock the joints and "
        "activate FCI in Desk, end other programs that are connected; a switch or a busy host loses packets"
    ),
    "IncompatibleVersionException": (
        "its firmware and libfranka 0.21 do not fit: an FR3 needs system version 5.9.0 or newer (libfranka 0.15 to "
        "0.17: 5.7.2; 0.14: 5.7.0; 0.13.3: 5.5.0), an FER (Panda) libfranka 0.9; update the firmware, or install the "
        "build of franky-control for the arm's libfranka"
    ),
    "RealtimeException": (
        "this host has no real-time kernel, or may not use it: boot a PREEMPT_RT kernel, give the user rtprio 99 and "
        "memlock in /etc/security/limits.conf; realtime: ignore goes without, with more lost packets"
    ),
    "ControlException": "it ended the motion: contact, limit, or lost packets (communication_constraints_violation)",
    "CommandException": "it refused a command in its present mode",
    "InvalidOperationException": "it was asked for something else while it moves",
    "GripperException": "its hand failed",
}

Six = tuple[float, float, float, float, float, float]
Seven = tuple[float, float, float, float, float, float, float]


class Config(ArmConfig):
    """Settings of a Franka arm through franky."""

    host: str = Field(min_length=1)
    """Address of its control box, port 1337."""
    control: Literal["impedance", "motion"] = "impedance"
    """impedance: set-points to Cartesian impedance control. motion: each target is a Cartesian motion that franky plans
    anew (stiff, and limited by `motion.relative_dynamics_factor` of the arm's own limits)."""
    motion: MotionLimits = MotionLimits()
    """`relative_dynamics_factor` is franky's, too."""
    rate_hz: float = Field(250.0, ge=50.0, le=500.0)
    """Set-points a second in impedance control; franky itself controls at 1000 Hz."""
    translational_stiffness_npm: float = Field(400.0, ge=10.0, le=3000.0)
    rotational_stiffness_nmprad: float = Field(30.0, ge=1.0, le=300.0)
    error_clip_m: float = Field(0.03, gt=0.0, le=0.1)
    """Largest distance of tool from set-point that makes a force: the force stays below stiffness times this."""
    error_clip_rad: float = Field(0.3, gt=0.0, le=1.0)
    torque_thresholds_nm: Seven = (20.0, 20.0, 18.0, 18.0, 16.0, 14.0, 12.0)
    """Of contact: beyond them the arm stops in a reflex."""
    force_thresholds_n: Six = (20.0, 20.0, 20.0, 25.0, 25.0, 25.0)
    """N, then Nm."""
    load_mass_kg: float = Field(0.0, ge=0.0, le=3.0)
    """Of what the hand holds, besides the hand that is set in Desk."""
    load_com_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Its centre of mass in the flange's frame."""
    load_inertia_kgm2: tuple[float, ...] = Field((0.0,) * 9, min_length=9, max_length=9)
    """3 x 3, column by column."""
    tool_in_nominal_m: tuple[float, float, float] | None = None
    """Tool in the nominal end effector's frame that is set in Desk; None: they are the same."""
    gripper: bool = True
    """It has a Franka hand."""
    gripper_speed_mps: float = Field(0.05, gt=0.0, le=0.1)
    gripper_force_n: float = Field(20.0, gt=0.0, le=70.0)
    hand_max_age_s: float = Field(1.0, gt=0.0, le=5.0)
    realtime: Literal["enforce", "ignore"] = "enforce"
    max_age_s: float = Field(0.1, gt=0.0, le=1.0)
    """Without a newer state for longer the arm is lost."""

    def build(self, contract: Contract) -> FrankyArm:
        """See `ArmConfig.build`."""
        try:
            import franky
        except ImportError as error:
            wheels = "it has wheels for glibc 2.34 and newer on x86-64"
            raise missing_package("arm = 'franky' needs franky-control", "franka", error, wheels) from error
        return FrankyArm(self, contract, franky)


class FrankyArm(Arm):
    """Nothing moves before the first `follow`; a reflex, a stop or guiding by hand is a fault until a person arms.

    The thresholds, load and tool are set, and logged in `described`, when it is opened.
    """

    def __init__(self, config: Config, contract: Contract, franky: ModuleType) -> None:
        self._config, self._franky = config, franky
        self._base = SmoothMotion(config.motion, 1.0 / contract.control_rate_hz, contract.staleness.target_s)
        self._robot: Any = None
        self._model: Any = None
        self._hand: Any = None
        self._fingers: NewestWins | None = None
        self._width = 0.0, 0.0
        self._hand_closing = threading.Event()
        self._tracker: Any = None
        self._stream: SetPointStream | None = None
        self._moving = False
        self._awaits_person = False
        self._said = (-1.0, 0.0)
        self.described = ""
        """What was set in the arm; empty before `open`."""

    def open(self) -> None:
        """See `Arm.open`."""
        self.close()
        config, franky = self._config, self._franky
        realtime = franky.RealtimeConfig.Enforce if config.realtime == "enforce" else franky.RealtimeConfig.Ignore
        factor = config.motion.relative_dynamics_factor
        with self._explained("connect"):
            self._robot = robot = franky.Robot(config.host, relative_dynamics_factor=factor, realtime_config=realtime)
            robot.set_collision_behavior(list(config.torque_thresholds_nm), list(config.force_thresholds_n))
            robot.set_load(config.load_mass_kg, list(config.load_com_m), list(config.load_inertia_kgm2))
            if config.tool_in_nominal_m is not None:
                matrix = np.eye(4)
                matrix[:3, 3] = config.tool_in_nominal_m
                robot.set_ee(matrix.flatten(order="F").tolist())
            self._model = robot.model
            if config.gripper:
                self._hand = franky.Gripper(config.host)
                self._width = float(self._hand.width), time.monotonic()
                self._fingers = NewestWins(self._move_fingers)
                self._hand_closing = threading.Event()
                arguments = self._hand, self._hand_closing
                threading.Thread(target=self._watch_hand, args=arguments, name="hand", daemon=True).start()
        self._awaits_person, self._said = False, (-1.0, 0.0)
        self.described = (
            f"{config.host}: contact at {config.torque_thresholds_nm} Nm, {config.force_thresholds_n} N and Nm; load "
            f"{config.load_mass_kg} kg at {config.load_com_m} m; tool {config.tool_in_nominal_m or 'as in Desk'}; "
            f"dynamics {factor:g}"
        )
        self.measure()

    def measure(self) -> ArmState:
        """See `Arm.measure`."""
        robot = self._connected()
        with self._explained("measure"):
            state = robot.state
            ended = self._ended()
            twist = np.asarray(self._model.zero_jacobian(self._franky.Frame.EndEffector, state)) @ np.asarray(state.dq)
        self._look_at_time(state.time.to_sec())
        mode = snake(state.robot_mode.name)
        errors = _named(state.current_errors)
        # Idle is its rest before the first target and between episodes: it moves when it is asked to
        fault = fault_of(mode, errors, ("move", "idle"))
        if ended and not fault:
            fault = f"the arm itself does not move: {ended}; look at the arm, then `inril arm`"
        if not fault and self._fingers is not None and self._fingers.failure:
            fault = f"the hand does not obey: {self._fingers.failure}; look at it, then `inril arm`"
        if fault:
            self._let_go()
        pose = _pose(state.O_T_EE)
        return ArmState(
            tool_pose=pose,
            tool_twist=twist.reshape(6),
            joint_position_rad=np.asarray(state.q, np.float64),
            joint_velocity_radps=np.asarray(state.dq, np.float64),
            joint_torque_nm=np.asarray(state.tau_J, np.float64),
            gripper_width_m=self._width_now(),
            external_wrench=np.asarray(state.O_F_ext_hat_K, np.float64),
            mode=mode,
            fault=fault,
        )

    def follow(self, tool_pose: np.ndarray, gripper_width_m: float | None) -> None:
        """See `Arm.follow`."""
        robot, franky = self._connected(), self._franky
        if self._awaits_person:
            raise ArmLost("it sends no targets since the arm stopped; look at it, then `inril arm`")
        if self.measure().fault:
            return  # the state that is measured next says so
        with self._explained("move"):
            if self._config.control == "motion":
                target = franky.Affine(tool_pose[:3], tool_pose[3:])
                robot.move(franky.CartesianMotion(target, franky.ReferenceType.Absolute), asynchronous=True)
                self._moving = True
            else:
                if self._stream is None:
                    self._begin()
                assert self._stream is not None
                self._stream.aim(tool_pose.tolist())
        if gripper_width_m is not None and self._fingers is not None:
            self._fingers.ask(round(gripper_width_m, 4))

    def hold(self) -> None:
        """See `Arm.hold`."""
        robot = self._connected()
        if self._stream is not None:
            self._stream.stop()
        elif self._moving:
            self._moving = False
            with self._explained("stop"):
                if robot.is_in_control:
                    robot.move(self._franky.CartesianStopMotion(), asynchronous=True)

    def recover(self) -> None:
        """See `Arm.recover`."""
        robot = self._connected()
        self._end_motion()
        if self._fingers is not None:
            self._fingers.forget()
        with self._explained("recover"):
            stopped = bool(robot.has_errors) or snake(robot.state.robot_mode.name) == "reflex"
            if stopped and not robot.recover_from_errors():
                raise ArmLost(f"{self._where()}: its error recovery failed; look at Desk, which names what remains")
        fault = self.measure().fault
        if fault:
            raise ArmLost(fault)
        self._awaits_person = False

    def close(self) -> None:
        """See `Arm.close`."""
        self._end_motion()
        self._hand_closing.set()
        if self._fingers is not None:
            self._fingers.close()
        self._robot = self._model = self._hand = self._fingers = None

    def _begin(self) -> None:
        """Start impedance control at the measured pose."""
        config, robot = self._config, self._robot
        self._tracker = self._franky.CartesianImpedanceTracker(
            robot,
            translational_stiffness=config.translational_stiffness_npm,
            rotational_stiffness=config.rotational_stiffness_nmprad,
            translational_error_clip=np.full(3, config.error_clip_m),
            rotational_error_clip=np.full(3, config.error_clip_rad),
        )
        tracker = self._tracker

        def send(pose: np.ndarray) -> None:
            tracker.set_target(self._franky.Affine(pose[:3], pose[3:]))

        self._stream = SetPointStream(self._base, config.rate_hz, send)
        self._stream.start(_pose(robot.state.O_T_EE).tolist())

    def _end_motion(self) -> None:
        """Whatever moves comes to rest; what it raises was said before as a fault."""
        if self._stream is not None:
            self._stream.close()
        tracker, robot = self._tracker, self._robot
        self._stream = self._tracker = None
        moving, self._moving = self._moving, False
        try:
            if tracker is not None:
                tracker.stop()
            elif moving and robot is not None and robot.is_in_control:
                robot.move(self._franky.CartesianStopMotion(), asynchronous=True)
                robot.join_motion(2.0)
        except self._franky.Exception:
            pass

    def _let_go(self) -> None:
        self._awaits_person = True
        if self._stream is not None:
            self._stream.pause()

    def _ended(self) -> str:
        """Why the motion that should go on has ended; empty: it goes on, or there is none."""
        if self._tracker is None and not self._moving:
            return ""
        try:
            going_on = bool(self._robot.poll_motion())
        except self._franky.ControlException as error:
            return f"{_CAUSES['ControlException']}: {error}"
        return "" if going_on or self._tracker is None else "impedance control has ended"

    def _look_at_time(self, robot_s: float) -> None:
        before_s, heard_s = self._said
        now_s = time.monotonic()
        if robot_s != before_s:
            self._said = (robot_s, now_s)
        elif now_s - heard_s > self._config.max_age_s:
            self._let_go()
            raise ArmLost(f"{self._where()}: its state is the same for {now_s - heard_s:.2f} s; look at cable and FCI")

    def _width_now(self) -> float:
        if self._hand is None:
            return 0.0
        width_m, heard_s = self._width
        if time.monotonic() - heard_s > self._config.hand_max_age_s:
            raise ArmLost(
                f"{self._where()}: its hand is silent for over {self._config.hand_max_age_s:g} s; look at Desk"
            )
        return width_m

    def _watch_hand(self, hand: Any, closing: threading.Event) -> None:
        """In a thread: each reading of the hand waits for its next message."""
        while not closing.wait(HAND_PERIOD_S):
            try:
                self._width = float(hand.width), time.monotonic()
            except self._franky.Exception:
                continue  # its silence is told by `_width_now`

    def _move_fingers(self, width_m: float, superseded: threading.Event) -> None:
        """In the hand's own thread. Closing is a grasp: fingers that an object stops have succeeded."""
        config, hand = self._config, self._hand
        if width_m < self._width[0] - GRASP_MARGIN_M:
            wide = float(hand.max_width)
            future = hand.grasp_async(width_m, config.gripper_speed_mps, config.gripper_force_n, wide, wide)
        else:
            future = hand.move_async(width_m, config.gripper_speed_mps)
        while not future.wait(0.05):
            if superseded.is_set():
                hand.stop()
                return
        future.get()

    def _connected(self) -> Any:
        if self._robot is None:
            raise ArmLost(f"{self._where()}: not connected")
        return self._robot

    def _where(self) -> str:
        return f"Franka arm at {self._config.host}:{PORT}"

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Each error of libfranka with address, likely cause and fix."""
        try:
            yield
        except self._franky.Exception as error:
            kind = type(error).__name__
            self._let_go()
            cause = _CAUSES.get(kind, "look at its own page (Desk)")
            raise ArmLost(f"{self._where()}: {what} failed ({kind}: {error}): {cause}") from error


def _pose(affine: Any) -> np.ndarray:
    pose = [float(value) for part in (affine.translation, affine.quaternion) for value in np.ravel(part)]
    if problem := pose_problem(pose):
        raise ArmLost(f"the arm measures a pose that is none: {problem}")
    return np.array([*pose[:3], *quat_normalise(pose[3:])])


def _named(errors: Any) -> list[str]:
    return [name for name in dir(errors) if not name.startswith("_") and getattr(errors, name) is True]
