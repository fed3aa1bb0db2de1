"""The commanded pose: where it begins, how an action moves it, and that no Target leaves without the last check."""

from __future__ import annotations

import math
from collections.abc import Sequence

from inril_core.contract import Contract
from inril_core.safety.joint_model import JointModel, JointSample
from inril_core.safety.last_check import TargetLimits, violation
from inril_core.safety.limits import ActionLimiter, Limited
from inril_core.safety.measured import MeasuredPose
from inril_core.transforms import Vector3, quat_difference, within_turn

FOLLOWING_ERROR = 10.0
"""Nothing moves while the arm is further than this many wind-ups from its last Target: something else moved it.

An action cannot press: the limiter lets a step enlarge the lead up to one wind-up only. A larger lead means that the
arm was moved, is blocked while it turns, or cannot reach the Target; in the simulated cell random actions reach 7.
"""

FOLLOWING_ERRORS_IN_A_ROW = 3
"""So many actions in a row that could not move for it are a fault."""


class Command:
    """The pose of the last Target. Only `begin`, at the measured pose, and `move` with `check`, within limits, set it.

    A hold is the last Target once more: it takes no measurement, so it does not follow an arm that sags.
    """

    def __init__(self, contract: Contract, joint_model: JointModel | None = None) -> None:
        self._limiter = ActionLimiter(contract, joint_model)
        self._limits = TargetLimits.of(contract)
        self._far_m = FOLLOWING_ERROR * contract.action.windup_translation_m
        self._far_rad = FOLLOWING_ERROR * contract.action.windup_rotation_rad
        self.measured = MeasuredPose(contract)
        self.size = self._limiter.size
        self.far_n = 0
        """Actions in a row that could not move because the arm is far from its last Target."""
        self._pose: tuple[float, ...] | None = None
        self._before: tuple[float, ...] | None = None  # of the Target before the last one
        self._has_left = False  # as a Target
        self._since_ns = 0
        self._late_ns = round(contract.staleness.robot_state_s * 1e9)

    @property
    def pose(self) -> tuple[float, ...] | None:
        """Of the last Target: 7, m and xyzw, base frame; None where commanding has to begin first."""
        return self._pose

    @property
    def gripper_width_m(self) -> float:
        """As `ActionLimiter.gripper_width_m`."""
        return self._limiter.gripper_width_m

    @property
    def still(self) -> tuple[float, ...]:
        """As `ActionLimiter.still`."""
        return self._limiter.still

    def end(self) -> None:
        """Commanding ends; the next Target waits for `begin`."""
        self._limiter.forget()
        self._pose = self._before = None
        self._has_left = False
        self._since_ns = 0
        self.far_n = 0

    def end_episode(self, since_ns: int) -> None:
        """As `end`: what the last episode asked of the gripper no longer counts either.

        since_ns: stamp before which measurements are of the time before the cell was laid out. One that is older by
        more than the contract lets a state be is not old: its clock was set.
        """
        self.end()
        self._limiter.begin()
        self._since_ns = since_ns

    def begin(self) -> str | None:
        """Command the measured pose as long as no Target has left. Why that cannot be; None: nothing speaks against it.

        Without a measurement, with one from before the cell was laid out, or while one is doubted, commanding does not
        begin.
        """
        if self._has_left:
            return None
        measured, self._pose = self.measured, None
        is_old = 0 < self._since_ns - measured.stamp_ns <= self._late_ns
        if measured.pose is None or measured.refused_n or is_old:
            return None
        reason = measured.too_far_to_start()
        if reason is None:
            self._limiter.reference(measured.pose)
            self._pose = measured.pose
        return reason

    def saw_joints(self, sample: JointSample) -> None:
        """As `ActionLimiter.saw_joints`."""
        self._limiter.saw_joints(sample)

    def joints_doubt(self) -> str | None:
        """As `ActionLimiter.joints_doubt`."""
        return self._limiter.joints_doubt()

    def move(self, action: Sequence[float], handed_over: bool = False) -> Limited | None:
        """What the limits leave of a finite action (A numbers, contract units); `check` then makes it the last Target.

        handed_over: control has just changed hands, see `inril_core.safety.handover`.
        None: nothing may move, because no pose is commanded or measured, the newest measurement is doubted, or the arm
        is too far from the commanded pose.
        """
        measured = self.measured.pose
        if self._pose is None or measured is None or self.measured.refused_n:
            return None
        near = math.dist(self._pose[:3], measured[:3]) <= self._far_m
        if not (near and within_turn(self._pose[3:], measured[3:], self._far_rad)):
            self.far_n += 1
            return None
        self.far_n = 0
        self._limiter.measured_ns = self.measured.stamp_ns
        return self._limiter.apply(action, measured, self._motion() if handed_over else None)

    def _motion(self) -> tuple[Vector3, Vector3]:
        """Step (m) and turn (rad) from the Target before the last one to the last one."""
        assert self._pose is not None
        if self._before is None:
            return (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)
        x, y, z = (now - was for now, was in zip(self._pose[:3], self._before[:3], strict=True))
        return (x, y, z), quat_difference(self._pose[3:], self._before[3:])

    def check(self, pose: Sequence[float]) -> str | None:
        """The last check of a Target. None: it passed and is the last Target from now on; otherwise the rule broken."""
        assert self._pose is not None
        wrong = violation(self._limits, self._pose, pose, self._limiter.gripper_width_m, self._before)
        if wrong is None:
            if pose is self._pose:
                self._limiter.rest()
            self._before = self._pose
            self._pose, self._has_left = tuple(pose), True
        else:
            self._limiter.reference(self._pose)
        return wrong
