"""Pins: a Target that breaks a limit and leaves, because whoever made it believed that it keeps them."""

import math

import pytest
from guarded import MOTION, SPACE, limited
from scipy.spatial.transform import Rotation

from inril_core.contract import load_contract
from inril_core.safety.last_check import TargetLimits, violation
from inril_core.safety.limits import ActionLimiter, Limited
from inril_core.safety.ticks import Source

LIMITS = TargetLimits.of(load_contract("insert_leg"))
DOWN = (1.0, 0.0, 0.0, 0.0)
POSE = (0.5, 0.0, 0.2, *DOWN)


def turned(rotvec, quat=DOWN):
    return tuple((Rotation.from_rotvec(rotvec) * Rotation.from_quat(quat)).as_quat().tolist())


def test_the_previous_target_once_more_always_passes():
    assert violation(LIMITS, POSE, POSE, 0.0) is None
    outside = (0.9, 0.0, -0.1, *turned([1.2, 0, 0]))
    assert violation(LIMITS, outside, outside, math.nan) is None


@pytest.mark.parametrize(
    ("previous", "pose", "width_m", "why"),
    [
        (POSE, (0.5201, 0.0, 0.2, *DOWN), 0.0, "translation step"),
        (POSE, (0.5, 0.0, 0.2, *turned([0, 0, 0.2501])), 0.0, "rotation step"),
        ((0.749, *POSE[1:]), (0.751, *POSE[1:]), 0.0, "position x"),
        ((0.8, *POSE[1:]), (0.801, *POSE[1:]), 0.0, "position x"),
        ((*POSE[:3], *turned([0.59, 0, 0])), (*POSE[:3], *turned([0.61, 0, 0])), 0.0, "tilt"),
        (POSE, (math.nan, *POSE[1:]), 0.0, "finite"),
        (POSE, (1e150, *POSE[1:]), 0.0, "position x"),
        (POSE, (*POSE[:6], math.inf), 0.0, "quaternion"),
        (POSE, (*POSE[:3], 0.0, 0.0, 0.0, 0.0), 0.0, "length"),
        (POSE, (*POSE[:3], 1.01, 0.0, 0.0, 0.0), 0.0, "length"),
        (POSE, POSE[:6], 0.0, "7"),
        (POSE, POSE, 0.01, "gripper"),
    ],
)
def test_each_rule_is_named(previous, pose, width_m, why):
    assert why in violation(LIMITS, previous, pose, width_m)


def test_a_gripper_that_is_part_of_the_action_keeps_its_range():
    limits = TargetLimits.of(load_contract("one_leg_low"))
    assert violation(limits, POSE, POSE, 0.03) is None
    assert "gripper" in violation(limits, POSE, POSE, -0.01)
    assert "gripper" in violation(limits, POSE, POSE, 0.066)
    assert "gripper" in violation(limits, POSE, POSE, math.inf)


def test_from_outside_the_way_back_is_open():
    assert violation(LIMITS, (0.8, *POSE[1:]), (0.79, *POSE[1:]), 0.0) is None
    steep = turned([1.2, 0, 0])
    assert violation(LIMITS, (*POSE[:3], *steep), (*POSE[:3], *turned([-0.1, 0, 0], steep)), 0.0) is None


def test_a_limiter_that_is_wrong_moves_nothing(bench, monkeypatch):
    """The last check stands between any fault in the limits and the arm: latched, and the Target before once more."""
    b = bench()
    b.observe()
    good = b.policy()
    apply = ActionLimiter.apply

    def wrong(self, action, measured_pose, before=None):
        made = apply(self, action, measured_pose, before)
        far = (made.target_pose[0] + 0.1, *made.target_pose[1:])
        self.reference(far)
        return Limited(made.executed, far, ())

    monkeypatch.setattr(ActionLimiter, "apply", wrong)
    b.observe()
    closed = b.policy()
    assert closed.source is Source.HOLD and closed.target.hold and closed.target.pose == good.target.pose
    assert b.faults() == ["last_check"] and "step" in b.arbiter.faults.named()["last_check"]
    monkeypatch.undo()
    assert b.arm()[0]
    b.observe()
    assert b.policy((0.0,) * 6).target.pose == b.pose


WALLS = TargetLimits.of(limited(space={**SPACE, "tool_radius_m": 0.02, "floor_m": 0.1}, motion=MOTION))
BEFORE_POST = (0.45, 0.0, 0.15, *DOWN)


@pytest.mark.parametrize(
    ("before", "previous", "pose", "why"),
    [
        (None, (0.5, -0.2, 0.121, *DOWN), (0.5, -0.2, 0.119, *DOWN), "behind floor"),
        (None, (0.37, 0.0, 0.5, *DOWN), (0.367, 0.0, 0.5, *DOWN), "behind keep_in:cell"),
        (None, (0.491, 0.0, 0.15, *DOWN), (0.51, 0.0, 0.15, *DOWN), "keep_out:post"),
        (None, BEFORE_POST, (0.4621, 0.0, 0.15, *DOWN), "largest speed"),
        (None, BEFORE_POST, (*BEFORE_POST[:3], *turned([0, 0, 0.081])), "largest turn rate"),
        (None, BEFORE_POST, (0.4531, 0.0, 0.15, *DOWN), "largest acceleration"),
        ((0.44, 0.0, 0.15, *DOWN), BEFORE_POST, (0.4569, 0.0, 0.15, *DOWN), "largest acceleration"),
        (None, BEFORE_POST, (*BEFORE_POST[:3], *turned([0, 0, 0.031])), "turn changes"),
    ],
)
def test_each_rule_of_space_and_motion_is_named(before, previous, pose, why):
    assert why in violation(WALLS, previous, pose, 0.0, before)
    assert violation(WALLS, previous, previous, 0.0, before) is None, "standing still is always allowed"


def test_a_step_across_a_thin_box_is_seen():
    """Pins: both ends outside, the box between them."""
    thin = {"name": "sheet", "center_m": [0.5, 0.0, 0.2], "size_m": [0.002, 0.2, 0.2]}
    limits = TargetLimits.of(limited(space={"tool_radius_m": 0.0, "keep_out": [thin]}))
    assert "keep_out:sheet" in violation(limits, (0.495, 0.0, 0.2, *DOWN), (0.505, 0.0, 0.2, *DOWN), 0.0)
    assert violation(limits, (0.495, 0.0, 0.2, *DOWN), (0.4989, 0.01, 0.2, *DOWN), 0.0) is None
