"""Who is in control: closes every tick exactly once, within the limits, and serves arbiter/arm.

Over 400 lines: every message of the tick is read and written here, and nothing is decided.
"""

from __future__ import annotations

import array
import dataclasses
import traceback
from collections.abc import Sequence
from typing import Any

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose
from inril_common.convert import array_to_pose, ns_to_stamp, stamp_to_ns
from inril_common.diagnostics import Health, control_health
from inril_common.node import InrilNode
from inril_common.process import run_node
from inril_common.qos import EVENT, LATCHED, SENSOR, TICK
from inril_common.realtime import between_episodes
from inril_msgs.msg import (
    ArbiterStatus,
    ExecutedAction,
    Observation,
    PolicyAction,
    PolicyStatus,
    RecorderStatus,
    RobotState,
    SafetyPermit,
    SessionStatus,
    Target,
    TeleopAction,
    TeleopStatus,
)
from inril_msgs.srv import Arm

from inril_control.arm_desk import ArmDesk
from inril_control.second_publisher import SecondPublishers
from inril_core.hardware.description import robot_description
from inril_core.people import sayable
from inril_core.safety.arbiter import Arbiter
from inril_core.safety.faults import Blocks, Fault
from inril_core.safety.joint_model import JointModel
from inril_core.safety.takeover import HandBack, Mode, TakeoverConfig
from inril_core.safety.ticks import ArbiterConfig, Closed, HumanAnswer, PolicyAnswer, RobotSample, Tick
from inril_core.session.states import State

TICK_TOPICS = ("observation", "policy_action", "teleop_action", "executed_action", "target")
FIRST_CHECK_S = 0.02
STATUS_PERIOD_NS = 400_000_000
"""Between two statuses while nothing changes; what matters to others is said at once."""
PUBLISHERS_PERIOD_S = 1.0
LATEST_STAMP_NS = (2**31 - 1) * 1_000_000_000
"""A stamp holds seconds in an int32; what is later is cut to this."""


class ArbiterNode(InrilNode):
    """Publishes executed_action and target per tick, and arbiter_status.

    Its own steady timer, set to the next deadline, drives deadlines and watchdogs, so they work when no message comes.
    It starts disarmed, and deactivating it disarms it.
    """

    def __init__(self) -> None:
        super().__init__("arbiter_node")
        self._desk: ArmDesk | None = None

    def setup(self) -> None:
        """Subscribe to everyone who has a say, and offer arbiter/arm."""
        self.contract = self.contract_param()
        self._config = self._read_config()
        joints = self.contract.limits.joints
        model = None if joints is None else JointModel(self.contract, robot_description(joints.urdf))
        self._arbiter = Arbiter(self.contract, self._config, model)
        self._reads_joints, self._reads_wrench = joints is not None, self.contract.limits.wrench is not None
        self._shown: tuple[object, ...] = ()
        self._logged: set[str] = set()
        self._next_status_ns = 0
        self._executed = self.create_publisher(ExecutedAction, "executed_action", TICK)
        self._target = self.create_publisher(Target, "target", TICK)
        self._status = self.create_publisher(ArbiterStatus, "arbiter_status", LATCHED)
        self.diagnose("control", self._health)
        self._observations = self.link(
            "observation", self._config.observation_timeout_ns * 1e-9, lambda: not self._arbiter.in_episode
        )
        heard = {
            self.create_subscription(Observation, "observation", self._on_observation, TICK): "observation_node",
            self.create_subscription(TeleopAction, "teleop_action", self._on_teleop_action, TICK): "teleop_node",
        }
        if self._config.expects_policy:
            actions = self.create_subscription(PolicyAction, "policy_action", self._on_policy_action, TICK)
            heard[actions] = "policy_node"
            self.create_subscription(PolicyStatus, "policy_status", self._on_policy_status, LATCHED)
        if not self._config.lockstep or self._reads_joints or self._reads_wrench:
            self.create_subscription(RobotState, "robot_state", self._on_robot_state, SENSOR)
        if self._config.expects_device:
            self.create_subscription(TeleopStatus, "teleop_status", self._on_teleop_status, LATCHED)
        if self._config.permit_timeout_ns is not None:
            self.create_subscription(SafetyPermit, "safety_permit", self._on_safety_permit, LATCHED)
        if self._config.expects_recorder:
            self.create_subscription(RecorderStatus, "recorder_status", self._on_recorder_status, EVENT)
        if self._config.expects_session:
            self.create_subscription(SessionStatus, "session_status", self._on_session_status, LATCHED)
        self._second_publishers = SecondPublishers(
            self,
            own=(self._target.topic_name, self._executed.topic_name),
            heard={subscription.topic_name: name for subscription, name in heard.items()},
        )
        self.create_subscription(ArbiterStatus, "arbiter_status", self._on_arbiter_status, LATCHED)
        self.create_service(Arm, "arbiter/arm", self._on_arm)
        self._desk = ArmDesk(self, self._set_armed, self._describe)
        self._timer = self.deadline_timer(self.guarded(self._on_timer), FIRST_CHECK_S)
        self.steady_timer(PUBLISHERS_PERIOD_S, self.guarded(self._on_publishers_timer))

    def _read_config(self) -> ArbiterConfig:
        contract, staleness = self.contract, self.contract.staleness
        factor = self.param("real_time_factor", 1.0, "0: lockstep; N: N times real time", 0.0, 100.0)
        deadline_s = self.param("lockstep_deadline_s", 3.0, "s until a tick closes in any case", 0.01, 60.0)
        timeout_s = self.param(
            "lockstep_observation_timeout_s", 10.0, "s without an Observation within an episode", 0.1, 60.0
        )
        expects_monitor = self.param("expects_monitor", False, "without safety_monitor's permit nothing moves")
        lockstep = factor == 0.0
        # in lockstep a machine that is busy is no danger: as long as a tick may take
        permit_ns = round(max(staleness.monitor_s, deadline_s * lockstep) * 1e9)
        period_s = 1.0 / contract.control_rate_hz
        slower = 1.0
        if not lockstep:
            deadline_s = period_s / factor
            slower = max(1.0, 1.0 / factor)
            timeout_s = (period_s + staleness.robot_state_s) * slower
            period_s /= factor
        takeover = TakeoverConfig(
            Mode(self.param("takeover", "dead_man", "what takes control from the policy", choices=list(Mode))),
            HandBack(self.param("hand_back", "button", "what gives it back", choices=list(HandBack))),
            round(1e9 * self.param("hand_back_hold_s", 0.5, "hold after letting go, hand_back let_go", 0.0, 10.0)),
        )
        return ArbiterConfig(
            lockstep=lockstep,
            period_ns=round(period_s * 1e9),
            deadline_ns=round(deadline_s * 1e9),
            policy_timeout_ns=round(staleness.policy_action_s * 1e9 / (1.0 if lockstep else factor)),
            robot_timeout_ns=round(staleness.robot_state_s * slower * 1e9),
            observation_timeout_ns=round(timeout_s * 1e9),
            expects_policy=self.param("expects_policy", True, "the graph has a policy_node"),
            expects_teleop=self.param("expects_teleop", False, "a device answers every tick, from the first"),
            expects_recorder=self.param("expects_recorder", False, "without a recorder no episode goes on"),
            expects_session=self.param("expects_session", False, "without a session no episode goes on"),
            expects_device=self.param("expects_device", False, "the graph has a teleop_node; its device has to work"),
            takeover=takeover,
            drive_in=self.param("drive_in", False, "a training episode begins with a person, who hands back"),
            permit_timeout_ns=permit_ns if expects_monitor else None,
        )

    def start(self) -> None:
        """Begin to close ticks, disarmed."""
        self._publish_status()

    def stop(self) -> None:
        """Disarm: no target follows."""
        self._arbiter.disarm()
        self._publish_status()

    def teardown(self) -> None:
        """Stop listening to the people at this machine."""
        if self._desk is not None:
            self._desk.close()
            self._desk = None

    def _on_observation(self, message: Observation) -> None:
        mono_ns = self.mono_ns()
        self._observations.saw(mono_ns, message.k)
        if not self.active:
            return
        tick = Tick(
            boot_id=message.boot_id,
            k=message.k,
            stamp_ns=stamp_to_ns(message.header.stamp),
            episode_id=message.episode_id,
            step=message.step,
            phase=message.phase,
            purpose=message.purpose,
            last=message.last,
            tool_pose=_pose(message.tool_pose),
            link_age_s=message.link_age_s,
            frame=message.header.frame_id,
        )
        ros_ns = self.ros_ns()
        self._say(self._arbiter.on_observation(tick, ros_ns, mono_ns), ros_ns, mono_ns)
        if tick.last:
            between_episodes()

    def _on_policy_action(self, message: PolicyAction) -> None:
        if self.active:
            answer = PolicyAnswer(message.boot_id, message.k, message.run_id, message.n, message.action)
            ros_ns, mono_ns = self.ros_ns(), self.mono_ns()
            self._say(self._arbiter.on_policy_action(answer, ros_ns, mono_ns), ros_ns, mono_ns)

    def _on_teleop_action(self, message: TeleopAction) -> None:
        if self.active:
            answer = HumanAnswer(
                message.k, message.synchronous, message.grab, message.released, message.action, message.frame
            )
            ros_ns, mono_ns = self.ros_ns(), self.mono_ns()
            self._say(self._arbiter.on_teleop_action(answer, ros_ns, mono_ns), ros_ns, mono_ns)

    def _on_robot_state(self, message: RobotState) -> None:
        sample = RobotSample(
            message.boot_id,
            stamp_to_ns(message.header.stamp),
            _pose(message.tool_pose),
            message.needs_rearm,
            message.header.frame_id,
            message.fault,
            joint_position_rad=message.joint_position_rad if self._reads_joints else (),
            external_wrench=message.external_wrench if self._reads_wrench else (),
        )
        ros_ns, mono_ns = self.ros_ns(), self.mono_ns()
        self._arbiter.on_robot_state(sample, mono_ns)
        if self.active:
            self._say(self._arbiter.on_timer(ros_ns, mono_ns), ros_ns, mono_ns)

    def _on_teleop_status(self, message: TeleopStatus) -> None:
        self._arbiter.on_teleop_status(message.trouble, self.mono_ns())

    def _on_policy_status(self, message: PolicyStatus) -> None:
        self._arbiter.on_policy_alive(self.mono_ns())

    def _on_safety_permit(self, message: SafetyPermit) -> None:
        denial = "" if message.permitted else "; ".join(message.reasons) or "no permit"
        ros_ns, mono_ns = self.ros_ns(), self.mono_ns()
        self._arbiter.on_permit(message.boot_id, denial, mono_ns)
        if self.active:
            self._say(self._arbiter.on_timer(ros_ns, mono_ns), ros_ns, mono_ns)

    def _on_recorder_status(self, message: RecorderStatus) -> None:
        self._arbiter.on_recorder_alive(message.boot_id, self.mono_ns())
        self._show_changes()

    def _on_session_status(self, message: SessionStatus) -> None:
        ros_ns, mono_ns = self.ros_ns(), self.mono_ns()
        self._arbiter.on_session_alive(mono_ns, resetting=message.state == State.RESETTING)
        self._timer.at(self._next_look_ns(ros_ns, mono_ns))

    def _on_arbiter_status(self, message: ArbiterStatus) -> None:
        if message.boot_id != self.boot_id:
            self._second_publishers.heard_namesake(self.mono_ns())

    def _on_timer(self) -> int:
        ros_ns, mono_ns = self.ros_ns(), self.mono_ns()
        if self.active:
            self._say(self._arbiter.on_timer(ros_ns, mono_ns), ros_ns, mono_ns)
        if mono_ns >= self._next_status_ns:
            self._publish_status()
        return self._next_look_ns(ros_ns, mono_ns)

    def _next_look_ns(self, ros_ns: int, mono_ns: int) -> int:
        return min(self._arbiter.next_check_ns(ros_ns, mono_ns), self._next_status_ns)

    def _on_publishers_timer(self) -> None:
        self._look_for_publishers()
        self._show_changes()

    def _look_for_publishers(self) -> None:
        seen = self._second_publishers.look(self.mono_ns(), self._arbiter.armed)
        if seen is None:
            self._arbiter.on_publishers(None, Blocks.NOTHING)
        else:
            self._arbiter.on_publishers(*seen)

    def _on_arm(self, request: Arm.Request, response: Arm.Response) -> Arm.Response:
        response.message = self.meant_for_another(request.graph_id, stop=not request.arm)
        if not response.message:
            response.success, response.message = self._set_armed(request.arm, sayable(request.operator_name))
        return response

    def _set_armed(self, armed: bool, operator_name: str) -> tuple[bool, str]:
        success, message = self._arm_or_disarm(armed, operator_name)
        self.get_logger().info(f"{operator_name!r}: {message}")
        self._publish_status()
        self._timer.at(self._next_look_ns(self.ros_ns(), self.mono_ns()))
        return success, message

    def _describe(self) -> dict[str, Any]:
        return {"graph_id": self.graph_id, "armed": self._arbiter.armed, "faults": self._arbiter.faults.named()}

    def _arm_or_disarm(self, armed: bool, operator_name: str) -> tuple[bool, str]:
        if not armed:
            return self._arbiter.disarm()
        if not self.active:
            return False, "arbiter_node is not active; see `inril status`"
        if unfit := self.diagnostics.incompatible(TICK_TOPICS):
            return False, f"not armed: {Fault.INCOMPATIBLE_QOS}: {unfit}"
        self._look_for_publishers()
        return self._arbiter.arm(operator_name, self.ros_ns(), self.mono_ns())

    def on_caught(self, where: str) -> None:
        """No input ends the arbiter: whatever a callback raises is a latched fault and a hold."""
        cause = traceback.format_exc().strip().rpartition("\n")[2]
        self._arbiter.on_internal_error(f"{where}: {cause}; the log has the traceback: report it, then arm")

    def _say(self, closed_ticks: list[Closed], ros_ns: int, mono_ns: int) -> None:
        """Publish what the arbiter says, first the record, then the command; what was heard moves the next check."""
        for closed in closed_ticks:
            if closed.source is not None:
                self._executed.publish(_executed_message(closed))
            if closed.target is not None:
                target = _target_message(closed)
                target.header.frame_id = self.contract.base_frame
                self._target.publish(target)
        self._show_changes()
        self._timer.at(self._next_look_ns(ros_ns, mono_ns))

    def _state(self) -> tuple[object, ...]:
        """What others must know at once."""
        arbiter = self._arbiter
        return arbiter.armed, arbiter.in_control, arbiter.faults.count, arbiter.late_ticks, arbiter.recorder_boot_id

    def _show_changes(self) -> None:
        if self._state() != self._shown:
            self._publish_status()

    def _health(self) -> Health:
        arbiter = self._arbiter
        health = control_health(arbiter.armed, arbiter.in_control.word, arbiter.faults.named())
        notes = arbiter.notes
        people = {"takeovers": notes.takeovers, "disagreement": f"{notes.disagreement:.3f}"}
        return dataclasses.replace(health, values={**health.values, **people})

    def on_incompatible_qos(self, topic: str, text: str) -> None:
        """Part of a tick is not heard: nothing moves until it is set right and a person arms."""
        if topic in TICK_TOPICS:
            self._arbiter.faults.latch(Fault.INCOMPATIBLE_QOS, text, Blocks.MOTION)

    def _publish_status(self) -> None:
        arbiter = self._arbiter
        faults = arbiter.faults.named()
        for name in faults.keys() - self._logged:
            self.get_logger().error(f"{name}: {faults[name]}")
        self._logged = set(faults)
        self._shown = self._state()
        self._next_status_ns = self.mono_ns() + STATUS_PERIOD_NS
        message = ArbiterStatus(
            boot_id=self.boot_id,
            armed=arbiter.armed,
            in_control=arbiter.in_control,
            faults=list(faults),
            details=list(faults.values()),
            ticks=arbiter.ticks,
            late_ticks=arbiter.late_ticks,
            late_answers=arbiter.late_answers,
            takeovers=arbiter.notes.takeovers,
            disagreement=arbiter.notes.disagreement,
            recorder_boot_id=arbiter.recorder_boot_id,
        )
        message.header.stamp = self.get_clock().now().to_msg()
        self._status.publish(message)


def _executed_message(closed: Closed) -> ExecutedAction:
    tick = closed.tick
    message = ExecutedAction(
        boot_id=tick.boot_id,
        k=tick.k,
        episode_id=tick.episode_id,
        step=tick.step,
        source=closed.source,
        run_id=closed.run_id,
        n=closed.n,
        proposed=_floats(closed.proposed),
        executed=_floats(closed.executed),
        limits=closed.limits,
        limit_margins=_floats(closed.margins),
        handover=closed.handover,
        disagreement=closed.disagreement,
    )
    message.header.stamp = _stamp(tick.stamp_ns)
    return message


def _target_message(closed: Closed) -> Target:
    assert closed.target is not None
    tick, commanded = closed.tick, closed.target
    message = Target(
        boot_id=tick.boot_id,
        k=tick.k,
        episode_id=tick.episode_id,
        pose=array_to_pose(commanded.pose),
        gripper_width_m=commanded.gripper_width_m,
        hold=commanded.hold,
        valid_until=_stamp(commanded.valid_until_ns),
    )
    message.header.stamp = _stamp(tick.stamp_ns)
    return message


def _pose(pose: Pose) -> tuple[float, ...]:
    p, q = pose.position, pose.orientation
    return p.x, p.y, p.z, q.x, q.y, q.z, q.w


def _floats(values: Sequence[float]) -> array.array[float]:
    """Into a `float32[]` field, the fast way; what does not fit becomes infinite."""
    return array.array("f", values)


def _stamp(time_ns: int) -> Time:
    """A stamp at `time_ns`, or the nearest there is."""
    return ns_to_stamp(min(max(time_ns, -LATEST_STAMP_NS), LATEST_STAMP_NS))


def main() -> None:
    """Entry point."""
    run_node(ArbiterNode)


if __name__ == "__main__":
    main()
