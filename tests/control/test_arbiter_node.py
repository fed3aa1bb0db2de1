"""Pins: an arbiter that is right as a library, and moves the arm wrongly as a node over DDS."""

import signal
import time

import rclpy
from geometry_msgs.msg import Point, Pose
from inril_common.qos import LATCHED, TICK
from inril_msgs.msg import (
    ArbiterStatus,
    ExecutedAction,
    Observation,
    PolicyAction,
    RobotState,
    Target,
)
from inril_msgs.srv import Arm
from std_msgs.msg import Header

from tests.graph.harness import patient_contract

ACTION = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]


def observation(k: int, **fields) -> Observation:
    message = Observation(
        boot_id="o",
        k=k,
        episode_id="e",
        step=k,
        phase=Observation.PHASE_RUN,
        purpose=Observation.PURPOSE_TRAIN,
    )
    message.header.stamp.sec, message.header.frame_id = 100 + k, "base"
    message.link_age_s = [0.0, 0.0, float("nan")]
    place(message.tool_pose)
    for name, value in fields.items():
        setattr(message, name, value)
    return message


def place(pose) -> None:
    pose.position.x, pose.position.z = 0.5, 0.2
    pose.orientation.x, pose.orientation.w = 1.0, 0.0


def answer(k: int) -> PolicyAction:
    return PolicyAction(boot_id="o", k=k, run_id="r", n=2, action=ACTION)


def arm(bench, wanted: bool = True, operator: str = "test") -> Arm.Response:
    return bench.ask(Arm, "/arbiter/arm", Arm.Request(arm=wanted, operator_name=operator))


def test_in_lockstep_it_arms_closes_ticks_names_faults_and_ends_cleanly(bench):
    executed = bench.hear(ExecutedAction, "/executed_action", TICK)
    targets = bench.hear(Target, "/target", TICK)
    statuses = bench.hear(ArbiterStatus, "/arbiter_status", LATCHED)
    process = bench.start("inril_control.arbiter_node", real_time_factor=0.0, lockstep_deadline_s=3.0)
    observe = bench.speak(Observation, "/observation", TICK)
    act = bench.speak(PolicyAction, "/policy_action", TICK)

    observe(observation(0))
    bench.until(lambda: executed, "closed tick while disarmed")
    assert executed[0].source == ExecutedAction.SOURCE_HOLD and not targets
    assert not arm(bench, operator="").success
    assert arm(bench).success
    bench.until(lambda: statuses and statuses[-1].armed, "armed status")

    observe(observation(1))
    act(answer(1))
    bench.until(lambda: targets, "target")
    assert (targets[0].k, targets[0].episode_id, targets[0].hold) == (1, "e", False)
    assert abs(targets[0].pose.position.x - 0.51) < 1e-9
    assert (executed[1].source, executed[1].run_id, executed[1].n) == (ExecutedAction.SOURCE_POLICY, "r", 2)
    assert list(executed[1].executed) == ACTION and executed[1].header.stamp.sec == 101

    observe(observation(2))  # nobody answers
    bench.until(lambda: statuses[-1].faults, "fault")
    assert list(statuses[-1].faults) == ["policy_action_stale"] and statuses[-1].late_ticks == 1
    assert "policy_node" in statuses[-1].details[0]
    bench.until(lambda: len(targets) == 2, "hold target")
    assert targets[1].hold and targets[1].pose == targets[0].pose
    refused = arm(bench)
    assert refused.success or "policy_node" in refused.message
    assert arm(bench, wanted=False).success
    bench.until(lambda: not statuses[-1].armed, "disarmed status")
    assert bench.end(process) == 0


def test_in_real_time_it_feeds_the_arms_watchdog_and_stops_when_the_arm_falls_silent(bench, tmp_path):
    targets = bench.hear(Target, "/target", TICK)
    statuses = bench.hear(ArbiterStatus, "/arbiter_status", LATCHED)
    contract = patient_contract(tmp_path)
    bench.start("inril_control.arbiter_node", real_time_factor=1.0, expects_policy=False, contract=contract)
    publish = bench.speak(RobotState, "/robot_state", TICK)
    message = RobotState(boot_id="arm")
    message.header.frame_id = "base"
    place(message.tool_pose)
    assert not arm(bench).success  # no state was heard

    next_ns = 0

    def alive() -> None:
        nonlocal next_ns
        if time.monotonic_ns() >= next_ns:
            next_ns = time.monotonic_ns() + 50_000_000
            message.header.stamp = bench.node.get_clock().now().to_msg()
            publish(message)

    client = bench.node.create_client(Arm, "/arbiter/arm")
    replies = []

    def armed() -> bool:
        alive()
        if not replies or replies[-1].done():
            if replies and replies[-1].result().success:
                return True
            replies.append(client.call_async(Arm.Request(arm=True, operator_name="test")))
        return False

    bench.until(armed, "arming")
    bench.until(lambda: alive() or len(targets) >= 3, "hold targets between episodes")
    assert all(target.hold and target.episode_id == "" for target in targets)
    assert abs(targets[0].pose.position.x - 0.5) < 1e-9

    bench.until(lambda: "robot_state_stale" in statuses[-1].faults, "fault of the silent arm")
    # by then what was sent before the fault has come in
    bench.until(lambda: statuses[-1].header.stamp.sec > message.header.stamp.sec + 1, "a second after the last state")
    heard, now = len(targets), statuses[-1].header.stamp.sec
    bench.until(lambda: statuses[-1].header.stamp.sec > now + 1, "a second of silence")
    assert len(targets) == heard


def test_no_input_ends_it_and_each_is_named(bench):
    """Pins: an exception that leaves a callback, and with it the arbiter."""
    executed = bench.hear(ExecutedAction, "/executed_action", TICK)
    targets = bench.hear(Target, "/target", TICK)
    statuses = bench.hear(ArbiterStatus, "/arbiter_status", LATCHED)
    process = bench.start("inril_control.arbiter_node", real_time_factor=0.0, lockstep_deadline_s=30.0)
    observe = bench.speak(Observation, "/observation", TICK)
    act = bench.speak(PolicyAction, "/policy_action", TICK)
    k = 0

    def after(name: str) -> None:
        bench.until(lambda: name in statuses[-1].faults, f"fault {name}")
        closed = len(executed)
        observe(observation(k))  # where the fault leaves the tick to nobody, it closes as hold at once
        bench.until(lambda: len(executed) > closed, f"closed tick after {name}")
        assert executed[-1].source == ExecutedAction.SOURCE_HOLD

    for name, fields in (
        ("wrong_frame", {"header": Header(frame_id="tool")}),
        ("malformed_state", {"tool_pose": Pose()}),
        ("non_finite_state", {"tool_pose": Pose(position=Point(x=float("nan")))}),
    ):
        observe(observation(k))
        act(answer(k))
        assert bench.until(lambda: arm(bench).success, "arming")
        k += 1
        observe(observation(k, **fields))
        k += 1
        after(name)
        k += 1
        observe(observation(k))  # a good one: the cause has gone
        closed_k = k
        bench.until(lambda at=closed_k: executed[-1].k == at, "closed tick")
        k += 1
    for name, action in (("non_finite_action", [float("nan")] * 6), ("malformed_action", [])):
        assert arm(bench).success
        observe(observation(k))
        act(PolicyAction(boot_id="o", k=k, action=action))
        k += 1
        after(name)
        k += 1
    assert arm(bench).success
    stamped = observation(k, link_age_s=[0.0, 0.0, 0.0])
    stamped.header.stamp.sec, stamped.header.stamp.nanosec = 2**31 - 1, 2**32 - 1
    before = len(targets)
    observe(stamped)
    act(answer(k))
    bench.until(lambda: len(targets) > before, "a Target with the latest stamp there is")
    k += 1
    stamped = observation(k)
    stamped.header.stamp.sec = -(2**31)
    before = len(targets)
    observe(stamped)
    act(answer(k))
    bench.until(lambda: len(targets) > before, "a Target with the earliest stamp there is")
    assert bench.end(process) == 0


def test_a_second_publisher_is_a_fault_until_it_has_gone(bench):
    statuses = bench.hear(ArbiterStatus, "/arbiter_status", LATCHED)
    bench.start("inril_control.arbiter_node", real_time_factor=0.0)
    observe = bench.speak(Observation, "/observation", TICK)
    observe(observation(0))
    assert arm(bench).success
    intruder = bench.node.create_publisher(Target, "/target", TICK)
    bench.until(lambda: statuses and "second_publisher" in statuses[-1].faults, "fault second_publisher")
    detail = statuses[-1].details[list(statuses[-1].faults).index("second_publisher")]
    assert "/target" in detail and "/bench" in detail
    refused = arm(bench)
    assert not refused.success and "/bench" in refused.message
    bench.node.destroy_publisher(intruder)
    bench.until(lambda: arm(bench).success, "arming once it has gone")
    bench.until(lambda: statuses[-1].armed and not statuses[-1].faults, "no fault")


def test_a_killed_predecessor_is_no_second_publisher_and_a_live_namesake_is_one(bench):
    statuses = bench.hear(ArbiterStatus, "/arbiter_status", LATCHED)
    first = bench.start("inril_control.arbiter_node", real_time_factor=0.0)
    observe = bench.speak(Observation, "/observation", TICK)
    observe(observation(0))
    assert arm(bench).success
    bench.end(first, signal.SIGKILL)
    statuses.clear()
    bench.start("inril_control.arbiter_node", real_time_factor=0.0)
    bench.until(lambda: statuses, "the second arbiter")
    second = statuses[-1].boot_id
    listed = []

    def armed() -> bool:
        listed.append(len(bench.node.get_publishers_info_by_topic("/target")))
        request = Arm.Request(arm=True, operator_name="test")
        answer = bench.try_to_ask(Arm, "/arbiter/arm", request)
        return answer is not None and answer.success

    bench.until(armed, "arming beside a dead predecessor's remains")
    assert listed[-1] == 2, "DDS had forgotten it: the test shows nothing"

    namesake = rclpy.create_node("arbiter_node", context=bench.node.context)
    namesake.create_publisher(Target, "/target", TICK)
    lives = namesake.create_publisher(ArbiterStatus, "/arbiter_status", LATCHED)

    def faulty() -> ArbiterStatus | None:
        lives.publish(ArbiterStatus(boot_id="another"))
        return next((s for s in statuses if s.boot_id == second and "second_publisher" in s.faults), None)

    status = bench.until(faulty, "fault second_publisher")
    assert "/arbiter_node" in status.details[list(status.faults).index("second_publisher")]
    namesake.destroy_node()
