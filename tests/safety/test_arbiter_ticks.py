"""Pins: a tick that closes twice, never, or with an answer to another tick."""

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inril_core.errors import ConfigError
from inril_core.safety.arbiter import LONGEST_CHECK_NS
from inril_core.safety.ticks import ArbiterConfig, Phase, Purpose, Source


def test_the_policys_answer_closes_its_tick_at_once(bench):
    b = bench()
    assert b.observe() is None
    closed = b.policy((0.1, 0, 0, 0, 0, 0))
    assert closed.source is Source.POLICY and (closed.run_id, closed.n) == ("run", 3)
    assert closed.tick.k == 0
    assert closed.target.pose[0] == pytest.approx(b.pose[0] + 0.001) and not closed.target.hold
    assert closed.target.valid_until_ns > closed.tick.stamp_ns
    assert b.timer() is None


def test_an_answer_that_overtakes_its_observation_counts(bench):
    """DDS orders messages within a topic, not across two."""
    b = bench()
    assert b.policy(k=0) is None
    assert b.observe().source is Source.POLICY
    assert b.arbiter.late_answers == 0


def test_late_repeated_and_foreign_answers_are_counted_and_dropped(bench):
    b = bench()
    b.observe()
    b.policy()
    assert b.policy() is None  # repeated
    assert b.policy(k=-1) is None  # of an older tick
    b.boot_id, b.k = "second boot", -1
    b.observe()
    assert b.policy(k=0, boot_id="boot") is None  # of an older boot
    assert b.arbiter.late_answers == 3
    assert b.policy().source is Source.POLICY


def test_at_the_deadline_the_tick_closes_as_hold_and_names_the_policy(bench):
    b = bench()
    b.observe()
    b.advance_s(0.49)
    assert b.timer() is None
    b.advance_s(0.02)
    closed = b.timer()
    assert closed.source is Source.HOLD and closed.target.hold
    assert b.faults() == ["policy_action_stale"]
    assert b.arbiter.late_ticks == 1
    assert b.policy() is None and b.arbiter.late_answers == 1


def test_a_new_observation_closes_the_open_tick_first(bench):
    b = bench()
    b.observe()
    b.observe()
    assert [closed.tick.k for closed in b.said] == [0]
    assert b.said[0].source is Source.HOLD
    b.policy()
    assert [closed.tick.k for closed in b.said] == [0, 1]


def test_in_real_time_one_missed_deadline_is_a_late_tick_and_no_fault(bench):
    b = bench(lockstep=False)
    b.observe()
    b.advance_s(0.1)
    assert b.timer().source is Source.HOLD
    assert b.faults() == [] and b.arbiter.late_ticks == 1
    b.robot()
    b.observe()
    assert b.policy().source is Source.POLICY


def test_in_real_time_a_silent_policy_is_a_fault_within_its_staleness_limit(bench):
    b = bench(lockstep=False)
    for _ in range(2):
        b.robot()
        b.observe()
        b.advance_s(0.1)
        b.timer()
    assert b.faults() == ["policy_action_stale"]
    assert all(closed.source is Source.HOLD for closed in b.said)


def test_repeated_and_reordered_observations_open_nothing(bench):
    b = bench()
    b.observe()
    b.policy()
    b.k = -1
    assert b.observe() is None
    assert b.policy() is None
    assert b.arbiter.ticks == 1


def test_no_action_follows_the_last_observation(bench):
    b = bench()
    b.observe()
    b.policy()
    assert b.observe(last=True) is None
    assert b.policy() is None
    b.advance_s(10.0)
    assert b.timer() is None
    assert b.faults() == []


def test_a_synchronous_human_is_waited_for_and_asked_first(bench):
    b = bench(expects_teleop=True)
    b.observe()
    assert b.policy() is None
    assert b.human(grab=False, sync=True).source is Source.POLICY
    b.observe()
    assert b.human(sync=True) is None  # the policy's answer in the shadow is recorded, so it is waited for
    assert b.policy().source is Source.HUMAN
    assert b.said[-1].n == -1 and b.said[-1].proposed == (0.2,) * 6


def test_a_synchronous_human_that_was_heard_once_is_waited_for(bench):
    b = bench()
    b.observe()
    b.human(grab=False, sync=True)
    b.policy()
    b.observe()
    assert b.policy() is None
    assert b.human(grab=False, sync=True).source is Source.POLICY


def test_a_synchronous_human_who_falls_silent_without_control_does_not_stop_the_policy(bench):
    b = bench(expects_teleop=True)
    b.observe()
    b.policy()
    b.advance_s(0.6)
    assert b.timer().source is Source.POLICY
    b.observe()
    assert b.policy().source is Source.POLICY  # not waited for a second time within the episode
    assert b.faults() == []


@pytest.mark.parametrize("changes", [{"expects_policy": False}, {}])
def test_a_demonstration_waits_for_the_human_from_the_first_step(bench, changes):
    b = bench(**changes)
    assert b.observe(purpose=Purpose.DEMO) is None
    assert b.human(sync=True).source is Source.HUMAN
    assert b.faults() == []


def test_idle_ticks_and_reset_ticks_ask_nobody(bench):
    b = bench()
    assert b.observe(phase=Phase.IDLE).source is Source.HOLD
    assert b.observe(phase=Phase.RESET).source is Source.RESET
    assert all(closed.target.hold for closed in b.said)


def test_a_config_without_an_end_of_waiting_is_refused():
    with pytest.raises(ConfigError, match="deadline_ns"):
        ArbiterConfig(
            lockstep=True,
            period_ns=1,
            deadline_ns=0,
            policy_timeout_ns=1,
            robot_timeout_ns=1,
            observation_timeout_ns=1,
        )


@given(
    lockstep=st.booleans(),
    armed=st.booleans(),
    policy=st.booleans(),
    moves=st.lists(
        st.sampled_from(
            ["observe", "last", "policy", "robot", "needs_rearm", "person", "released", "permit", "denied", "silence"]
        ),
        max_size=8,
    ),
)
def test_looking_only_when_it_says_is_looking_all_the_time(bench, lockstep, armed, policy, moves):
    """Ticks close, faults latch and Targets leave in the same moment, whatever falls silent."""
    rare, often = (
        bench(
            lockstep=lockstep,
            arm=False,
            expects_recorder=True,
            expects_session=True,
            expects_policy=policy,
            permit_timeout_ns=2_000_000_000,
        )
        for _ in range(2)
    )
    for b in (rare, often):
        b.arbiter.on_recorder_alive("recorder", b.mono_ns)
        b.arbiter.on_session_alive(b.mono_ns)
        b.arbiter.on_permit("monitor", "", b.mono_ns)
        assert not armed or b.arm()[0]
    for move in moves:
        for b in (rare, often):
            {
                "observe": b.observe,
                "last": partial(b.observe, last=True),
                "policy": b.policy,
                "robot": b.robot,
                "needs_rearm": partial(b.robot, needs_rearm=True),
                "person": b.human,
                "released": partial(b.human, released=True),
                "permit": partial(b.arbiter.on_permit, "monitor", "", b.mono_ns),
                "denied": partial(b.arbiter.on_permit, "monitor", "too fast", b.mono_ns),
                "silence": lambda: None,
            }[move]()
            if move in ("robot", "needs_rearm", "permit", "denied"):
                b.timer()
        due_ns = rare.arbiter.next_check_ns(rare.now_ns, rare.mono_ns)
        for _ in range(100):
            for b in (rare, often):
                b.advance_s(0.06 if move == "silence" else 0.003)
            often.timer()
            if rare.mono_ns >= due_ns:
                rare.timer()
                due_ns = rare.arbiter.next_check_ns(rare.now_ns, rare.mono_ns)
            assert rare.mono_ns < due_ns <= rare.mono_ns + LONGEST_CHECK_NS
            assert (rare.arbiter.ticks, len(rare.said)) == (often.arbiter.ticks, len(often.said))
            assert rare.faults() == often.faults()
