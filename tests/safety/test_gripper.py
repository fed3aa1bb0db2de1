"""Pins: a gripper in the action is commanded as asked, kept in hold, and never commanded before somebody asked."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inril_core.contract import load_contract
from inril_core.safety.limits import ActionLimiter

CONTRACT = load_contract("one_leg_low")
POSE = np.array([0.5, 0.0, 0.2, 1.0, 0.0, 0.0, 0.0])


def limiter() -> ActionLimiter:
    made = ActionLimiter(CONTRACT)
    made.reference(POSE)
    return made


@given(st.floats(-3.0, 3.0))
def test_width_is_linear_between_closed_and_open(gripper: float) -> None:
    made = limiter()
    limited = made.apply([0, 0, 0, 0, 0, 0, gripper], POSE)
    asked = min(max(gripper, -1.0), 1.0)
    assert made.gripper_width_m == pytest.approx(0.5 * (1 - asked) * CONTRACT.action.gripper_open_m)
    assert limited.executed[6] == asked
    assert limited.executed[:6] == pytest.approx(np.zeros(6), abs=1e-12)
    assert ("action_range" in limited.limits) == (asked != gripper)
    assert made.still[6] == asked


def test_other_limits_leave_the_gripper_alone() -> None:
    made = limiter()
    low = np.array([*CONTRACT.limits.position_min_m, *POSE[3:]])
    made.reference(low)
    limited = made.apply([-1, -1, -1, 0, 0, 0, 0.3], low)
    assert "position_box" in limited.limits
    assert len(limited.executed) == 7
    assert limited.executed[6] == pytest.approx(0.3)


def test_nothing_is_asked_of_it_before_the_first_action_of_an_episode() -> None:
    made = limiter()
    assert math.isnan(made.gripper_width_m)
    made.apply([0, 0, 0, 0, 0, 0, 1.0], POSE)
    assert made.gripper_width_m == 0.0
    made.begin()
    assert math.isnan(made.gripper_width_m)


def test_action_without_gripper_is_refused_and_insert_legs_width_is_the_contracts() -> None:
    with pytest.raises(ValueError, match="must have 7"):
        limiter().apply(np.zeros(6), POSE)
    insert_leg = load_contract("insert_leg")
    assert ActionLimiter(insert_leg).gripper_width_m == insert_leg.action.gripper_width_m


def test_targets_carry_the_width_and_a_hold_keeps_it(bench: Any) -> None:
    bench = bench(contract=CONTRACT)
    assert bench.arbiter.armed
    bench.observe(step=0)
    closed = bench.policy(action=[0, 0, 0, 0, 0, 0, 1.0])
    assert closed is not None and closed.target is not None
    assert (closed.target.gripper_width_m, list(closed.executed)) == (0.0, [0, 0, 0, 0, 0, 0, 1.0])
    bench.observe()
    bench.advance_s(0.6)
    held = bench.timer()
    assert held is not None and held.target is not None and held.target.hold
    assert held.target.gripper_width_m == 0.0
    assert held.executed[6] == 1.0
