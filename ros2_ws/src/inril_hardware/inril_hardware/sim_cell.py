"""The simulated arm and its cell, as a node: what a robot_node, a perception and cameras would publish."""

from __future__ import annotations

from typing import Any

from inril_common.convert import (
    array_to_image,
    array_to_pose,
    array_to_twist,
    ns_to_stamp,
    pose_to_array,
    stamp_to_ns,
)
from inril_common.node import InrilNode, run_node
from inril_common.qos import CLOCK, TICK
from inril_msgs.msg import CellTruth, Observation, PartPoses, RobotState, Target
from inril_msgs.srv import Arm, ResetCell
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import Image

from inril_core.errors import InrilError
from inril_core.sim.cell import Cell, CellState
from inril_core.sim.driver import CellDriver, TargetCommand

PURPOSE_NAMES = {
    Observation.PURPOSE_DEMO: "demo",
    Observation.PURPOSE_TRAIN: "train",
    Observation.PURPOSE_EVAL: "eval",
}
SIMULATED_START_NS = 1_000_000_000
CLOCK_PIECES = 10  # /clock messages per control period
IDLE_PERIOD_S = 0.2
"""Between states in lockstep before the first reset: who joins late must hear one."""


class SimCell(InrilNode):
    """Publishes /robot_state, /part_poses, /cell_truth and /camera/<name>/image, one stamp per period.

    In lockstep (`real_time_factor` 0) a Target moves the cell by one period; where none comes for
    `lockstep_timeout_s` it advances in hold, so that a dead node never freezes the graph. At factor 1 a
    steady timer paces it and stamps are the ROS clock's; at any other factor, lockstep too, it publishes /clock.
    """

    def __init__(self) -> None:
        super().__init__("sim_cell")

    def setup(self) -> None:
        """Build the cell, draw one picture where pictures will be due, and offer the services."""
        self.contract = self.contract_param()
        self._factor = self.param("real_time_factor", 0.0, "0: lockstep; N: N times real time", 0.0, 100.0)
        self.param("run_dir", "runs/run", "folder of this run")
        timeout_s = self.param(
            "target_timeout_s",
            self.contract.staleness.target_s,
            "s of silence before the arm holds",
            0.01,
            60.0,
        )
        lockstep_timeout_s = self.param(
            "lockstep_timeout_s", 5.0, "s without a Target before a period passes in hold", 0.05, 60.0
        )
        delay_steps = self.param("action_delay_steps", 0, "control periods by which targets act later", 0, 100)
        self._lockstep = self._factor == 0.0
        self._lockstep_timeout_ns = round(lockstep_timeout_s * 1e9)
        self._driver = CellDriver(Cell(self.contract), self._lockstep, round(timeout_s * 1e9), delay_steps)
        self._seq, self._published_mono_ns = 0, 0
        self._stamp_ns = SIMULATED_START_NS - self.contract.period_ns
        self._make_publishers()
        self._try_cameras()
        self.create_subscription(Target, "target", self._on_target, TICK)
        self._target_link = self.link("target", timeout_s)
        self.create_service(ResetCell, "cell/reset", self._on_reset)
        self.create_service(Arm, "robot/arm", self._on_arm)
        self._timers_of_cell: list[Any] = []

    def start(self) -> None:
        """Lay the cell out once, so that a measured state exists, and begin to publish."""
        if not self._driver.reset_id:
            self._driver.reset(0, "", "train")
        self._publish(self._driver.cell.state)
        if self._lockstep:
            self._timers_of_cell.append(self.steady_timer(self._lockstep_timeout_ns / 10e9, self._on_lockstep_timer))
            self._timers_of_cell.append(self.steady_timer(IDLE_PERIOD_S, self._on_idle_timer))
            return
        period_s = 1.0 / self.contract.control_rate_hz / self._factor
        self._timers_of_cell.append(self.steady_timer(period_s, self._on_period))
        if self._factor != 1.0:
            self._timers_of_cell.append(self.steady_timer(period_s / CLOCK_PIECES, self._publish_clock))

    def stop(self) -> None:
        """Cease to publish; physics stands still."""
        for timer in self._timers_of_cell:
            self.destroy_timer(timer)
        self._timers_of_cell = []

    def teardown(self) -> None:
        """Give back the renderer."""
        driver = getattr(self, "_driver", None)
        if driver is not None:
            driver.cell.close()

    def _make_publishers(self) -> None:
        self._robot = self.create_publisher(RobotState, "robot_state", TICK)
        self._parts = self.create_publisher(PartPoses, "part_poses", TICK)
        self._truth = self.create_publisher(CellTruth, "cell_truth", TICK)
        self._clock_publisher = self.create_publisher(ClockMessage, "/clock", CLOCK) if self._factor != 1.0 else None
        self._cameras: dict[str, tuple[int, int, Any]] = {}
        for field in self.contract.images:
            left, top, width_px, height_px = field.crop_px or (0, 0, field.width_px, field.height_px)
            known = self._cameras.get(field.camera, (0, 0, None))
            publisher = known[2] or self.create_publisher(Image, f"camera/{field.camera}/image", TICK)
            size = max(known[0], left + width_px), max(known[1], top + height_px)
            self._cameras[field.camera] = (*size, publisher)

    def _try_cameras(self) -> None:
        """Draw with every camera once: a machine without OpenGL says so now, not in mid-episode."""
        for camera, (width_px, height_px, _) in self._cameras.items():
            self._driver.cell.reset(0)
            self._driver.cell.render(camera, width_px, height_px)

    def _on_target(self, message: Target) -> None:
        mono_ns = self.mono_ns()
        self._target_link.saw(mono_ns)
        if not self.active:
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

    def _on_lockstep_timer(self) -> None:
        if self.mono_ns() - self._published_mono_ns >= self._lockstep_timeout_ns:
            self._publish(self._driver.hold_period())

    def _on_idle_timer(self) -> None:
        if not self._driver.reset_id:
            self._publish(self._driver.cell.state)

    def _on_period(self) -> None:
        held = self._driver.needs_rearm
        state = self._driver.run_period(self.mono_ns())
        if self._driver.needs_rearm and not held:
            self.get_logger().error("no Target in time: the arm holds; look at it, then `inril arm`")
        self._publish(state)

    def _on_reset(self, request: ResetCell.Request, response: ResetCell.Response) -> ResetCell.Response:
        """A simulated cell is laid out within the call: it never answers `working`, and has nothing to cancel."""
        if request.cancel:
            response.success = True
            return response
        try:
            if other := self.meant_for_another(request.graph_id):
                raise InrilError(other)
            if not self.active:
                raise InrilError("sim_cell is not active; see `inril status`")
            if request.purpose not in PURPOSE_NAMES:
                raise InrilError(f"purpose = {request.purpose}: give one of {PURPOSE_NAMES}")
            state = self._driver.reset(request.seed, request.reset_id, PURPOSE_NAMES[request.purpose])
        except InrilError as error:
            response.success, response.message = False, str(error)
            return response
        self._publish(state)
        response.success, response.stamp = True, ns_to_stamp(self._stamp_ns)
        return response

    def _on_arm(self, request: Arm.Request, response: Arm.Response) -> Arm.Response:
        response.message = self.meant_for_another(request.graph_id, stop=not request.arm)
        if response.message:
            return response
        before = self._driver.needs_rearm
        response.success, response.message = self._driver.arm(request.arm, request.operator_name)
        if self.active and self._driver.needs_rearm != before:
            self._publish_at_once()
        return response

    def _publish_at_once(self) -> None:
        """The arbiter refuses to be armed until it hears that the arm's own watchdog lets go."""
        if self._lockstep:
            self._publish(self._driver.hold_period())
        else:
            self._publish(self._driver.cell.state, self._between_states_ns())

    def _now_ns(self) -> int:
        return self.ros_ns() if self._factor == 1.0 else self._stamp_ns

    def _publish(self, state: CellState, stamp_ns: int | None = None) -> None:
        """Publish one state, of a new period unless a stamp is given: later than any before, also over resets."""
        if stamp_ns is None:
            self._stamp_ns = self.ros_ns() if self._factor == 1.0 else self._stamp_ns + self.contract.period_ns
            self._published_mono_ns = self.mono_ns()
            stamp_ns = self._stamp_ns
        if self._clock_publisher is not None:
            self._clock_publisher.publish(ClockMessage(clock=ns_to_stamp(stamp_ns)))
        stamp = ns_to_stamp(stamp_ns)
        for camera, (width_px, height_px, publisher) in self._cameras.items():
            if self._is_due(camera):
                pixels = self._driver.cell.render(camera, width_px, height_px)
                publisher.publish(array_to_image(pixels, stamp, frame_id=f"camera_{camera}"))
        parts = PartPoses(names=list(state.parts), poses=[array_to_pose(pose) for pose in state.parts.values()])
        truth = CellTruth(reset_id=self._driver.reset_id, step=state.step, qpos=state.qpos.tolist())
        truth.success, truth.failed, truth.reason = state.success, state.failed, state.reason
        robot = RobotState(boot_id=self.boot_id, seq=self._seq, gripper_width_m=state.gripper_width_m)
        robot.tool_pose, robot.tool_twist = array_to_pose(state.tool_pose), array_to_twist(state.tool_twist)
        robot.joint_position_rad = state.joint_position_rad
        robot.joint_velocity_radps = state.joint_velocity_radps
        robot.joint_torque_nm = state.joint_torque_nm
        robot.holding, robot.needs_rearm = self._driver.holding, self._driver.needs_rearm
        robot.simulated = True
        self._seq += 1
        for message, publisher in ((truth, self._truth), (parts, self._parts), (robot, self._robot)):
            message.header.stamp, message.header.frame_id = stamp, self.contract.base_frame
            publisher.publish(message)

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
