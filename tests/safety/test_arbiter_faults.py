"""Pins: a fault that stops too little, too much, is misnamed, or goes by itself."""

import math

import pytest

from inril_core.safety.faults import Blocks
from inril_core.safety.ticks import Source

NAN = math.nan


def tick(b, policy=(0.1,) * 6, **changes):
    closed = b.observe(**changes)
    return closed if closed is not None and closed.tick.k == b.k else b.policy(policy)


@pytest.mark.parametrize(("ages", "name"), [((0.0, 0.4, 0.0), "part_poses"), ((0.0, NAN, 0.0), "part_poses")])
def test_a_stale_link_is_named_and_stops_the_policy_but_not_the_human(bench, ages, name):
    b = bench()
    tick(b)
    closed = tick(b, link_age_s=ages)
    assert closed.source is Source.HOLD and closed.target.hold
    assert b.faults() == [f"link_stale:{name}"]
    b.human()
    assert tick(b, link_age_s=ages).source is Source.HUMAN


def test_a_camera_counts_only_where_the_policy_reads_it(bench, contract):
    b = bench()
    assert tick(b, link_age_s=(0.0, 0.0, 9.0)).source is Source.POLICY
    images = (contract.images[0].model_copy(update={"required": True}),)
    b = bench(contract=contract.model_copy(update={"images": images}))
    tick(b, link_age_s=(0.0, 0.0, 9.0))
    assert b.faults() == ["link_stale:camera_front"]


@pytest.mark.parametrize("age_s", [0.31, NAN, math.inf])
def test_without_a_fresh_robot_state_nothing_at_all_is_commanded(bench, age_s):
    b = bench()
    b.human()
    closed = tick(b, link_age_s=(age_s, 0.0, 0.0))
    assert closed.target is None
    assert b.faults() == ["robot_state_stale"]
    assert tick(b).target is None


def test_in_real_time_a_silent_robot_is_noticed_between_ticks(bench):
    b = bench(lockstep=False)
    b.advance_s(0.1)
    b.robot()
    tick(b)
    b.advance_s(0.25)
    assert b.timer() is None
    assert b.faults()[0] == "robot_state_stale"
    assert "arm" in b.arbiter.faults.named()["robot_state_stale"]


def test_in_real_time_a_tick_does_not_close_on_an_old_robot_state_before_the_watchdog_ran(bench):
    b = bench(lockstep=False)
    b.advance_s(0.25)
    assert tick(b).target is None
    assert b.faults() == ["robot_state_stale"]


def test_a_robot_clock_that_is_off_counts_as_stale(bench):
    b = bench(lockstep=False)
    b.now_ns += 10**9
    b.timer()
    assert "robot_state_stale" in b.faults()


def test_an_arm_that_needs_rearming_or_has_restarted_stops_all_targets(bench):
    b = bench(lockstep=False)
    b.robot(needs_rearm=True)
    assert b.timer() is None
    assert b.faults() == ["robot_needs_rearm"]
    assert b.arm()[0] is False and "/robot/arm" in b.arm()[1]
    b.robot()
    assert b.arm()[0]
    b.robot(boot_id="another boot")
    assert b.timer() is None
    assert b.faults() == ["robot_restarted"]


def test_an_arm_that_stops_itself_is_told_apart_from_its_watchdog(bench):
    """Pins: a reflex, a pressed stop or guiding by hand that looks like a missing Target."""
    b = bench(lockstep=False)
    b.robot(needs_rearm=True, fault="the arm itself does not move: reflex")
    assert b.timer() is None
    assert b.faults() == ["robot_fault", "robot_needs_rearm"]
    success, message = b.arm()
    assert not success and "robot_fault" in message and "reflex" in message
    b.robot()
    assert b.faults() == ["robot_fault", "robot_needs_rearm"], "it stays until a person arms"
    assert b.arm()[0]


@pytest.mark.parametrize("bad", [NAN, math.inf])
def test_a_non_finite_policy_action_holds_and_leaves_the_human_free(bench, bad):
    b = bench()
    closed = tick(b, policy=(bad, 0, 0, 0, 0, 0))
    assert closed.source is Source.HOLD and closed.target.hold
    assert b.faults() == ["non_finite_action"]
    b.human()
    assert tick(b).source is Source.HUMAN


def test_a_non_finite_or_foreign_human_action_holds(bench):
    b = bench()
    b.human((NAN,) * 6)
    assert tick(b).source is Source.HOLD
    assert b.faults() == ["non_finite_action"]
    b = bench()
    b.human(frame="tool")
    assert tick(b).source is Source.HOLD
    assert b.faults() == ["wrong_frame"]
    b = bench()
    assert tick(b, policy=(0.1,) * 7).source is Source.HOLD
    assert b.faults() == ["malformed_action"]


def test_a_pose_that_is_no_pose_stops_all_targets(bench):
    b = bench()
    b.pose = (NAN, 0.0, 0.2, 1.0, 0.0, 0.0, 0.0)
    assert tick(b).target is None
    assert b.faults() == ["non_finite_state"]
    b = bench()
    b.pose = (0.5, 0.0, 0.2, 0.0, 0.0, 0.0, 0.0)
    assert tick(b).target is None
    assert b.faults() == ["malformed_state"]


def test_a_stop_limit_latches_and_names_the_limit(bench, contract):
    violation = {**contract.limits.on_violation, "translation_step": "stop"}
    limits = contract.limits.model_copy(update={"on_violation": violation, "max_translation_step_m": 0.005})
    b = bench(contract=contract.model_copy(update={"limits": limits}))
    closed = tick(b, policy=(1.0, 0, 0, 0, 0, 0))
    assert closed.source is Source.HOLD and closed.limits == ("translation_step",)
    assert closed.proposed == (1.0, 0, 0, 0, 0, 0) and closed.executed == (0.0,) * 6
    assert b.faults() == ["limit_stop"]
    assert tick(b).source is Source.HOLD


def test_observations_that_cease_within_an_episode_stop_the_policy(bench):
    b = bench()
    tick(b)
    b.advance_s(5.1)
    b.timer()
    assert b.faults() == ["observation_stale"]


def test_a_dead_observation_node_leaves_the_human_a_way_out_in_real_time(bench):
    """Pins: an arm that nobody can retract because no tick opens any more."""
    b = bench(lockstep=False)
    tick(b)
    for _ in range(4):
        b.advance_s(0.1)
        b.robot()
        b.timer()
    assert b.faults() == ["observation_stale"]
    assert b.said[-1].source is None and b.said[-1].target.hold
    b.advance_s(0.1)
    b.robot()
    b.human((0, 0, 1.0, 0, 0, 0))
    closed = b.timer()
    assert not closed.target.hold and closed.target.pose[2] == pytest.approx(0.211)


def test_an_old_observation_stops_the_policy_in_real_time(bench):
    b = bench(lockstep=False)
    closed = tick(b, stamp_ns=b.now_ns - 400_000_000)
    assert closed.source is Source.HOLD
    assert b.faults() == ["observation_stale"]


@pytest.mark.parametrize("who", ["recorder", "session"])
def test_a_silent_recorder_or_session_ends_the_episode_in_hold(bench, who):
    b = bench(**{f"expects_{who}": True}, arm=False)
    alive = {
        "recorder": lambda: b.arbiter.on_recorder_alive("boot", b.mono_ns),
        "session": lambda: b.arbiter.on_session_alive(b.mono_ns),
    }[who]
    assert b.arm() == (False, b.arm()[1]) and who in b.arm()[1]
    alive()
    assert b.arm()[0]
    tick(b)
    b.advance_s(2.9)
    b.human()
    b.timer()
    assert b.faults() == []
    b.advance_s(2.2)
    b.human()
    b.timer()
    assert f"{who}_lost" in b.faults()
    assert tick(b).source is Source.HOLD  # although the human still grabs
    b.human(grab=False)
    b.human()
    assert tick(b).source is Source.HUMAN  # a fresh grab: the retraction


def test_a_recorder_that_restarts_within_an_episode_has_lost_it(bench):
    b = bench(expects_recorder=True, arm=False)
    b.arbiter.on_recorder_alive("first", b.mono_ns)
    b.arm()
    tick(b)
    b.arbiter.on_recorder_alive("second", b.mono_ns)
    assert b.faults() == ["recorder_lost"]


def test_between_episodes_a_silent_recorder_is_no_fault(bench):
    b = bench(expects_recorder=True, arm=False)
    b.arbiter.on_recorder_alive("first", b.mono_ns)
    b.arm()
    b.advance_s(10.0)
    b.timer()
    assert b.faults() == []


def test_no_fault_clears_by_itself(bench):
    b = bench()
    tick(b, link_age_s=(0.0, 0.4, 0.0))
    for _ in range(5):
        b.advance_s(1.0)
        assert tick(b).source is Source.HOLD
        b.timer()
    assert b.faults() == ["link_stale:part_poses"]
    assert b.arm()[0]
    assert tick(b).source is Source.POLICY


def test_arming_is_refused_while_the_cause_persists_and_says_the_fix(bench):
    b = bench()
    tick(b, link_age_s=(0.0, 0.4, 0.0))
    ok, why = b.arm()
    assert not ok and "link_stale:part_poses" in why and "look after its node" in why
    assert b.faults() == ["link_stale:part_poses"]
    tick(b)
    assert b.arm()[0] and b.faults() == []


def test_a_dead_policy_refuses_the_arming_until_it_gives_a_sign_of_life(bench):
    b = bench()
    b.observe()
    b.advance_s(0.6)
    b.timer()
    assert b.faults() == ["policy_action_stale"]
    ok, why = b.arm()
    assert not ok and "policy_node" in why
    b.arbiter.on_policy_alive(b.mono_ns)
    assert b.arm()[0]


def test_a_lost_device_refuses_the_arming_until_it_is_heard(bench):
    b = bench()
    b.human()
    tick(b)
    b.advance_s(0.4)
    b.timer()
    ok, why = b.arm()
    assert not ok and "reconnect" in why
    b.human(grab=False)
    assert b.arm()[0]
    assert tick(b).source is Source.POLICY


def test_real_time_arming_needs_a_measured_state(bench):
    b = bench(lockstep=False)
    b.advance_s(0.3)
    ok, why = b.arm()
    assert not ok and "robot_state_stale" in why


def test_a_disarmed_arbiter_latches_nothing(bench):
    b = bench(arm=False)
    tick(b, link_age_s=(NAN, NAN, NAN))
    b.policy((NAN,) * 6)
    b.advance_s(10.0)
    b.timer()
    assert b.faults() == []


@pytest.mark.parametrize("who", ["policy", "human"])
@pytest.mark.parametrize("action", [(NAN,) * 6, (0.1,) * 5, ()])
def test_arming_in_the_tick_of_an_action_that_cannot_be_used_holds(bench, who, action):
    """Pins: the stored action that left the limiter as an exception once the fault was cleared."""
    b = bench()
    b.observe()
    if who == "policy":
        b.human(grab=False, sync=True, k=99)  # a device that is waited for keeps the tick open
        b.policy(action)
    else:
        b.human(action)
    assert b.faults() and b.arm()[0]
    b.advance_s(0.6)
    closed = b.timer()
    assert closed is None or (closed.source is Source.HOLD and closed.target.hold)


def test_an_internal_error_holds_until_a_person_arms(bench):
    b = bench()
    tick(b)
    b.arbiter.on_internal_error("somewhere: ValueError")
    assert tick(b).source is Source.HOLD and b.said[-1].target.hold
    assert b.faults() == ["internal_error"]
    assert b.arm()[0] and tick(b).source is Source.POLICY


def test_a_second_publisher_is_a_fault_and_refuses_the_arming_while_it_lasts(bench):
    b = bench()
    b.arbiter.on_publishers("/target is published by /intruder too", Blocks.TARGETS)
    assert tick(b).target is None
    assert b.faults() == ["second_publisher"]
    ok, why = b.arm()
    assert not ok and "/intruder" in why
    b.arbiter.on_publishers(None, Blocks.NOTHING)
    assert b.faults() == ["second_publisher"]
    assert b.arm()[0] and tick(b).source is Source.POLICY


def test_observations_of_two_boots_in_turn_are_two_publishers(bench):
    b = bench()
    tick(b)
    b.boot_id, b.k = "second boot", -1
    for _ in range(3):
        b.boot_id = "boot"
        b.observe()
        assert b.arbiter.armed
        b.boot_id = "second boot"
        b.observe()
    b.boot_id = "boot"
    b.observe()
    assert "second_publisher" in b.faults()


def test_the_monitor_s_denial_and_its_silence_are_named_and_refuse_the_arming(bench):
    b = bench(arm=False, permit_timeout_ns=300_000_000)
    assert b.arm() == (False, "not armed: safety_monitor: safety_monitor is silent; start it")
    b.arbiter.on_permit("m", "", b.mono_ns)
    assert b.arm()[0]
    assert tick(b).source is Source.POLICY
    b.arbiter.on_permit("m", "tool speed 2 m/s, at most 1", b.mono_ns)
    assert b.faults() == ["safety_monitor"]
    b.human()
    assert tick(b).source is Source.HOLD, "nor does a person move what the monitor has stopped"
    assert "tool speed" in b.arm()[1]
    b.arbiter.on_permit("m", "", b.mono_ns)
    b.timer()
    assert b.faults() == ["safety_monitor"], "a fault must not clear by itself"
    assert b.arm()[0]
    b.advance_s(0.31)
    b.timer()
    assert b.faults() == ["safety_monitor"]


def test_a_monitor_that_was_restarted_is_a_fault(bench):
    b = bench(arm=False, permit_timeout_ns=300_000_000)
    b.arbiter.on_permit("m", "", b.mono_ns)
    assert b.arm()[0]
    b.arbiter.on_permit("n", "", b.mono_ns)
    assert b.faults() == ["safety_monitor"] and tick(b).source is Source.HOLD
    assert b.arm()[0] and tick(b).source is Source.POLICY
