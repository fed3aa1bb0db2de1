"""Permits the arm to move, or not, from its measured state alone: a process of its own, deny by default."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from inril_common.convert import stamp_to_ns
from inril_common.diagnostics import ERROR, OK, Health
from inril_common.node import InrilPlainNode
from inril_common.process import run_node
from inril_common.qos import LATCHED, sensor_qos
from inril_msgs.msg import RobotState, SafetyPermit

from inril_core.safety.monitor import MeasuredState, SafetyMonitor

PERMIT_PERIOD_S = 0.05


class SafetyMonitorNode(InrilPlainNode):
    """Publishes safety_permit. Hears nothing but robot_state, so no other node keeps it from stopping the arm.

    It has no lifecycle: it works as soon as it is there. It is its own watchdog: the arm's node follows nothing once
    the permit is old, whether this process died, hangs or lost the network.
    """

    def __init__(self) -> None:
        super().__init__("safety_monitor")

    def setup(self) -> None:
        """Listen to the arm, and say what is permitted at every change and 20 times a second."""
        contract = self.contract_param()
        factor = self.param("real_time_factor", 1.0, "0: lockstep; N: N times real time", 0.0, 100.0)
        # a simulated arm that waits for its next Target, or is paced otherwise than the clock, is not silent
        self._monitor = SafetyMonitor(contract, checks_age=factor == 1.0)
        self._said: tuple[str, ...] | None = None
        self._permit = self.create_publisher(SafetyPermit, "safety_permit", LATCHED)
        self.create_subscription(RobotState, "robot_state", self._on_robot_state, sensor_qos(lockstep=factor == 0.0))
        self.diagnose("safety_monitor", self._health)
        self.steady_timer(PERMIT_PERIOD_S, self._publish)

    def guarded(self, callback: Callable[..., Any]) -> Callable[..., Any]:
        """None is: where the monitor itself fails, its process ends, and with it the permit."""
        return callback

    def _on_robot_state(self, message: RobotState) -> None:
        position, quat = message.tool_pose.position, message.tool_pose.orientation
        speed, turn = message.tool_twist.linear, message.tool_twist.angular
        state = MeasuredState(
            boot_id=message.boot_id,
            stamp_ns=stamp_to_ns(message.header.stamp),
            frame=message.header.frame_id,
            pose=(position.x, position.y, position.z, quat.x, quat.y, quat.z, quat.w),
            speed=(speed.x, speed.y, speed.z),
            turn=(turn.x, turn.y, turn.z),
            joint_position_rad=message.joint_position_rad,
            joint_velocity_radps=message.joint_velocity_radps,
            joint_torque_nm=message.joint_torque_nm,
            simulated=message.simulated,
        )
        self._monitor.on_state(state, self.ros_ns(), self.mono_ns())
        if self._monitor.reasons(self.mono_ns()) != self._said:
            self._publish()

    def _publish(self) -> None:
        reasons = self._monitor.reasons(self.mono_ns())
        if reasons != self._said:
            if reasons:
                self.get_logger().error(f"the arm must not move: {'; '.join(reasons)}")
            else:
                self.get_logger().info("the arm may move")
            self._said = reasons
        message = SafetyPermit(boot_id=self.boot_id, permitted=not reasons, reasons=list(reasons))
        message.header.stamp = self.get_clock().now().to_msg()
        self._permit.publish(message)

    def _health(self) -> Health:
        reasons = self._monitor.reasons(self.mono_ns())
        return Health(ERROR, "; ".join(reasons)) if reasons else Health(OK, "the arm may move")


def main() -> None:
    """Entry point."""
    run_node(SafetyMonitorNode)


if __name__ == "__main__":
    main()
