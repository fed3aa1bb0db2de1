"""Pins: an order of messages, clocks and faults under which the arm moves although it must not."""

import math
from collections import Counter

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inril_core.safety.faults import Blocks
from inril_core.safety.ticks import Phase, Purpose

numbers = st.one_of(st.floats(-2.0, 2.0), st.sampled_from([math.nan, math.inf, -math.inf]))
calm = st.floats(-2.0, 2.0)
actions = st.one_of(st.tuples(*[calm] * 6), st.tuples(*[numbers] * 6), st.tuples(*[calm] * 5))
ages = st.sampled_from([0.0, 0.0, 0.0, 0.15, 0.5, math.nan])
events = st.one_of(
    st.tuples(
        st.just("observe"),
        st.integers(-1, 2),  # how far k advances: repeated, reordered, lost
        st.tuples(ages, ages, ages),
        st.sampled_from([Phase.RUN, Phase.RUN, Phase.RUN, Phase.IDLE, Phase.RESET]),
        st.sampled_from([Purpose.TRAIN, Purpose.TRAIN, Purpose.DEMO]),
        st.booleans().flatmap(lambda rare: st.booleans() if rare else st.just(False)),  # last
    ),
    st.tuples(st.just("policy"), st.integers(-2, 2), actions),
    st.tuples(st.just("human"), st.integers(-1, 1), actions, st.booleans(), st.booleans(), st.booleans()),
    st.tuples(st.just("robot"), st.sampled_from(["arm", "arm", "arm", "new"]), st.booleans()),
    st.tuples(st.just("time"), st.sampled_from([0.01, 0.05, 0.1, 0.3, 6.0])),
    st.tuples(st.just("arm")),
    st.tuples(st.just("disarm")),
    st.tuples(st.just("boot")),
    st.tuples(st.just("move"), st.floats(-0.3, 0.3), st.floats(-0.2, 0.3)),
)


def play(b, event):
    """Feed one event; returns what the arbiter said to it."""
    before = len(b.said)
    match event:
        case ("observe", ahead, link_age_s, phase, purpose, last):
            b.k = max(b.k + ahead - 1, -1)
            b.observe(link_age_s=link_age_s, phase=phase, purpose=purpose, last=last)
        case ("policy", ahead, action):
            b.policy(action, k=b.k + ahead)
        case ("human", ahead, action, grab, released, sync):
            b.human(action, k=b.k + ahead, grab=grab, released=released, sync=sync)
        case ("robot", boot_id, needs_rearm):
            b.robot(boot_id, needs_rearm)
        case ("time", seconds):
            b.advance_s(seconds)
            b.timer()
        case ("arm",):
            b.arm()
        case ("disarm",):
            b.arbiter.disarm()
        case ("boot",):
            b.boot_id, b.k = b.boot_id + "+", -1
        case ("move", dy, dz):
            b.pose = (b.pose[0], dy, 0.2 + dz, *b.pose[3:])
    return b.said[before:]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.booleans(), st.booleans(), st.booleans(), st.lists(events, max_size=60))
def test_each_tick_closes_exactly_once_in_whatever_order_messages_come(
    bench, lockstep, expects_policy, expects_teleop, sequence
):
    b = bench(lockstep=lockstep, arm=False, expects_policy=expects_policy, expects_teleop=expects_teleop)
    opened, newest = set(), {}
    for event in sequence:
        play(b, event)
        if event[0] == "observe" and b.k > newest.get(b.boot_id, -1):
            newest[b.boot_id] = b.k
            if not event[5]:
                opened.add((b.boot_id, b.k))
    b.advance_s(10.0)
    b.timer()
    closed = Counter((said.tick.boot_id, said.tick.k) for said in b.said if said.source is not None)
    assert set(closed) == opened
    assert all(times == 1 for times in closed.values())
    assert b.arbiter.ticks == len(opened)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.booleans(), st.booleans(), st.lists(events, max_size=60))
def test_nothing_moves_that_must_not(bench, contract, lockstep, expects_teleop, sequence):
    """Disarmed, on an old robot state, or on NaN: no motion. Targets stay in the box, faults stay."""
    b = bench(lockstep=lockstep, expects_teleop=expects_teleop)
    limit_ns = contract.staleness.robot_state_s * 1e9
    low, high = np.array(contract.limits.position_min_m), np.array(contract.limits.position_max_m)
    box_holds = True  # until the arm itself is somewhere else
    robot_ns = b.now_ns
    for event in sequence:
        faults_before, armed_before = b.faults(), b.arbiter.armed
        said = play(b, event)
        if event[0] != "arm":
            assert b.faults()[: len(faults_before)] == faults_before
            assert b.arbiter.armed <= armed_before
        robot_ns = b.now_ns if event[0] == "robot" else robot_ns
        box_holds &= bool(np.all(low <= b.pose[:3]) and np.all(b.pose[:3] <= high))
        for closed in said:
            assert all(map(math.isfinite, closed.executed))
            if closed.target is None:
                continue
            assert b.arbiter.armed and b.arbiter.faults.blocks < Blocks.TARGETS
            assert all(map(math.isfinite, closed.target.pose))
            assert lockstep or b.now_ns - robot_ns <= limit_ns
            if box_holds:
                assert np.all(low <= closed.target.pose[:3]) and np.all(closed.target.pose[:3] <= high)
            if not closed.target.hold and closed.source is not None:
                assert closed.tick.link_age_s[0] * 1e9 <= limit_ns


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(actions, st.floats(-0.02, 0.02)), min_size=1, max_size=40))
def test_the_policy_never_leaves_the_box_whatever_it_asks(bench, contract, sequence):
    """The arm follows its targets with any error below the wind-up."""
    b = bench()
    low, high = np.array(contract.limits.position_min_m), np.array(contract.limits.position_max_m)
    for action, error_m in sequence:
        b.advance_s(1.0 / contract.control_rate_hz)
        b.observe()
        b.policy(action)
        target = b.said[-1].target
        assert np.all(low <= target.pose[:3]) and np.all(target.pose[:3] <= high)
        b.pose = (*np.clip(np.array(target.pose[:3]) + error_m, low, high).tolist(), *target.pose[3:])
        if b.faults():
            assert target.hold
            b.arm()
