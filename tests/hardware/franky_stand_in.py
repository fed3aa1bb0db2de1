"""franky's API as the arm `franky` uses it, without an arm: a tool that is at once where its set-point is.

Names and parameters are those of the package; test_franky.py compares them with the installed one.
"""

from __future__ import annotations

import enum
import threading
import time
from typing import Any

import numpy as np


class Exception(__builtins__["Exception"] if isinstance(__builtins__, dict) else __builtins__.Exception):  # noqa: A001
    """Base of libfranka's."""


class NetworkException(Exception):
    """As the package's."""


class IncompatibleVersionException(Exception):
    """As the package's."""


class ControlException(Exception):
    """As the package's."""


class CommandException(Exception):
    """As the package's."""


class RobotMode(enum.Enum):
    """As the package's."""

    Other = 0
    Idle = 1
    Move = 2
    Guiding = 3
    Reflex = 4
    UserStopped = 5
    AutomaticErrorRecovery = 6


class RealtimeConfig(enum.Enum):
    """As the package's."""

    Enforce = 0
    Ignore = 1


class Frame(enum.Enum):
    """As the package's."""

    EndEffector = 1


class ReferenceType(enum.Enum):
    """As the package's."""

    Relative = 0
    Absolute = 1


class Affine:
    """As the package's."""

    def __init__(self, translation: Any = (0.0, 0.0, 0.0), quaternion: Any = (0.0, 0.0, 0.0, 1.0)) -> None:
        self.translation = np.array(translation, float)
        self.quaternion = np.array(quaternion, float)


class CartesianMotion:
    """As the package's."""

    def __init__(self, target: Affine, reference_type: ReferenceType = ReferenceType.Absolute) -> None:
        self.target, self.reference_type = target, reference_type


class CartesianStopMotion:
    """As the package's."""


class Duration:
    """As the package's."""

    def __init__(self, arg0: int) -> None:
        self._ms = arg0

    def to_sec(self) -> float:
        """s."""
        return self._ms / 1000.0


class Errors:
    """Two of the package's."""

    def __init__(self) -> None:
        self.cartesian_reflex = False
        self.joint_velocity_violation = False


class RobotState:
    """What the arm looks at."""

    def __init__(self, robot: Robot) -> None:
        self.O_T_EE = robot.at
        self.q = np.full(7, 0.1)
        self.dq = np.zeros(7)
        self.tau_J = np.full(7, 2.0)
        self.O_F_ext_hat_K = np.arange(6.0)
        self.robot_mode = robot.mode
        self.current_errors = Errors()
        self.current_errors.cartesian_reflex = robot.mode is RobotMode.Reflex
        if not robot.frozen:
            robot.ticks += 1
        self.time = Duration(robot.ticks)


class Model:
    """As the package's."""

    def zero_jacobian(self, frame: Frame, state: RobotState) -> np.ndarray:
        """float64[6, 7]."""
        return np.ones((6, 7))


class BoolFuture:
    """Done when the hand says so."""

    def __init__(self, done: threading.Event) -> None:
        self._done = done

    def wait(self, timeout: float | None = None) -> bool:
        """Whether it is done."""
        return self._done.wait(timeout)

    def get(self) -> bool:
        """The result."""
        return True


class Robot:
    """Records what it is told."""

    last: Robot | None = None
    refuses: Exception | None = None

    def __init__(
        self,
        fci_hostname: str,
        relative_dynamics_factor: float = 1.0,
        realtime_config: RealtimeConfig = RealtimeConfig.Enforce,
    ) -> None:
        if Robot.refuses is not None:
            raise Robot.refuses
        Robot.last = self
        self.said: list[tuple[str, tuple]] = [("connect", (fci_hostname, relative_dynamics_factor, realtime_config))]
        self.at = Affine([0.5, 0.0, 0.2], [1.0, 0.0, 0.0, 0.0])
        self.mode = RobotMode.Idle
        self.is_in_control = False
        self.frozen = False
        self.ticks = 0
        self.raises: Exception | None = None
        self.recovers = True

    @property
    def state(self) -> RobotState:
        """The newest."""
        if self.raises is not None:
            raise self.raises
        return RobotState(self)

    @property
    def model(self) -> Model:
        """Its model."""
        return Model()

    @property
    def has_errors(self) -> bool:
        """Whether it has."""
        return self.mode is RobotMode.Reflex

    def set_collision_behavior(self, torque_thresholds: Any, force_thresholds: Any) -> None:
        """As the package's."""
        self.said.append(("collision", (torque_thresholds, force_thresholds)))

    def set_load(self, load_mass: float, F_x_Cload: Any, load_inertia: Any) -> None:
        """As the package's."""
        self.said.append(("load", (load_mass, F_x_Cload, load_inertia)))

    def set_ee(self, NE_T_EE: Any) -> None:
        """As the package's."""
        self.said.append(("ee", tuple(NE_T_EE)))

    def move(self, motion: Any, asynchronous: bool = False) -> None:
        """As the package's; only asynchronous motion does not block the node."""
        assert asynchronous
        if self.mode not in (RobotMode.Idle, RobotMode.Move):
            raise CommandException("command not possible in the current mode")
        self.said.append(("move", (motion,)))
        if isinstance(motion, CartesianMotion):
            self.at, self.is_in_control, self.mode = motion.target, True, RobotMode.Move

    def poll_motion(self) -> bool:
        """As the package's."""
        if self.mode is RobotMode.Reflex:
            raise ControlException("motion aborted by reflex!")
        return self.is_in_control

    def join_motion(self, timeout: float | None = None) -> bool:
        """As the package's."""
        return True

    def recover_from_errors(self) -> bool:
        """As the package's."""
        self.said.append(("recover", ()))
        if self.recovers:
            self.mode = RobotMode.Idle
        return self.recovers

    def reflex(self) -> None:
        """A collision."""
        self.mode, self.is_in_control = RobotMode.Reflex, False

    def count(self, what: str) -> int:
        """How often it was told."""
        return sum(name == what for name, _ in self.said)


class CartesianImpedanceTracker:
    """As the package's."""

    def __init__(
        self,
        robot: Robot,
        *,
        translational_stiffness: float | None = None,
        rotational_stiffness: float | None = None,
        translational_error_clip: np.ndarray | None = None,
        rotational_error_clip: np.ndarray | None = None,
    ) -> None:
        robot.said.append(("track", (translational_stiffness, rotational_stiffness)))
        robot.is_in_control, robot.mode = True, RobotMode.Move
        self._robot = robot
        self._robot.targets = [robot.at]  # type: ignore[attr-defined]

    def set_target(self, pose: Affine) -> None:
        """As the package's."""
        self._robot.targets.append(pose)  # type: ignore[attr-defined]
        self._robot.at = pose

    def stop(self) -> None:
        """As the package's."""
        if self._robot.mode is RobotMode.Reflex:
            raise ControlException("motion aborted by reflex!")
        self._robot.is_in_control, self._robot.mode = False, RobotMode.Idle


class Gripper:
    """Its goals last until the test ends them."""

    last: Gripper | None = None

    def __init__(self, fci_hostname: str) -> None:
        Gripper.last = self
        self.width = 0.08
        self.max_width = 0.08
        self.said: list[tuple] = []
        self.told = threading.Condition()
        self.done = threading.Event()

    def _say(self, *what: Any) -> None:
        with self.told:
            self.said.append(what)
            self.told.notify_all()

    def grasp_async(
        self, width: float, speed: float, force: float, epsilon_inner: float = 0.005, epsilon_outer: float = 0.005
    ) -> BoolFuture:
        """As the package's."""
        self.done = threading.Event()
        self._say("grasp", width, speed, force, epsilon_inner, epsilon_outer)
        return BoolFuture(self.done)

    def move_async(self, width: float, speed: float) -> BoolFuture:
        """As the package's."""
        self.done = threading.Event()
        self._say("move", width, speed)
        return BoolFuture(self.done)

    def stop(self) -> bool:
        """As the package's."""
        self._say("stop")
        return True

    def until(self, *what: str) -> None:
        """Wait until these were the calls, by name."""
        deadline_s = time.monotonic() + 60.0
        with self.told:
            while [said[0] for said in self.said] != list(what):
                assert self.told.wait(max(0.0, deadline_s - time.monotonic())), f"{self.said}, expected {what}"
