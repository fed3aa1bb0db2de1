"""The simulated arm behind topics of the shape that crisp_controllers has: a rehearsal of arm `ros2_control`.

python -m inril_hardware.simulated_controllers --ros-args -p contract:=insert_leg -r __ns:=/left
"""

from __future__ import annotations

import time

from geometry_msgs.msg import PoseStamped
from inril_common.convert import array_to_pose, pose_to_array
from inril_common.node import InrilPlainNode
from inril_common.process import run_node
from inril_common.qos import NEWEST, NEWEST_SENSOR, TICK
from inril_msgs.msg import PartPoses
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import Trigger

from inril_core.control.measurement import BadMeasurement, check_pose
from inril_core.errors import ConfigError
from inril_core.sim.cell import HAND_WIDTH_M, Cell
from inril_core.transforms import quat_normalise
from inril_hardware.arms.controllers import PRESETS

CRISP = PRESETS["crisp_controllers"]
PUBLISHERS_PERIOD_S = 0.5


class SimulatedControllers(InrilPlainNode):
    """Follows target_pose and the gripper's command; publishes current_pose, joint_states and gripper/joint_states,
    best effort, as controllers do.

    Like crisp_controllers it ignores targets while two nodes publish them, and has no watchdog: it stays at the last.
    `simulate_reflex` stops it as a collision would, until `error_recovery` is called; `robot_mode` says so.
    """

    def __init__(self) -> None:
        super().__init__("simulated_controllers")
        self._cell: Cell | None = None

    def setup(self) -> None:
        """Lay the cell out and begin."""
        contract = self.contract_param()
        rate_hz = self.param("rate_hz", 50.0, "steps of physics and messages a second", 10.0, 50.0)
        seed = self.param("seed", 0, "of the cell's layout", 0, 2**31 - 1)
        if rate_hz not in (10.0, 12.5, 25.0, 50.0):
            raise ConfigError(f"rate_hz = {rate_hz}: the simulated cell runs at 10, 12.5, 25 or 50")
        self._frame, self._parts_frame = CRISP["pose_frame"], contract.base_frame
        self._cell = Cell(contract.model_copy(update={"control_rate_hz": rate_hz}))
        self._cell.reset(seed)
        self._goal = self._cell.state.tool_pose.copy()
        self._width_m: float | None = None
        self._mode, self._doubled = "move", False
        self._targets = self.create_subscription(PoseStamped, CRISP["target_topic"], self._on_target, NEWEST)
        self.create_subscription(Float64MultiArray, CRISP["gripper_command_topic"], self._on_gripper, NEWEST)
        self._pose = self.create_publisher(PoseStamped, CRISP["pose_topic"], NEWEST_SENSOR)
        self._joints = self.create_publisher(JointState, CRISP["joint_topic"], NEWEST_SENSOR)
        self._fingers = self.create_publisher(JointState, CRISP["gripper_state_topic"], NEWEST_SENSOR)
        self._modes = self.create_publisher(String, "robot_mode", NEWEST_SENSOR)
        self._parts = self.create_publisher(PartPoses, "part_poses", TICK)
        self.create_service(Trigger, "simulate_reflex", self._on_reflex)
        self.create_service(Trigger, "error_recovery", self._on_recovery)
        self._looked_s = 0.0
        self.steady_timer(1.0 / rate_hz, self._on_period)

    def teardown(self) -> None:
        """Give the cell back."""
        if self._cell is not None:
            self._cell.close()

    def _on_target(self, message: PoseStamped) -> None:
        pose = pose_to_array(message.pose)
        try:
            check_pose("target_pose", pose.tolist())
        except BadMeasurement as error:
            self.get_logger().error(str(error), throttle_duration_sec=1.0)
            return
        if self._mode == "move" and not self._doubled:
            pose[3:] = quat_normalise(pose[3:].tolist())
            self._goal = pose

    def _on_gripper(self, message: Float64MultiArray) -> None:
        if len(message.data) == 1:
            self._width_m = min(max(message.data[0], 0.0), 1.0) * HAND_WIDTH_M

    def _on_reflex(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._mode = "reflex: cartesian_reflex"
        self._goal = self._cell.state.tool_pose.copy()
        response.success = True
        return response

    def _on_recovery(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._mode = "move"
        self._goal = self._cell.state.tool_pose.copy()
        response.success = True
        return response

    def _on_period(self) -> None:
        now_s = time.monotonic()
        if now_s - self._looked_s > PUBLISHERS_PERIOD_S:
            self._looked_s = now_s
            self._doubled = self.count_publishers(self._targets.topic_name) > 1
        if self._mode == "move":
            state = self._cell.step(self._goal[:3], self._goal[3:], self._width_m)
        else:
            state = self._cell.hold()
        stamp = self.get_clock().now().to_msg()
        pose = PoseStamped(pose=array_to_pose(state.tool_pose))
        pose.header.stamp, pose.header.frame_id = stamp, self._frame
        joints = JointState(name=list(CRISP["joint_names"]))
        joints.header.stamp = stamp
        joints.position = state.joint_position_rad.tolist()
        joints.velocity = state.joint_velocity_radps.tolist()
        joints.effort = state.joint_torque_nm.tolist()
        fingers = JointState(name=["gripper"], position=[min(max(state.gripper_width_m / HAND_WIDTH_M, 0.0), 1.0)])
        fingers.header.stamp = stamp
        parts = PartPoses(names=list(state.parts), poses=[array_to_pose(part) for part in state.parts.values()])
        parts.header.stamp, parts.header.frame_id = stamp, self._parts_frame
        for publisher, message in (
            (self._parts, parts),
            (self._modes, String(data=self._mode)),
            (self._fingers, fingers),
            (self._joints, joints),
            (self._pose, pose),
        ):
            publisher.publish(message)


def main() -> None:
    """Entry point."""
    run_node(SimulatedControllers)


if __name__ == "__main__":
    main()
