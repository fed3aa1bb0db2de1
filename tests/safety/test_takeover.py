"""Pins: which act takes control and which gives it back; no step and no jolt when it changes hands; the person's first
action is that of the next tick; an arm that nobody could take over is not armed."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inril_core.contract import load_contract
from inril_core.errors import ConfigError
from inril_core.safety.handover import share
from inril_core.safety.takeover import Control, HandBack, Mode, TakeoverConfig
from inril_core.safety.takeover_measure import takeovers
from inril_core.safety.ticks import Handover, HumanAnswer, Phase, Purpose, Source

S = 1_000_000_000
STILL, PUSH = (0.0,) * 6, (0.0, 0.0, 0.5, 0.0, 0.0, 0.0)
FORWARD = (1.0, 0, 0, 0, 0, 0)
BACK = (-1.0, 0, 0, 0, 0, 0)


class Hand:
    """A person's readings, 20 ms apart, and whether they have control after each."""

    def __init__(self, mode: str = "dead_man", hand_back: str = "button") -> None:
        self.control = Control(TakeoverConfig(Mode(mode), HandBack(hand_back), S // 2), S // 2)
        self.mono_ns = S
        self.says()

    def says(self, grab: bool = False, action=STILL, released: bool = False, after_s: float = 0.02) -> bool:
        self.mono_ns += round(after_s * S)
        self.control.hear(HumanAnswer(0, False, grab, released, action, "base"), self.mono_ns)
        return self.control.taken


def test_dead_man_takes_on_grab_and_keeps_until_the_hand_back_button() -> None:
    hand = Hand()
    assert not hand.says(action=PUSH)
    assert hand.says(grab=True)
    assert all(hand.says() for _ in range(100)), "letting go holds the arm, it does not give it to the policy"
    assert not hand.says(released=True) and not hand.says()


def test_dead_man_that_hands_back_by_letting_go_does_so_after_a_hold() -> None:
    hand = Hand(hand_back="let_go")
    hand.says(grab=True)
    kept = 0
    while hand.says():
        kept += 1
    assert kept * 0.02 == pytest.approx(0.5, abs=0.021)
    hand.says(grab=True)
    assert hand.says() and hand.says(grab=True), "a short slip is none"


def test_toggle_takes_with_one_press_and_gives_with_the_next() -> None:
    hand = Hand("toggle")
    said = [hand.says(grab=g) for g in (True, True, False, False, True, True, False)]
    assert said == [True, True, True, True, False, False, False]


def test_motion_takes_at_once_and_stillness_keeps_it_or_gives_it_back() -> None:
    hand = Hand("motion")
    assert hand.says(action=PUSH) and all(hand.says() for _ in range(100))
    assert not hand.says(released=True)
    hand = Hand("motion", "let_go")
    assert hand.says(action=PUSH) and hand.says(after_s=0.1)
    assert not hand.says(after_s=0.45) or not hand.says(after_s=0.1)


def test_a_gripper_that_is_held_closed_is_no_motion() -> None:
    assert not Hand("motion").says(action=(*STILL, 1.0))


def test_the_hand_back_button_wins_over_what_is_held_until_that_was_let_go_of() -> None:
    hand = Hand()
    hand.says(grab=True)
    assert not hand.says(grab=True, released=True) and not hand.says(grab=True)
    hand.says()
    assert hand.says(grab=True)


@pytest.mark.parametrize("mode", list(Mode))
def test_after_a_silence_what_is_held_counts_once_it_was_let_go_of(mode: Mode) -> None:
    """Pins: a device that is plugged in again with its button pressed."""
    hand = Hand(mode)
    assert not hand.says(grab=True, action=PUSH, after_s=0.6) and not hand.says(grab=True, action=PUSH)
    hand.says()
    assert hand.says(grab=True, action=PUSH)


@pytest.mark.parametrize("mode", list(Mode))
def test_losing_control_takes_a_new_grab(mode: Mode) -> None:
    hand = Hand(mode)
    hand.says(grab=True, action=PUSH)
    hand.control.lose()
    assert not hand.says(grab=True, action=PUSH)
    hand.says()
    assert hand.says(grab=True, action=PUSH)


@pytest.mark.parametrize("mode", list(Mode))
def test_a_push_that_goes_on_over_a_reset_moves_nothing_and_keeps_control(mode: Mode) -> None:
    hand = Hand(mode)
    hand.says(grab=True, action=PUSH)
    hand.control.hold_over()
    pushing, resting = (HumanAnswer(0, False, True, False, action, "base") for action in (PUSH, (*STILL, 1.0)))
    assert all(hand.says(grab=True, action=PUSH) and not hand.control.drives(pushing) for _ in range(100))
    assert hand.says(grab=True, action=resting.action), "a page grabs also while nothing is pushed"
    assert hand.says(grab=True, action=PUSH) and hand.control.drives(pushing)


READING = st.tuples(
    st.booleans(), st.sampled_from([STILL, PUSH]), st.booleans(), st.sampled_from([0.02, 0.3, 0.6, 2.0])
)


@given(st.sampled_from(list(Mode)), st.sampled_from(list(HandBack)), st.lists(READING))
def test_control_is_never_taken_without_a_fresh_act_and_never_lost_by_silence(mode, hand_back, readings) -> None:
    if mode is Mode.TOGGLE:
        hand_back = HandBack.BUTTON
    hand = Hand(mode, hand_back)
    rested = True
    for grab, action, released, after_s in readings:
        before = hand.control.taken
        after = hand.says(grab, action, released, after_s)
        wants = grab or (mode is Mode.MOTION and any(action))
        rested = (rested and after_s <= 0.5) or not wants
        if after and not before:
            assert wants and rested and not released
        if before and not after:
            by_button = released or (mode is Mode.TOGGLE and grab)
            assert by_button or (hand_back is HandBack.LET_GO and not wants)
        if released:
            rested = not wants


def test_what_cannot_be_together_is_refused() -> None:
    with pytest.raises(ConfigError, match="let_go"):
        TakeoverConfig(Mode.TOGGLE, HandBack.LET_GO)
    with pytest.raises(ConfigError, match="hand_back_hold_s"):
        TakeoverConfig(hold_ns=-1)


VECTOR = st.tuples(*[st.floats(-1.0, 1.0)] * 3)


@given(VECTOR, VECTOR)
def test_the_share_is_the_largest_that_keeps_the_velocity_continuous(asked, before) -> None:
    most = max(1.0, math.hypot(*before))
    s = share(asked, before, most)
    assert 0.0 <= s <= 1.0

    def apart(share_of: float) -> float:
        return math.dist([share_of * a for a in asked], before)

    assert apart(s) <= most + 1e-9
    if s < 1.0 and math.hypot(*asked) > 1e-3:
        assert apart(min(1.0, s + 1e-3)) > most - 1e-9


def moved(b, x_m):
    b.pose = (x_m, *b.pose[1:])


def tick(b, policy=FORWARD, **changes):
    closed = b.observe(**changes)
    return closed if closed is not None and closed.tick.k == b.k else b.policy(policy)


def test_a_reversal_at_full_speed_stops_for_one_tick_and_is_named(bench, contract) -> None:
    limits = contract.limits.model_copy(update={"max_translation_step_m": contract.action.translation_scale_m})
    b = bench(contract=contract.model_copy(update={"limits": limits}))
    for _ in range(2):
        tick(b)
    b.human(STILL, grab=False)
    b.human(BACK)
    first, second = tick(b), tick(b)
    assert first.source is Source.HUMAN and first.limits == ("handover",)
    assert first.executed == pytest.approx(STILL) and first.proposed == BACK
    assert second.limits == () and second.executed == BACK
    b.human(STILL, grab=False, released=True)
    assert tick(b).executed == pytest.approx(STILL), "likewise when the policy takes over"
    assert tick(b).executed == FORWARD


def test_between_ticks_of_one_driver_nothing_is_shortened(bench) -> None:
    b = bench()
    tick(b)
    assert tick(b, BACK).limits == ()


def test_takeover_and_hand_back_are_marked_and_counted(bench) -> None:
    b = bench()
    b.human(STILL, grab=False)
    said = [tick(b)]
    b.human()
    said += [tick(b), tick(b)]
    b.human(grab=False)
    said.append(tick(b))
    b.human(grab=False, released=True)
    said += [tick(b), tick(b)]
    none = Handover.NONE
    assert [c.handover for c in said] == [none, Handover.TAKEOVER, none, none, Handover.HAND_BACK, none]
    assert [c.source.name for c in said] == ["POLICY", "HUMAN", "HUMAN", "HOLD", "POLICY", "POLICY"]
    assert b.arbiter.notes.takeovers == 1


def test_the_policy_goes_on_in_the_shadow_and_the_difference_is_known(bench) -> None:
    b = bench()
    b.human(STILL, grab=False)
    assert math.isnan(tick(b).disagreement)
    b.human((0.0, 1.0, 0, 0, 0, 0))
    assert tick(b).disagreement == pytest.approx(math.sqrt(2.0 / 6.0))
    b.human(FORWARD)
    assert tick(b).disagreement == 0.0
    b.human(grab=False)
    assert math.isnan(tick(b).disagreement), "who lets go asks for nothing"


def test_a_huge_number_in_the_shadow_ends_nothing(bench) -> None:
    b = bench()
    b.human(STILL, grab=False)
    b.human()
    assert tick(b, (1e308,) * 6).disagreement == math.inf


def test_driving_into_the_failure_is_a_reset_and_the_policy_waits_for_the_hand_back(bench) -> None:
    b = bench(drive_in=True)
    b.human(STILL, grab=False)
    assert b.observe().source is Source.HOLD, "nobody asks the policy"
    b.human(FORWARD)
    driven = b.observe()
    assert driven.source is Source.RESET and not driven.target.hold and driven.handover is Handover.NONE
    b.human(STILL, grab=False)
    b.observe()
    b.human(STILL, grab=False, released=True)
    assert tick(b).source is Source.POLICY
    b.human(STILL, grab=False)
    b.human(BACK)
    correction = tick(b)
    assert correction.source is Source.HUMAN and correction.handover is Handover.TAKEOVER
    assert b.arbiter.notes.takeovers == 1


def test_the_scripted_human_can_drive_in_too(bench) -> None:
    b = bench(drive_in=True, expects_teleop=True)
    b.observe()
    assert b.human(FORWARD, sync=True).source is Source.RESET
    b.observe()
    b.human(STILL, grab=False, released=True, sync=True)
    assert b.policy(FORWARD).source is Source.POLICY


def test_only_training_episodes_are_driven_in(bench) -> None:
    b = bench(drive_in=True)
    assert tick(b, purpose=Purpose.EVAL).source is Source.POLICY
    assert tick(b, episode_id="e1", purpose=Purpose.TRAIN, step=0).source is Source.HOLD


def test_a_lost_device_does_not_hand_back_what_was_driven_in(bench) -> None:
    b = bench(drive_in=True)
    b.human(STILL, grab=False)
    b.human(FORWARD)
    b.observe()
    b.advance_s(0.35)
    b.timer()
    assert b.faults() == ["teleop_lost"]
    b.human(STILL, grab=False)
    assert b.arm()[0]
    assert b.observe().source is Source.HOLD


def test_what_is_held_as_an_episode_begins_moves_nothing_until_it_was_let_go_of(bench) -> None:
    """Pins: a finger left on a pad, or a clutch left closed, that drives the arm away from where it was laid out."""
    b = bench()
    b.human(STILL, grab=False)
    b.human(FORWARD)
    assert tick(b).source is Source.HUMAN
    b.observe(last=True)
    for step in range(3):
        held = tick(b, episode_id="e1", step=step)
        assert held.source is Source.HOLD and held.target.hold and b.arbiter.in_control is Source.HUMAN
        b.human(FORWARD)
    b.human(STILL)
    b.human(FORWARD)
    assert tick(b, episode_id="e1", step=3).source is Source.HUMAN


def test_what_was_asked_of_the_gripper_in_the_last_episode_is_not_done_in_the_next(bench) -> None:
    b = bench(contract=load_contract("one_leg_low"))
    b.human((*STILL, -1.0), grab=False)
    b.human((*STILL, 1.0))
    assert tick(b, policy=(*FORWARD, -1.0)).target.gripper_width_m == 0.0
    b.observe(last=True)
    assert math.isnan(tick(b, policy=(*FORWARD, -1.0), episode_id="e1", step=0).target.gripper_width_m)


def test_during_a_reset_phase_nobody_drives(bench) -> None:
    b = bench()
    b.human(STILL, grab=False)
    b.human(FORWARD)
    assert b.observe(phase=Phase.RESET).target.hold


@pytest.mark.parametrize("trouble", ["device gamepad is lost (no gamepad is plugged in; plug one in)"])
def test_an_arm_that_nobody_could_take_over_is_not_armed(bench, trouble: str) -> None:
    """Pins: a device that says nothing, found out when it is needed."""
    b = bench(lockstep=False, arm=False, expects_device=True)
    ok, why = b.arm()
    assert not ok and "teleop_node does not say how the input device is" in why
    b.arbiter.on_teleop_status(trouble, b.mono_ns)
    ok, why = b.arm()
    assert not ok and trouble in why
    b.arbiter.on_teleop_status("", b.mono_ns)
    assert b.arm()[0]
    b.arbiter.disarm()
    b.advance_s(2.1)
    b.robot()
    assert not b.arm()[0], "what was said long ago is not known now"


def test_arming_with_the_button_held_gives_no_control(bench) -> None:
    b = bench(arm=False)
    b.human(FORWARD)
    assert b.arm()[0]
    b.human(FORWARD)
    assert tick(b).source is Source.POLICY
    b.human(STILL, grab=False)
    b.human(FORWARD)
    assert tick(b).source is Source.HUMAN


@given(st.integers(0, 2**32), st.sampled_from(list(Mode)))
def test_random_takeovers_neither_step_nor_jolt_and_take_effect_within_a_tick(seed: int, mode: Mode) -> None:
    measured = takeovers(20, random.Random(seed), mode)
    assert measured.count == 20
    for largest, allowed in measured.against_limits():
        assert largest <= allowed * (1.0 + 1e-6)
    assert max(measured.ticks_until_effect) <= 1
