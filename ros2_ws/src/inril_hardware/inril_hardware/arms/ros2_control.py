"""An arm behind ros2_control controllers: targets out, measured state in, over topics with configurable names."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from geometry_msgs.msg import PoseStamped, TwistStamped, WrenchStamped
from inril_common.convert import array_to_pose, pose_to_array, stamp_to_ns, twist_to_array
from inril_common.qos import NEWEST, NEWEST_SENSOR
from rclpy.node import Node
from sensor_msgs.msg import JointState

from inril_core.contract import Contract
from inril_core.control.measurement import BadMeasurement, check_pose
from inril_core.errors import InrilError
from inril_core.hardware.arm_modes import fault_of
from inril_core.hardware.arms.base import Arm, ArmLost, ArmState
from inril_core.hardware.motion import SmoothMotion
from inril_core.hardware.stream import SetPointStream
from inril_core.transforms import quat_conjugate, quat_multiply, quat_normalise, rotvec_from_quat
from inril_hardware.arms.controllers import Config as Config
from inril_hardware.arms.grippers import make_gripper
from inril_hardware.arms.recovery import Recovery
from inril_hardware.arms.typed import message_type, mode_and_errors

LOOK_PERIOD_S = 0.5
"""Between two looks at who else publishes targets, and who hears them."""
POLL_S = 0.01
RECOVERED_S = 1.0
"""How long a controller that says it has recovered may still say its old mode."""


class _Heard(NamedTuple):
    """The newest message of a topic."""

    message: Any
    mono_s: float


class _Topic:
    """A subscription that is asked for its newest message, instead of being woken 1000 times a second."""

    def __init__(self, node: Node, kind: Any, name: str, max_age_s: float) -> None:
        self.name, self.max_age_s = name, max_age_s
        self._node = node
        self._subscription = node.create_subscription(kind, name, self._hear, NEWEST_SENSOR)
        self.heard: _Heard | None = None

    def _hear(self, message: Any) -> None:
        self.heard = _Heard(message, time.monotonic())

    def poll(self) -> None:
        """Take what has come."""
        with self._subscription.handle:
            while (taken := self._subscription.handle.take_message(self._subscription.msg_type, False)) is not None:
                self._hear(taken[0])

    def silence(self) -> str:
        """Why there is no message that is new enough; empty: there is one."""
        full_name = self._subscription.topic_name
        publishers = self._node.count_publishers(full_name)
        if self.heard is not None and time.monotonic() - self.heard.mono_s <= self.max_age_s:
            return ""
        if not publishers:
            return f"nobody publishes {full_name}"
        kinds = {info.topic_type for info in self._node.get_publishers_info_by_topic(full_name)}
        silent = "was never heard" if self.heard is None else f"is silent for over {self.max_age_s:g} s"
        return f"{full_name} {silent}, though {publishers} publish it ({', '.join(sorted(kinds))})"


class Ros2ControlArm(Arm):
    """Set-points to a Cartesian controller at `rate_hz`, from a thread of its own; the newest state is read when asked.

    Where targets cease it holds the last set-point: the controllers have no watchdog on a target's age. Where the
    controllers fall silent, or the arm itself stops, it sends nothing until a person arms; it then begins at the
    measured pose. Its node has a name of its own per process, so that a second publisher of targets is told apart.
    """

    def __init__(self, config: Config, contract: Contract) -> None:
        self._config = config
        period_s = 1.0 / contract.control_rate_hz
        self._motion = SmoothMotion(config.motion, period_s, contract.staleness.target_s)
        self._mode_kind = message_type(config.mode_type, "mode_type") if config.mode_topic else None
        self._node: Node | None = None
        self._stream: SetPointStream | None = None
        self._gripper: Any = None
        self._awaits_person = False
        self._looked_s, self._wiring = -1e9, ""
        self._last_pose: tuple[int, np.ndarray] | None = None
        self._twist = np.zeros(6)

    def open(self) -> None:
        """See `Arm.open`: waits until each topic was heard once."""
        self.close()
        try:
            self._connect()
            self._wait(lambda: all(topic.heard for topic in self._topics), self._config.connect_s)
            self.measure()
        except InrilError:
            self.close()
            raise

    def reopen(self) -> None:
        """See `Arm.reopen`: the subscriptions hear controllers that come back, so nothing is made anew."""
        if self._node is None or self._sender().failure:
            self.open()
        else:
            self.measure()

    def _connect(self) -> None:
        config = self._config
        self._node = node = Node(
            f"inril_arm_{uuid.uuid4().hex[:12]}",
            namespace=config.namespace,
            use_global_arguments=False,
            enable_rosout=False,
            start_parameter_services=False,
        )
        self._target = node.create_publisher(PoseStamped, config.target_topic, NEWEST)
        age_s = config.max_age_s
        self._pose = _Topic(node, PoseStamped, config.pose_topic, age_s)
        self._joints = _Topic(node, JointState, config.joint_topic, age_s)
        optional: list[tuple[Any, str, float]] = [
            (TwistStamped, config.twist_topic, age_s),
            (WrenchStamped, config.wrench_topic, age_s),
            (self._mode_kind, config.mode_topic, age_s),
            (JointState, config.gripper_state_topic if config.gripper != "none" else "", config.gripper_max_age_s),
        ]
        made = [_Topic(node, kind, name, limit_s) if name else None for kind, name, limit_s in optional]
        self._twists, self._wrenches, self._modes, self._fingers = made
        self._topics = [topic for topic in (self._pose, self._joints, *made) if topic is not None]
        self._gripper = make_gripper(node, config)
        self._recovery = Recovery(node, config) if config.recovery else None
        self._stream = SetPointStream(self._motion, config.rate_hz, self._send)
        self._awaits_person, self._last_pose = False, None

    def measure(self) -> ArmState:
        """See `Arm.measure`."""
        if self._node is None:
            raise ArmLost("the controllers are not connected")
        try:
            return self._measure()
        except ArmLost:
            self._let_go()
            raise

    def _measure(self) -> ArmState:
        for topic in self._topics:
            topic.poll()
        if silent := [reason for topic in self._topics if (reason := topic.silence())]:
            raise ArmLost(
                f"{'; '.join(silent)}; start the arm's controllers, and check namespace, names and DDS domain"
            )
        pose_message = self._pose.heard.message
        stamp_ns = self._stamp_ns(pose_message)
        pose = self._tool_pose(pose_message)
        mode, fault = self._mode()
        fault = fault or self._wiring_fault() or self._gripper_fault()
        if fault:
            self._let_go()
        position, velocity, effort = self._joint_values()
        wrench = None if self._wrenches is None else _wrench(self._wrenches.heard.message)
        return ArmState(
            tool_pose=pose,
            tool_twist=self._tool_twist(stamp_ns, pose),
            joint_position_rad=position,
            joint_velocity_radps=velocity,
            joint_torque_nm=effort,
            gripper_width_m=self._width_m(),
            external_wrench=wrench,
            mode=mode,
            fault=fault,
            stamp_ns=stamp_ns,
        )

    def follow(self, tool_pose: np.ndarray, gripper_width_m: float | None) -> None:
        """See `Arm.follow`."""
        stream = self._sender()
        if self._awaits_person:
            raise ArmLost("it sends no targets since the arm stopped; look at it, then `inril arm`")
        if not stream.started:
            state = self._measure()
            if state.fault:
                return  # the state that is measured next says so
            stream.start(state.tool_pose.tolist())
        stream.aim(tool_pose.tolist())
        if gripper_width_m is not None and self._gripper is not None:
            self._gripper.command(gripper_width_m)

    def hold(self) -> None:
        """See `Arm.hold`: the set-point comes to rest and stays; nothing is sent where nothing was sent before."""
        self._sender().stop()

    def recover(self) -> None:
        """See `Arm.recover`."""
        stream = self._sender()
        stream.pause()
        self._looked_s = -1e9
        if self._gripper is not None:
            self._gripper.forget()
        fault = self._measure().fault
        if self._has_errors() and self._recovery is not None:
            self._recovery.call()
            self._wait(lambda: not self._has_errors(), RECOVERED_S)
            fault = self._measure().fault
        if fault:
            raise ArmLost(fault)
        self._awaits_person = False  # the first target begins at the pose that is measured then

    def close(self) -> None:
        """See `Arm.close`: the controllers keep the last set-point."""
        for part in (self._stream, self._gripper):
            if part is not None:
                part.close()
        self._stream = self._gripper = None
        if self._node is not None:
            self._node.destroy_node()
            self._node = None

    def _has_errors(self) -> bool:
        """What a recovery can clear: not a stop that is pressed, nor a hand on the arm."""
        if self._modes is None:
            return False
        mode, errors = mode_and_errors(self._modes.heard.message)
        return bool(errors) or mode == "reflex"

    def _sender(self) -> SetPointStream:
        if self._stream is None:
            raise ArmLost("the controllers are not connected")
        return self._stream

    def _send(self, pose: np.ndarray) -> None:
        message = PoseStamped(pose=array_to_pose(pose))
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.header.frame_id = self._config.target_frame
        self._target.publish(message)

    def _let_go(self) -> None:
        self._awaits_person = True
        if self._stream is not None:
            self._stream.pause()

    def _wait(self, ready: Callable[[], Any], timeout_s: float) -> None:
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            for topic in self._topics:
                topic.poll()
            if ready():
                return
            time.sleep(POLL_S)

    def _stamp_ns(self, message: Any) -> int | None:
        """Time of measurement; None where the controller does not fill it."""
        stamp_ns = stamp_to_ns(message.header.stamp)
        if stamp_ns == 0:
            return None
        age_s = (self._node.get_clock().now().nanoseconds - stamp_ns) * 1e-9
        if abs(age_s) > self._config.max_age_s:
            raise ArmLost(
                f"{self._pose.name} is stamped {age_s:.3g} s ago, at most {self._config.max_age_s:g} s; synchronise "
                "the clocks of both hosts (chrony or PTP), or look at the load of the controllers' host"
            )
        return stamp_ns

    def _tool_pose(self, message: Any) -> np.ndarray:
        frame = message.header.frame_id
        if frame != self._config.pose_frame:
            raise ArmLost(
                f"{self._pose.name} is in frame {frame!r}, expected {self._config.pose_frame!r}; set pose_frame if "
                "that is the arm's base"
            )
        pose = pose_to_array(message.pose)
        try:
            check_pose(self._pose.name, pose.tolist())
        except BadMeasurement as error:
            raise ArmLost(str(error)) from error
        pose[3:] = quat_normalise(pose[3:].tolist())
        return pose

    def _tool_twist(self, stamp_ns: int | None, pose: np.ndarray) -> np.ndarray:
        if self._twists is not None:
            return twist_to_array(self._twists.heard.message.twist)
        at_ns = round(self._pose.heard.mono_s * 1e9) if stamp_ns is None else stamp_ns
        if self._last_pose is None or at_ns < self._last_pose[0]:
            self._last_pose = (at_ns, pose)
        before_ns, before = self._last_pose
        if at_ns - before_ns >= 5_000_000:  # a shorter way is mostly noise
            time_s = (at_ns - before_ns) * 1e-9
            turned = rotvec_from_quat(quat_multiply(pose[3:].tolist(), quat_conjugate(before[3:].tolist())))
            self._twist = np.concatenate([pose[:3] - before[:3], turned]) / time_s
            self._last_pose = (at_ns, pose)
        return self._twist.copy()

    def _joint_values(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        message, names = self._joints.heard.message, self._config.joint_names
        known = {name: place for place, name in enumerate(message.name)}
        if missing := [name for name in names if name not in known]:
            raise ArmLost(f"{self._joints.name} has {list(known)}, not {missing}; set joint_names to the arm's joints")
        places = [known[name] for name in names]
        return (
            _picked(self._joints.name, "position", message.position, places),
            _picked(self._joints.name, "velocity", message.velocity, places),
            _picked(self._joints.name, "effort", message.effort, places, needed=False),
        )

    def _width_m(self) -> float:
        if self._fingers is None:
            return 0.0
        config, positions = self._config, self._fingers.heard.message.position
        if len(positions) == 0 or not np.isfinite(positions[0]):
            raise ArmLost(f"{self._fingers.name} has no finite position")
        opened = (positions[0] - config.gripper_closed_at) / (config.gripper_open_at - config.gripper_closed_at)
        return float(np.clip(opened, 0.0, 1.0)) * config.gripper_max_width_m

    def _mode(self) -> tuple[str, str]:
        if self._modes is None:
            return "", ""
        mode, errors = mode_and_errors(self._modes.heard.message)
        return mode, fault_of(mode, errors, self._config.moving_modes)

    def _wiring_fault(self) -> str:
        """Whether this arm alone publishes targets, and somebody hears them."""
        now_s = time.monotonic()
        if now_s - self._looked_s >= LOOK_PERIOD_S:
            self._looked_s, self._wiring = now_s, self._look()
        return self._wiring

    def _gripper_fault(self) -> str:
        failure = "" if self._gripper is None else self._gripper.failure
        return f"the gripper does not obey: {failure}; then `inril arm`" if failure else ""

    def _look(self) -> str:
        topic = self._target.topic_name
        others = [
            f"{info.node_namespace.rstrip('/')}/{info.node_name}"
            for info in self._node.get_publishers_info_by_topic(topic)
            if info.node_name != self._node.get_name()
        ]
        if others:
            return (
                f"second publisher of {topic}: {', '.join(sorted(others))}; the controller ignores all targets while "
                "there are two: end that node (one that was killed is forgotten within 20 s), then `inril arm`"
            )
        if not self._target.get_subscription_count():
            return f"nobody hears {topic}: load and activate the Cartesian controller, then `inril arm`"
        return ""


def _wrench(message: Any) -> np.ndarray:
    force, torque = message.wrench.force, message.wrench.torque
    return np.array([force.x, force.y, force.z, torque.x, torque.y, torque.z])


def _picked(topic: str, field: str, values: Any, places: list[int], needed: bool = True) -> np.ndarray:
    if len(values) <= max(places):
        if needed:
            raise ArmLost(
                f"{topic}: {field} has {len(values)} numbers; let the broadcaster publish the joints' {field}"
            )
        return np.zeros(len(places))
    picked = np.array([values[place] for place in places])
    if not np.isfinite(picked).all():
        raise ArmLost(f"{topic}: {field} {picked.tolist()} is not finite")
    return picked
