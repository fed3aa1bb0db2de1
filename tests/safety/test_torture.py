"""Pins: any order of inputs under which the arm moves although it must not, and rules that no longer look."""

import math

import pytest

from inril_core.safety import command, guard, mover, torture
from inril_core.safety.arbiter import Arbiter
from inril_core.safety.guard import MotionGuard
from inril_core.safety.human import Human
from inril_core.safety.limits import ActionLimiter
from inril_core.safety.measured import MeasuredPose
from inril_core.safety.torture_rules import Violation
from inril_core.safety.watch import Watch

STEPS = 30_000
MUTANT_STEPS = 60_000
MUTANT_SEEDS = (2, 3)
"""A leash that pulls is seen with the second one only."""


def test_no_input_breaks_a_rule_and_everything_that_counts_happened():
    counts = torture.torture(STEPS, seed=1)
    for name in (
        "Targets that moved in ticks by policy",
        "Targets that moved in ticks by human",
        "Targets that moved outside ticks",
        "armings",
        "armings refused",
        "limit position_box",
        "limit tilt",
        "limit windup",
        "limit floor",
        "limit keep_in:cell",
        "limit keep_out:post",
        "limit speed for policy",
        "limit speed for human",
        "limit acceleration for policy",
        "limit acceleration for human",
        "limit turn_acceleration",
        "runs with fault unreachable_state",
        "runs with fault malformed_state",
        "runs with fault non_finite_action",
        "runs with fault wrong_frame",
    ):
        assert counts[name] > 0, name
    assert counts["Targets that moved in ticks by hold"] == 0
    assert counts["Targets that moved in ticks by reset"] > 0, "a person who drives into the failure"
    assert counts["runs with fault last_check"] == 0, "the limiter keeps what the last check demands"


def no_check(monkeypatch):
    """Most mutants break what the last check demands: without it the rules alone must see them."""
    monkeypatch.setattr(command, "violation", lambda *_: None)


def without_a_box(monkeypatch):
    no_check(monkeypatch)
    monkeypatch.setattr(ActionLimiter, "_into_box", lambda self, position, start, hits: position)


def without_a_tilt(monkeypatch):
    no_check(monkeypatch)
    monkeypatch.setattr(ActionLimiter, "_untilt", lambda self, quat, start_quat, hits: quat)


def without_a_step_limit(monkeypatch):
    no_check(monkeypatch)
    monkeypatch.setattr(ActionLimiter, "_within_step", lambda self, position, old, hits: position)


def without_a_turn_limit(monkeypatch):
    no_check(monkeypatch)
    monkeypatch.setattr(ActionLimiter, "_within_turn", lambda self, quat, old_quat, hits: quat)


def without_a_guard(monkeypatch):
    no_check(monkeypatch)
    monkeypatch.setattr(MotionGuard, "allows", lambda *_: True)


def without_acceleration(monkeypatch):
    no_check(monkeypatch)
    monkeypatch.setattr(MotionGuard, "_accelerations", lambda *_: ())


def without_keep_out_boxes(monkeypatch):
    no_check(monkeypatch)
    monkeypatch.setattr(guard, "wall_of", lambda box, point: ((1.0, 0.0, 0.0), 1.0))


def leash_that_pulls(monkeypatch):
    no_check(monkeypatch)
    leash = ActionLimiter._leash
    monkeypatch.setattr(ActionLimiter, "_leash", lambda self, new, _, measured: leash(self, new, measured, measured))


def commanding_begins_in_each_tick(monkeypatch):
    begin = command.Command.begin

    def anew(self):
        self._has_left = False
        return begin(self)

    monkeypatch.setattr(command.Command, "begin", anew)


def jumps_are_believed(monkeypatch):
    commanding_begins_in_each_tick(monkeypatch)
    monkeypatch.setattr(MeasuredPose, "_can_reach", lambda *_: True)


def synchronous_actions_last(monkeypatch):
    monkeypatch.setattr(Human, "synchronous", property(lambda self: False))


def synchronous_answers_count_for_every_tick(monkeypatch):
    monkeypatch.setattr(Human, "answered", lambda self, tick: self.answer is not None)


def policy_answers_count_for_every_tick(monkeypatch):
    monkeypatch.setattr(Arbiter, "_policy_answered", lambda self, tick: self._policy is not None)


def silent_devices_live(monkeypatch):
    monkeypatch.setattr(Watch, "teleop_silent", lambda self, mono_ns: False)


def disarming_is_ignored(monkeypatch):
    monkeypatch.setattr(Arbiter, "disarm", lambda self: (True, ""))


def faults_go_by_themselves(monkeypatch):
    check = Watch.check

    def forgetful(self, now_ns, mono_ns, human_moves):
        self._faults.clear()
        check(self, now_ns, mono_ns, human_moves)

    monkeypatch.setattr(Watch, "check", forgetful)


def actions_are_not_checked(monkeypatch):
    monkeypatch.setattr(Arbiter, "_is_usable", lambda *_: True)


def poses_are_not_checked(monkeypatch):
    monkeypatch.setattr(mover.Mover, "take_pose", lambda self, said, armed, in_motion: _believe(self, said))


def _believe(self, said):
    self.command.measured.pose = tuple(said.tool_pose)
    return True


def ticks_stay_open(monkeypatch):
    close = Arbiter._close

    def again(self, now_ns, mono_ns, late):
        tick = self._open
        closed = close(self, now_ns, mono_ns, late)
        self._open = tick if math.isclose(tick.k % 7, 3) else None
        return closed

    monkeypatch.setattr(Arbiter, "_close", again)


@pytest.mark.parametrize(
    "mutate",
    [
        without_a_box,
        without_a_tilt,
        without_a_step_limit,
        without_a_turn_limit,
        without_a_guard,
        without_acceleration,
        without_keep_out_boxes,
        leash_that_pulls,
        commanding_begins_in_each_tick,
        jumps_are_believed,
        synchronous_actions_last,
        synchronous_answers_count_for_every_tick,
        policy_answers_count_for_every_tick,
        silent_devices_live,
        disarming_is_ignored,
        faults_go_by_themselves,
        actions_are_not_checked,
        poses_are_not_checked,
        ticks_stay_open,
    ],
)
def test_each_rule_is_looked_at(monkeypatch, mutate):
    """An arbiter with one rule switched off is caught: the torture can fail."""
    mutate(monkeypatch)
    with pytest.raises(Violation, match="--first"):
        for seed in MUTANT_SEEDS:
            torture.torture(MUTANT_STEPS, seed=seed)
