"""Pins: a jump, a sag, or a silent change of hands when control passes between policy, human and hold."""

import math

import pytest

from inril_core.safety.ticks import Phase, Purpose, Source

FORWARD = (1.0, 0, 0, 0, 0, 0)


def moved(b, x_m):
    b.pose = (x_m, *b.pose[1:])


def tick(b, policy=FORWARD, **changes):
    closed = b.observe(**changes)
    return closed if closed is not None and closed.tick.k == b.k else b.policy(policy)


def test_nothing_is_commanded_before_a_person_arms(bench):
    b = bench(arm=False)
    b.human()
    closed = tick(b)
    assert closed.source is Source.HOLD and closed.target is None
    assert b.arm("  ")[0] is False
    assert b.arm("an operator")[0]
    assert tick(b).target is not None


def test_disarming_ends_every_command_until_armed_again(bench):
    b = bench()
    tick(b)
    b.arbiter.disarm()
    assert tick(b).target is None
    b.human()
    assert tick(b).target is None
    b.arm()
    assert tick(b).source is Source.POLICY


def test_takeover_and_hand_back_go_on_from_the_last_target(bench):
    """Pins: a step longer than the limit when control changes, in either direction."""
    b = bench()
    for _ in range(3):
        tick(b)
    assert b.said[-1].target.pose[0] == pytest.approx(0.52)
    b.human((0.0,) * 6)
    assert tick(b).target.pose[0] == pytest.approx(0.52) and b.said[-1].source is Source.HUMAN
    b.human((-1.0, 0, 0, 0, 0, 0))
    assert tick(b).target.pose[0] == pytest.approx(0.51)
    b.human((0.0,) * 6, grab=False, released=True)
    assert tick(b, policy=(0.0,) * 6).target.pose[0] == pytest.approx(0.51)
    assert b.said[-1].source is Source.POLICY


def test_every_episode_starts_from_its_own_measured_pose(bench):
    b = bench()
    tick(b)
    moved(b, 0.6)
    assert tick(b, step=0, episode_id="e1").target.pose[0] == pytest.approx(0.61)


def test_within_an_episode_commanding_does_not_begin_a_second_time(bench):
    """Pins: a step counter that says 0 again, as a licence for a jump to the measured pose."""
    b = bench()
    for _ in range(2):
        tick(b)
    assert tick(b, step=0, policy=(0.0,) * 6).target.pose[0] == pytest.approx(0.52)


def test_arming_never_moves_the_arm(bench):
    b = bench()
    for _ in range(3):
        tick(b)
    moved(b, 0.505)
    b.observe()
    assert b.arm()[0]
    assert b.policy((0.0,) * 6).target.pose == b.pose


def test_a_hold_repeats_the_last_target_and_motion_goes_on_from_there(bench):
    """Pins: a hold that follows a sagging arm down."""
    b = bench()
    b.human(grab=True)
    tick(b)
    b.human(grab=False)  # the human pauses: control is kept, nothing moves
    holds = []
    for sag_m in (0.0, 0.005, 0.01):
        moved(b, 0.5 - sag_m)
        holds.append(tick(b).target)
    assert [hold.pose[0] for hold in holds] == [0.502] * 3 and all(hold.hold for hold in holds)
    b.human((0.0,) * 6)
    assert tick(b).target.pose[0] == 0.502


def test_the_human_keeps_control_until_handing_it_back(bench):
    b = bench()
    b.human()
    assert tick(b).source is Source.HUMAN
    b.human(grab=False)
    assert tick(b).source is Source.HOLD
    assert b.arbiter.in_control is Source.HUMAN
    b.human(grab=False, released=True)
    assert tick(b).source is Source.POLICY


def test_a_lost_device_ends_in_hold_never_with_the_policy(bench):
    b = bench()
    b.human()
    tick(b)
    b.advance_s(0.35)
    b.timer()
    assert b.faults() == ["teleop_lost"]
    assert tick(b).source is Source.HOLD
    b.human(grab=False, released=True)
    assert tick(b).source is Source.HOLD


def test_a_synchronous_device_that_misses_a_tick_it_controls_is_lost(bench):
    b = bench()
    b.observe()
    b.human(sync=True)
    assert b.policy().source is Source.HUMAN
    b.observe()
    b.policy()
    b.advance_s(0.6)
    assert b.timer().source is Source.HOLD
    assert b.faults() == ["teleop_lost"]


def test_the_scripted_human_starts_every_episode_anew(bench):
    """Pins: an episode that ended under the scripted human's hand leaves the next one in hold."""
    b = bench()
    b.observe()
    b.human(sync=True)
    b.policy()
    b.observe(last=True)
    b.observe(step=0, episode_id="e1")
    b.policy()
    assert b.human(grab=False, sync=True).source is Source.POLICY


def test_a_grab_at_the_next_tick_does_not_take_over_the_open_one(bench):
    b = bench(expects_teleop=True)
    b.observe()
    b.human(k=1, sync=True)
    b.human(grab=False, sync=True)
    assert b.policy().source is Source.POLICY
    b.observe()
    assert b.policy().source is Source.HUMAN


def test_while_the_human_has_control_a_silent_policy_is_no_fault(bench):
    b = bench()
    b.human()
    b.observe()
    b.advance_s(0.2)
    b.human()
    b.advance_s(0.2)
    b.human()
    b.advance_s(0.2)
    assert b.timer().source is Source.HUMAN
    assert b.faults() == []


def test_between_episodes_in_real_time_the_arm_hears_holds_and_the_human(bench):
    """Pins: the arm's own watchdog trips in every gap between two episodes."""
    b = bench(lockstep=False)
    first = b.timer()
    assert first.source is None and first.target.hold and first.tick.episode_id == ""
    assert b.timer() is None  # one per period
    b.advance_s(0.1)
    b.robot()
    b.human((1.0, 0, 0, 0, 0, 0))
    closed = b.timer()
    assert closed.source is None and not closed.target.hold
    assert closed.target.pose[0] == pytest.approx(0.51)


def outside_ticks(b, seconds):
    """Time passes, the arm's state comes, nothing else."""
    before = len(b.said)
    for _ in range(round(seconds / 0.05)):
        b.advance_s(0.05)
        b.robot()
        b.timer()
    return [closed.target for closed in b.said[before:] if closed.target is not None]


@pytest.mark.parametrize("ends", [True, False])
def test_the_last_action_of_a_device_that_answers_ticks_is_never_played_again(bench, ends):
    """Pins: an arm that goes on by itself to the wall of its box, between episodes or when Observations cease."""
    b = bench(lockstep=False)
    b.observe()
    b.human(FORWARD, sync=True)
    assert b.policy().source is Source.HUMAN
    if ends:
        b.advance_s(0.1)
        b.robot()
        b.observe(last=True)
    held = outside_ticks(b, 3.0)
    assert len(held) > 10 and all(target.hold and target.pose[0] == pytest.approx(0.51) for target in held)
    assert (b.faults() == []) is ends


def test_the_last_action_of_the_policy_is_never_played_again(bench):
    b = bench(lockstep=False)
    b.observe()
    b.policy(FORWARD)
    b.advance_s(0.1)
    b.robot()
    b.observe(last=True)
    assert all(target.hold for target in outside_ticks(b, 2.0))


def test_outside_ticks_a_device_moves_the_arm_for_as_long_as_it_is_heard(bench):
    b = bench(lockstep=False)
    b.human((0.0, 1.0, 0, 0, 0, 0))
    targets = outside_ticks(b, 1.0)
    assert not targets[0].hold and all(target.hold for target in targets[4:])
    assert b.faults() == ["teleop_lost"]


def test_an_action_of_another_tick_is_not_used_at_the_deadline(bench):
    """Pins: a device with control that missed a tick, and whose last action closed it."""
    b = bench()
    b.observe()
    b.human(FORWARD, sync=True)
    b.policy()
    b.observe()
    b.advance_s(0.6)
    closed = b.timer()
    assert closed.source is Source.HOLD and closed.target.pose == b.said[0].target.pose


def test_an_answer_to_the_last_boots_tick_does_not_count_for_the_new_boots(bench):
    b = bench(expects_teleop=True)
    b.observe()
    b.human(FORWARD, sync=True)
    b.policy()
    b.boot_id, b.k = "second boot", -1
    b.observe()
    assert b.policy() is None  # the device has not answered this tick 0
    assert b.human(sync=True).source is Source.HUMAN


def test_a_late_answer_does_not_replace_the_one_for_the_open_tick(bench):
    b = bench()
    b.observe()
    b.observe()
    b.human((0, 1.0, 0, 0, 0, 0), sync=True)
    b.human(FORWARD, k=0, sync=True)
    assert b.policy().proposed == (0, 1.0, 0, 0, 0, 0)


def test_an_older_answer_that_comes_late_takes_back_no_release(bench):
    """Pins: reordered answers of one device, release first, that leave it in control."""
    b = bench()
    b.observe()
    b.observe()
    b.human(FORWARD, released=True, sync=True)
    b.human(FORWARD, k=0, sync=True)
    assert b.policy().source is Source.POLICY


def test_a_second_device_does_not_keep_the_first_ones_action_alive(bench):
    b = bench(lockstep=False)
    b.human(FORWARD)
    b.advance_s(0.1)
    b.robot()
    b.human(FORWARD, k=7, sync=True)
    assert all(target.hold for target in outside_ticks(b, 0.2))


def test_in_a_reset_nobody_moves_but_the_cell(bench):
    b = bench()
    b.human(FORWARD)
    closed = b.observe(phase=Phase.RESET)
    assert closed.source is Source.RESET and closed.target.hold


def test_while_the_cell_is_laid_out_nobody_moves_the_arm_and_afterwards_a_hold_is_where_it_is(bench):
    """Pins: a hold from before the reset that pulls the arm back once the reset has moved it."""
    b = bench(lockstep=False)
    tick(b)
    b.advance_s(0.1)
    b.robot()
    b.observe(last=True)
    b.arbiter.on_session_alive(b.mono_ns, resetting=True)
    b.human((0, 1.0, 0, 0, 0, 0))
    for x_m in (0.52, 0.56, 0.60):
        moved(b, x_m)
        b.human((0, 1.0, 0, 0, 0, 0))
        assert all(target.hold and target.pose[0] == pytest.approx(0.51) for target in outside_ticks(b, 0.1))
    b.human(grab=False, released=True)
    b.arbiter.on_session_alive(b.mono_ns, resetting=False)
    held = outside_ticks(b, 0.3)
    assert held and all(target.hold and target.pose == b.pose for target in held)
    assert b.faults() == []


def test_what_is_held_while_the_cell_is_laid_out_moves_nothing_afterwards(bench):
    """Pins: a key that stays down over the reset, and an arm that leaves its start before the episode begins."""
    b = bench(lockstep=False)
    tick(b)
    b.human(grab=False)
    b.human(FORWARD)
    b.advance_s(0.1)
    b.robot()
    b.observe(last=True)
    for resetting in (True, False):
        b.arbiter.on_session_alive(b.mono_ns, resetting=resetting)
        b.human(FORWARD)
        assert all(target.hold for target in outside_ticks(b, 0.2))
        b.human(FORWARD)
    assert b.arbiter.in_control is Source.HUMAN
    b.human((0.0,) * 6)
    b.human(FORWARD)
    assert any(not target.hold for target in outside_ticks(b, 0.2))


def test_demonstrations_never_ask_the_policy(bench):
    b = bench()
    b.human(grab=False, released=True)
    assert b.observe(purpose=Purpose.DEMO).source is Source.HOLD
    assert b.arbiter.in_control is Source.HOLD
    assert b.observe(phase=Phase.IDLE, purpose=Purpose.NONE).source is Source.HOLD


def test_an_episode_begins_where_the_arm_is_then_also_if_the_observation_comes_before_that_state(bench):
    """Pins: an arm that is sent back to where it was before the cell was laid out."""
    b = bench(lockstep=False)
    b.observe(0)
    b.policy()
    b.observe(1, last=True)
    b.advance_s(1.0)
    b.robot()
    b.timer()  # outside ticks: holds where the arm is

    before, b.pose = b.pose, (0.55, 0.03, 0.17, 1.0, 0.0, 0.0, 0.0)
    b.advance_s(0.1)
    b.observe(0, episode_id="e1", link_age_s=(0.0, 0.0, 0.0))
    assert b.policy().target is None, "nothing is commanded before the arm's own state has come"
    b.robot()
    b.advance_s(0.1)
    b.robot()
    b.observe(1, episode_id="e1")
    target = b.policy().target
    assert math.dist(target.pose[:3], b.pose[:3]) < 0.02 < math.dist(target.pose[:3], before[:3])
    assert not b.faults()
