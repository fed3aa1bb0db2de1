"""The simulated arm and its cell, as a node: what a robot_node, a perception and cameras would publish.

Over 400 lines: every message of the cell is read and written here; `ArmDriver` decides what the arm follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from inril_common.convert import (
    array_to_pose,
    array_to_twist,
    ns_to_stamp,
    pose_to_array,
    stamp_to_ns,
)
from inril_common.node import InrilNode
from inril_common.process import run_node
from inril_common.qos import CLOCK, LATCHED, TICK
from inril_msgs.msg import CellTruth, PartPoses, RobotState, SafetyPermit, Target
from inril_msgs.srv import Arm, ResetCell
from rosgraph_msgs.msg import Clock as ClockMessage

from inril_core.control.measurement import BadMeasurement, check_frame
from inril_core.errors import ConfigError, InrilError
from inril_core.hardware.arms import base as arms
from inril_core.hardware.arms.base import ArmLost, ArmState
from inril_core.hardware.cameras import base as cameras
from inril_core.hardware.driver import ArmDriver, TargetCommand
from inril_core.plugins import check_made
from inril_core.settings import read_settings
from inril_core.sim.cell import CellState
from inril_core.sim.part_noise import PartNoise, PartTracker, noise_of
from inril_core.vocabulary import Purpose
from inril_hardware.camera_topics import CameraTopics

REOPEN_NS = 1_000_000_000
"""Between two attempts to reach an arm or a camera that was lost."""
SIMULATED_START_NS = 1_000_000_000
CLOCK_PIECES = 10  # /clock messages per control period
IDLE_PERIOD_S = 0.2
"""Between states in lockstep before the first reset: who joins late must hear one."""
NOT_MEASURED = np.full(6, np.nan)


@dataclass
class _Camera:
    """A camera of the cell and what draws its images."""

    name: str
    source: cameras.CameraSource
    topics: CameraTopics
    reopen_ns: int | None = None
    """When to try again to open it; None: it is open."""


class SimCell(InrilNode):
    """Publishes robot_state, part_poses, cell_truth and the images of its cameras.

    In lockstep (`real_time_factor` 0) a Target moves the cell by one period; where none comes for
    `lockstep_timeout_s` it advances in hold, so that a dead node never freezes the graph. At factor 1 a steady timer
    paces it, a period begins when its Target comes, and stamps are the ROS clock's. At any other factor, lockstep too,
    it publishes /clock.

    Another arm can be named instead of the simulated one (`arm`); cameras that are not of the cell are camera_node's.
    An arm that is not
    simulated needs `simulated_cell` false, as `robot_node` of a graph has it; it runs in real time, and somebody else
    publishes /part_poses where the task looks at parts.

    `part_noise` makes part_poses those of a tracker: stamps are the times of measurement, and a period may have none.
    """

    def __init__(self) -> None:
        super().__init__("sim_cell")
        self._driver: ArmDriver | None = None
        self._cameras: list[_Camera] = []

    def setup(self) -> None:
        """Build the cell, draw one picture where pictures will be due, and offer the services."""
        self.contract = self.contract_param()
        self._factor = self.param("real_time_factor", 0.0, "0: lockstep; N: N times real time", 0.0, 100.0)
        timeout_s = self.contract.staleness.target_s
        lockstep_timeout_s = self.param(
            "lockstep_timeout_s", 5.0, "s without a Target before a period passes in hold", 0.05, 60.0
        )
        self._lockstep = self._factor == 0.0
        self._lockstep_timeout_ns = round(lockstep_timeout_s * 1e9)
        self._driver = self._make_driver(round(timeout_s * 1e9))
        self._parts_per_period = 1
        """The state of an arm that is not simulated is published at the end of each."""
        self._part, self._passed_mono_ns = 0, self.mono_ns()
        """How many have passed since the period began, and until when they have been let pass."""
        state_rate_hz = self.param(
            "state_rate_hz",
            100.0,
            "states a second of an arm that is not simulated; of a simulated one at most so many steps",
            1.0,
            500.0,
        )
        if self._factor == 1.0:
            most = max(1, round(state_rate_hz / self.contract.control_rate_hz))
            arm = self._driver.hardware
            self._parts_per_period = arm.cut_periods(most) if arm.simulated else most
        self._target_came = self._images_due = False
        noise = self.param(
            "part_noise", "", "how a tracker sees the parts, a YAML mapping; empty: as the contract says"
        )
        given = read_settings(PartNoise, noise, "part_noise") if noise else noise_of(self.contract)
        self._tracker = PartTracker(given)
        self._parts_stamp = Time()
        self._arm_reopen_ns: int | None = None
        self._seq, self._published_mono_ns = 0, 0
        self._stamp_ns = SIMULATED_START_NS - self.contract.period_ns
        self._make_publishers()
        self._make_cameras()
        self.create_subscription(Target, "target", self._on_target, TICK)
        # in lockstep the cell waits for a Target; in real time none comes before the first arming
        self._target_link = self.link("target", timeout_s, lambda: self._lockstep or self._target_link.total == 0)
        self.create_service(ResetCell, "cell/reset", self._on_reset)
        self.create_service(Arm, "robot/arm", self._on_arm)
        self._timers_of_cell: list[Any] = []

    def _make_driver(self, timeout_ns: int) -> ArmDriver:
        name = self.param("arm", "simulated", "arm: its name, or MODULE:CLASS of one of your own")
        settings = self.param("arm_settings", "", "settings of the arm, a YAML mapping")
        simulated = self.param("simulated_cell", True, "the arm is a simulated one")
        config = arms.arm_config(name, settings)
        arm = config.build(self.contract)
        check_made(arm, arms.Arm, f"arm = {name!r}")
        if simulated and not arm.simulated:
            raise ConfigError(
                f"arm = {name!r} is not simulated, and this graph's cell is; write robot_node instead of sim_cell in "
                "the graph file, so that nothing meant for a simulated cell reaches the arm"
            )
        if not arm.simulated and self._factor != 1.0:
            raise ConfigError(f"arm = {name!r} is not simulated: it runs in real time; set real_time_factor to 1")
        permit_ns = None
        if self.param("expects_monitor", False, "without safety_monitor's permit the arm follows nothing"):
            # a simulated cell that runs as fast as it can must not stop because the machine is busy
            permit_ns = max(round(self.contract.staleness.monitor_s * 1e9), self._lockstep * self._lockstep_timeout_ns)
            self.create_subscription(SafetyPermit, "safety_permit", self._on_permit, LATCHED)
        driver = ArmDriver(arm, self._lockstep, timeout_ns, config.delay_steps, permit_ns)
        arm.open()
        return driver

    def start(self) -> None:
        """Make the cell ready once, so that a measured state exists, and begin to publish."""
        if not self._driver.reset_id:
            self._driver.hardware.reset(0, "train")
        self._publish(self._driver.hardware.measure())
        if self._lockstep:
            self._timers_of_cell.append(self.steady_timer(self._lockstep_timeout_ns / 10e9, self._on_lockstep_timer))
            self._timers_of_cell.append(self.steady_timer(IDLE_PERIOD_S, self._on_idle_timer))
            return
        period_s = 1.0 / self.contract.control_rate_hz / self._factor
        self._timers_of_cell.append(self.steady_timer(period_s / self._parts_per_period, self._on_period))
        if self._factor != 1.0:
            self._timers_of_cell.append(self.steady_timer(period_s / CLOCK_PIECES, self._publish_clock))

    def stop(self) -> None:
        """Cease to publish; physics stands still."""
        for timer in self._timers_of_cell:
            self.destroy_timer(timer)
        self._timers_of_cell = []

    def teardown(self) -> None:
        """Give back cameras, renderer and arm."""
        for camera in self._cameras:
            camera.source.close()
        if self._driver is not None:
            self._driver.hardware.close()

    def _make_publishers(self) -> None:
        self._robot = self.create_publisher(RobotState, "robot_state", TICK)
        if self._driver.hardware.simulated:
            self._parts = self.create_publisher(PartPoses, "part_poses", TICK)
            self._truth = self.create_publisher(CellTruth, "cell_truth", TICK)
        self._clock_publisher = self.create_publisher(ClockMessage, "/clock", CLOCK) if self._factor != 1.0 else None
        self._cameras = []

    def _make_cameras(self) -> None:
        """Make the sources and read each once: a machine without OpenGL says so now, not in mid-episode."""
        sizes = cameras.least_sizes(self.contract)
        calibration = Path(self.param("calibration", "calibration", "folder of the stored calibrations"))
        chosen = self.param("cameras", "", "sources of cameras, a YAML mapping {CAMERA: {source: NAME, ...}}")
        for name, config in cameras.camera_configs(self.contract, chosen).items():
            if not config.of_the_cell:
                continue
            source = config.build(name, *sizes[name], self._driver.hardware)
            check_made(source, cameras.CameraSource, f"cameras.{name}")
            self._cameras.append(_Camera(name, source, CameraTopics(self, name, calibration)))
            if self._driver.hardware.simulated:
                self._driver.hardware.reset(0, "train")
            source.open()
            source.read()

    def _on_target(self, message: Target) -> None:
        mono_ns = self.mono_ns()
        self._target_link.saw(mono_ns)
        if not self.active:
            return
        try:
            check_frame(message.header.frame_id, self.contract.base_frame)
        except BadMeasurement as error:
            self.diagnostics.refuse(self._target_link, str(error))
            return
        target = TargetCommand(
            message.boot_id,
            message.k,
            message.episode_id,
            pose_to_array(message.pose).tolist(),
            message.gripper_width_m,
            message.hold,
            stamp_to_ns(message.valid_until),
        )
        if not self._driver.offer(target, self._now_ns(), mono_ns):
            return
        if self._lockstep:
            self._publish(self._driver.lockstep_period())
        else:
            self._target_came = True

    def _on_permit(self, message: SafetyPermit) -> None:
        reasons = () if message.permitted else tuple(message.reasons) or ("no permit",)
        held = self._driver.needs_rearm
        self._driver.on_permit(message.boot_id, reasons, self.mono_ns())
        if self._driver.needs_rearm and not held:
            why = "; ".join(reasons) or "it was started again"
            self.get_logger().error(f"stopped by safety_monitor: {why}; look at the arm, then `inril arm`")

    def _on_lockstep_timer(self) -> None:
        if self.mono_ns() - self._published_mono_ns >= self._lockstep_timeout_ns:
            self._publish(self._driver.hold_period())

    def _on_idle_timer(self) -> None:
        if not self._driver.reset_id:
            self._publish(self._driver.hardware.measure())

    def _on_period(self) -> None:
        """A part of a period. A period begins when a Target came, or with the last one again where none comes.

        A simulated arm's state is published near the next tick alone: earlier ones would cost, and be late news there.
        """
        mono_ns = self.mono_ns()
        parts = self._parts_due(mono_ns)
        self._part += parts
        begins = self._target_came or self._part >= self._parts_per_period + self._parts_per_period // 2
        overdue = begins and self._images_due
        if begins:
            self._part, self._target_came, self._images_due = 0, False, True
        # not so near that a Target which comes early takes its turn
        near_tick = self._part >= self._parts_per_period - 2
        held = self._driver.needs_rearm
        try:
            self._find_arm()
            for _ in range(parts - 1):
                self._driver.run_part(mono_ns)
            state = self._driver.run_period(mono_ns) if begins else self._driver.run_part(mono_ns)
        except Exception as error:  # code of somebody else: whatever it raises, the arm is not heard now
            self._lose_arm(error)
            return
        if self._driver.needs_rearm and not held:
            why = state.fault or self._driver.denied_by_monitor(self.mono_ns()) or "no Target in time"
            self.get_logger().error(f"{why}: the arm holds; look at it, then `inril arm`")
        elif self._driver.hardware.simulated and not (begins if self._driver.waits else near_tick or overdue):
            return
        images = overdue or (self._images_due and near_tick)
        self._images_due = overdue or (self._images_due and not images)
        self._publish(state, images=images)

    def _parts_due(self, mono_ns: int) -> int:
        """Parts of a period that have passed: more than one where this thread came late, at most a period."""
        part_ns = self.contract.period_ns // self._parts_per_period
        if not self._driver.hardware.simulated or self._parts_per_period == 1:
            return 1
        due = max(1, (mono_ns - self._passed_mono_ns + part_ns // 2) // part_ns)
        self._passed_mono_ns = mono_ns if due > self._parts_per_period else self._passed_mono_ns + due * part_ns
        return int(min(due, self._parts_per_period))

    def _on_reset(self, request: ResetCell.Request, response: ResetCell.Response) -> ResetCell.Response:
        """A simulated cell is laid out within the call: it never answers `working`, and has nothing to cancel."""
        try:
            if other := self.meant_for_another(request.graph_id, stop=request.cancel):
                raise InrilError(other)
            if request.cancel:
                response.success = True
                return response
            if not self.active:
                raise InrilError(f"{self.get_name()} is not active; see `inril status`")
            purpose, starts = Purpose.of(request.purpose).word, request.starts
            starts_word = "" if starts == Purpose.NONE else Purpose.of(starts).word
            state = self._driver.reset(request.seed, request.reset_id, purpose, starts_word)
        except ArmLost as error:
            self._lose_arm(error)
            response.message = f"the arm is lost: {error}"
            return response
        except (InrilError, ValueError) as error:
            response.message = str(error)
            return response
        except Exception as error:  # code of somebody else
            self._lose_arm(error)
            response.message = f"the arm is lost: {type(error).__name__}: {error}"
            return response
        self._tracker.reset(request.seed)
        self._publish(state)
        response.success, response.stamp = True, ns_to_stamp(self._stamp_ns)
        return response

    def _on_arm(self, request: Arm.Request, response: Arm.Response) -> Arm.Response:
        response.message = self.meant_for_another(request.graph_id, stop=not request.arm)
        if response.message:
            return response
        before = self._driver.needs_rearm
        response.success, response.message = self._driver.arm(request.arm, request.operator_name, self.mono_ns())
        if self.active and self._driver.needs_rearm != before:
            try:
                self._publish_at_once()
            except Exception as error:  # code of somebody else
                self._lose_arm(error)
                response.success = not request.arm
                response.message = response.message or f"the arm is lost: {error}"
        return response

    def _publish_at_once(self) -> None:
        """The arbiter refuses to be armed until it hears that the arm's own watchdog lets go."""
        if self._lockstep:
            self._publish(self._driver.hold_period())
        else:
            stamp_ns = self._between_states_ns()
            if self._factor == 1.0:
                self._stamp_ns = stamp_ns
            self._publish(self._driver.measure(), stamp_ns)

    def _now_ns(self) -> int:
        return self.ros_ns() if self._factor == 1.0 else self._stamp_ns

    def _publish(self, state: ArmState, stamp_ns: int | None = None, images: bool = True) -> None:
        """Publish one state, of a new period unless a stamp is given: later than any before, also over resets.

        A measurement that is no newer than the last one is not published again: what repeats must look silent.
        """
        if stamp_ns is None:
            measured_ns = self.ros_ns() if state.stamp_ns is None else state.stamp_ns
            stamp_ns = measured_ns if self._factor == 1.0 else self._stamp_ns + self.contract.period_ns
            if state.stamp_ns is not None and stamp_ns <= self._stamp_ns:
                if images:
                    self._publish_images(self._stamp_ns)
                return
            self._stamp_ns = stamp_ns
            self._published_mono_ns = self.mono_ns()
        if self._clock_publisher is not None:
            self._clock_publisher.publish(ClockMessage(clock=ns_to_stamp(stamp_ns)))
        stamp = ns_to_stamp(stamp_ns)
        robot = RobotState(boot_id=self.boot_id, seq=self._seq, gripper_width_m=state.gripper_width_m)
        robot.tool_pose, robot.tool_twist = array_to_pose(state.tool_pose), array_to_twist(state.tool_twist)
        robot.joint_position_rad = state.joint_position_rad
        robot.joint_velocity_radps = state.joint_velocity_radps
        robot.joint_torque_nm = state.joint_torque_nm
        if state.external_wrench is None:
            robot.external_wrench = NOT_MEASURED
        else:
            robot.external_wrench = state.external_wrench
        robot.mode, robot.fault = state.mode, state.fault
        robot.holding, robot.needs_rearm = self._driver.holding, self._driver.needs_rearm
        robot.simulated = self._driver.hardware.simulated
        self._seq += 1
        robot.header.stamp, robot.header.frame_id = stamp, self.contract.base_frame
        cell = self._cell_messages(state, stamp_ns) if isinstance(state, CellState) else ()
        if images:
            self._publish_images(stamp_ns)
        for message, publisher in (
            *cell,
            (robot, self._robot),
        ):  # at once, the arm's state last: it wakes who joins them
            publisher.publish(message)

    def _cell_messages(self, state: CellState, stamp_ns: int) -> list[tuple[Any, Any]]:
        """What only a simulated cell knows, and what a tracker says of its parts."""
        messages: list[tuple[Any, Any]] = []
        measured = self._tracker.measure(stamp_ns, state.parts)
        if measured is not None:
            self._parts_stamp = ns_to_stamp(measured[0])
            parts = PartPoses(names=list(measured[1]), poses=[array_to_pose(pose) for pose in measured[1].values()])
            parts.header.stamp, parts.header.frame_id = self._parts_stamp, self.contract.base_frame
            messages.append((parts, self._parts))
        truth = CellTruth(reset_id=self._driver.reset_id, step=state.step, qpos=state.qpos.tolist())
        truth.success, truth.failed, truth.reason = state.success, state.failed, state.reason
        truth.header.stamp, truth.header.frame_id = ns_to_stamp(stamp_ns), self.contract.base_frame
        truth.part_poses_stamp = self._parts_stamp
        return [(truth, self._truth), *messages]

    def _publish_images(self, state_stamp_ns: int) -> None:
        for camera in self._cameras:
            if not self._is_due(camera.name):
                continue
            mono_ns = self.mono_ns()
            try:
                if camera.reopen_ns is not None:
                    if mono_ns < camera.reopen_ns:
                        continue
                    camera.source.close()
                    camera.source.open()
                    camera.reopen_ns = None
                frame = camera.source.read()
                if frame is None:
                    continue
                stamp = ns_to_stamp(state_stamp_ns if frame.stamp_ns is None else frame.stamp_ns)
                camera.topics.publish(frame.pixels, stamp, camera.source.serial)
            except Exception as error:  # code of somebody else: whatever it raises, the arm's state goes on
                camera.reopen_ns = mono_ns + REOPEN_NS
                self.get_logger().error(f"camera {camera.name} is lost ({type(error).__name__}: {error}); tried again")

    def _find_arm(self) -> None:
        """Connect again to an arm that was lost."""
        if self._arm_reopen_ns is not None:
            if self.mono_ns() < self._arm_reopen_ns:
                raise ArmLost("it is tried again in a moment")
            self._driver.hardware.reopen()
            self._arm_reopen_ns = None

    def _lose_arm(self, error: Exception) -> None:
        """Silence is what the arbiter's watchdog hears; a person arms the arm again once it is back."""
        self._driver.needs_rearm = True
        if self._arm_reopen_ns is None or self.mono_ns() >= self._arm_reopen_ns:
            self._arm_reopen_ns = self.mono_ns() + REOPEN_NS
            cause = str(error) if isinstance(error, ArmLost) else f"{type(error).__name__}: {error}"
            self.get_logger().error(f"the arm is lost: {cause}")

    def _is_due(self, camera: str) -> bool:
        purpose = self._driver.purpose
        return bool(self._driver.reset_id) and any(
            field.camera == camera and field.due(purpose) for field in self.contract.images
        )

    def _between_states_ns(self) -> int:
        """Time between two states; simulated time never runs ahead of the next one."""
        if self._factor == 1.0:
            return self.ros_ns()
        elapsed_ns = round((self.mono_ns() - self._published_mono_ns) * self._factor)
        return self._stamp_ns + min(elapsed_ns, self.contract.period_ns - 1)

    def _publish_clock(self) -> None:
        self._clock_publisher.publish(ClockMessage(clock=ns_to_stamp(self._between_states_ns())))


def main() -> None:
    """Entry point."""
    run_node(SimCell)


if __name__ == "__main__":
    main()
