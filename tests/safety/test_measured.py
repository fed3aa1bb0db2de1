"""Pins: one wrong measurement that moves the arm, and a wrong driver that goes unnoticed."""

import math

import pytest

from inril_core.contract import load_contract
from inril_core.safety.measured import REFUSED_IN_A_ROW, MeasuredPose, malformed
from inril_core.safety.ticks import Source

DOWN = (1.0, 0.0, 0.0, 0.0)
POSE = (0.5, 0.0, 0.2, *DOWN)
NEVER_FILLED = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
UNREACHABLE = [
    (0.8, 0.0, 0.2, *DOWN),
    (1000.0, 0.0, 0.2, *DOWN),
    (1e150, 0.0, 0.2, *DOWN),
    (0.5, 0.0, 0.2, 0.0, 0.0, 0.0, 1.0),
]
MALFORMED = [NEVER_FILLED, (0.5, 0.0, 0.2, 0.0, 0.0, 0.0, 0.0), (0.5, 0.0, 0.2, 1.1, 0.0, 0.0, 0.0)]
NOT_FINITE = [(math.nan, *POSE[1:]), (*POSE[:6], math.inf)]
S = 1_000_000_000


def tick(b, action=(1.0, 0, 0, 0, 0, 0), **changes):
    closed = b.observe(**changes)
    return closed if closed is not None and closed.tick.k == b.k else b.policy(action)


@pytest.mark.parametrize("wrong", UNREACHABLE + MALFORMED + NOT_FINITE)
@pytest.mark.parametrize("lockstep", [True, False])
def test_one_wrong_measurement_moves_nothing(bench, lockstep, wrong):
    b = bench(lockstep=lockstep)
    before = tick(b).target.pose
    b.advance_s(0.1)
    b.robot()
    closed = tick(b, tool_pose=wrong)
    assert closed.source is Source.HOLD
    assert closed.target is None or (closed.target.hold and closed.target.pose == before)


@pytest.mark.parametrize("wrong", UNREACHABLE + MALFORMED + NOT_FINITE)
def test_one_wrong_state_of_the_arm_moves_nothing(bench, wrong):
    b = bench(lockstep=False)
    before = tick(b).target.pose
    b.advance_s(0.1)
    b.robot()
    b.observe()
    right, b.pose = b.pose, wrong
    b.robot()
    closed = b.policy((0.0,) * 6)
    assert closed.target is None or closed.target.pose == before
    b.pose = right


@pytest.mark.parametrize("wrong", UNREACHABLE)
def test_a_few_in_a_row_are_a_fault_that_a_person_ends(bench, wrong):
    b = bench()
    tick(b)
    for _ in range(REFUSED_IN_A_ROW):
        assert b.faults() == []
        b.advance_s(0.1)
        closed = tick(b, tool_pose=wrong)
    assert b.faults() == ["unreachable_state"] and closed.target is None
    ok, why = b.arm()
    assert not ok and "driver" in why
    b.advance_s(0.1)
    assert tick(b).target is None, "nothing arms itself"
    assert b.arm()[0]
    b.advance_s(0.1)
    assert tick(b).target.pose[0] == pytest.approx(0.51)


def test_after_such_a_fault_the_new_measured_pose_is_where_commanding_begins(bench):
    """The arm is really there: something moved it while nobody looked."""
    b = bench()
    tick(b)
    b.pose = (0.65, 0.1, 0.3, *DOWN)
    for _ in range(REFUSED_IN_A_ROW + 1):
        b.advance_s(0.1)
        tick(b)
    assert b.faults() == ["unreachable_state"]
    assert b.arm()[0]
    b.advance_s(0.1)
    assert tick(b, (0.0,) * 6).target.pose == b.pose


def test_measurements_that_jump_about_refuse_the_arming(bench):
    b = bench(lockstep=False, arm=False)
    for x_m in (0.8, 0.4, 0.8):
        b.advance_s(0.1)
        b.pose = (x_m, 0.0, 0.2, *DOWN)
        b.robot()
    ok, why = b.arm()
    assert not ok and "unreachable_state" in why
    b.advance_s(0.1)
    b.robot()
    assert b.arm()[0]


def test_between_episodes_the_cell_may_be_laid_out_anew(bench):
    """No fault, no motion outside ticks, and the episode begins where the arm is."""
    b = bench(lockstep=False)
    tick(b)
    b.advance_s(0.1)
    b.robot()
    b.observe(last=True)
    held = b.said[0].target.pose
    b.pose = (0.65, 0.1, 0.3, *DOWN)
    for _ in range(6):
        b.advance_s(0.1)
        b.robot()
        assert b.timer().target.pose == held
    assert b.faults() == []
    assert tick(b, step=0, episode_id="e1").target.pose[0] == pytest.approx(0.66)


def test_an_episode_does_not_begin_on_a_measurement_that_nothing_confirms(bench):
    """Pins: one wrong state of the arm, which the Observation made of it seems to confirm."""
    b = bench(lockstep=False)
    right, wrong = b.pose, (0.65, 0.1, 0.3, *DOWN)
    b.advance_s(0.1)
    b.pose = wrong
    b.robot()
    assert tick(b, step=0, episode_id="e1").target is None
    b.advance_s(0.1)
    b.pose = right
    b.robot()
    assert tick(b).target.pose[0] == pytest.approx(0.51)
    b.observe(last=True)
    b.advance_s(0.1)
    b.pose = wrong
    b.robot()
    assert tick(b, step=0, episode_id="e2").target is None
    b.advance_s(0.1)
    b.robot()
    assert tick(b).target.pose[0] == pytest.approx(0.66), "confirmed: the cell was laid out anew"


def test_commanding_begins_near_the_box_or_not_at_all(bench):
    b = bench(arm=False)
    b.pose = (0.9, 0.0, 0.2, *DOWN)
    b.observe()
    assert b.arm()[0]
    assert tick(b).target.pose[0] == pytest.approx(0.9)
    b = bench(arm=False)
    b.pose = (3.0, 0.0, 0.2, *DOWN)
    b.observe()
    ok, why = b.arm()
    assert not ok and "outside the contract's box" in why


@pytest.mark.parametrize("frame", ["", "tool", "world"])
@pytest.mark.parametrize("lockstep", [True, False])
def test_a_pose_in_another_frame_is_refused_and_the_fault_names_the_node(bench, frame, lockstep):
    b = bench(lockstep=lockstep)
    tick(b)
    b.advance_s(0.1)
    b.robot()
    assert tick(b, frame=frame).target is None
    assert b.faults() == ["wrong_frame"] and "observation_node" in b.arbiter.faults.named()["wrong_frame"]
    b = bench(lockstep=False, arm=False)
    b.robot(frame=frame)
    ok, why = b.arm()
    assert not ok and "the arm's node" in why and "frame_id" in why


def test_the_frame_is_the_contracts(bench, contract):
    b = bench(contract=contract.model_copy(update={"base_frame": "fr3_link0"}), arm=False)
    assert b.arm()[0]
    assert tick(b, frame="fr3_link0").source is Source.POLICY
    assert tick(b, frame="base").target is None


def test_an_arm_far_from_its_last_target_is_not_moved_and_named(bench):
    """Pins: a device that, after a reset, pulls the arm back to where the last episode ended."""
    b = bench(lockstep=False)
    tick(b)
    b.advance_s(0.1)
    b.robot()
    b.observe(last=True)
    held = b.said[0].target.pose
    b.pose = (0.68, 0.15, 0.32, *DOWN)
    for grabs in (False, False, True, True, True):
        b.advance_s(0.1)
        b.robot()
        b.human((0, 0, 1.0, 0, 0, 0), grab=grabs)
        closed = b.timer()
        assert closed.target.hold and closed.target.pose == held
    assert b.faults() == ["following_error"]
    assert b.arm()[0]
    for grabs in (True, False, True):  # a device that was held through the arming has to let go first
        b.human((0, 0, 1.0, 0, 0, 0), grab=grabs)
    b.advance_s(0.1)
    b.robot()
    assert b.timer().target.pose[2] == pytest.approx(0.33)


def test_commanding_begins_where_the_arm_is_when_the_first_target_leaves(bench):
    """Pins: an arm that was moved by hand between the arming and the first Target, and is pulled back."""
    b = bench(arm=False)
    b.observe()
    assert b.arm()[0]
    for x_m in (0.54, 0.58, 0.62):
        b.advance_s(0.1)
        b.pose = (x_m, *POSE[1:])
        b.observe(last=True)
    assert tick(b, (0.0,) * 6).target.pose == b.pose


def test_a_measurement_that_is_doubted_right_after_the_arming_begins_nothing(bench):
    b = bench(lockstep=False)
    b.advance_s(0.1)
    b.pose = (0.65, 0.1, 0.3, *DOWN)
    b.robot()
    assert b.timer() is None
    b.advance_s(0.1)
    b.robot()
    assert b.timer().target.pose == b.pose


def test_reach_grows_with_time_up_to_a_bound_and_no_clock_widens_it():
    contract = load_contract("insert_leg")
    for gap_ns, reach_m in ((S // 10, 0.1), (S // 2, 0.26), (3600 * S, 0.26), (-3600 * S, 0.26), (2**62, 0.26)):
        for factor, expected in ((0.99, True), (1.01, False)):
            measured = MeasuredPose(contract)
            assert measured.take(POSE, 10 * S, jump_allowed=False)
            far = (0.5, reach_m * factor, 0.2, *DOWN)
            assert measured.take(far, 10 * S + gap_ns, jump_allowed=False) is expected


@pytest.mark.parametrize("pose", MALFORMED)
def test_what_is_malformed_says_why(pose):
    assert malformed(pose)
    assert malformed(POSE) is None
    assert "7" in malformed(POSE[:6])
