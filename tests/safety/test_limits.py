"""Pins: a command that leaves the contract's limits, or a record that differs from what was commanded."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from inril_core.contract import load_contract
from inril_core.safety.last_check import TargetLimits, violation
from inril_core.safety.limits import ActionLimiter, NonFiniteInput

CONTRACT = load_contract("insert_leg")
DOWN = (1.0, 0.0, 0.0, 0.0)
POSE = np.array([0.5, 0.0, 0.2, *DOWN])
ZERO = np.zeros(6)

unit = st.floats(-1.0, 1.0)
actions = st.lists(st.floats(-4.0, 4.0), min_size=6, max_size=6).map(np.array)


def limiter(pose=POSE, **changes):
    made = ActionLimiter(changed(**changes))
    made.reference(pose)
    return made


def changed(action=None, **limits):
    return CONTRACT.model_copy(
        update={
            "limits": CONTRACT.limits.model_copy(update=limits),
            "action": CONTRACT.action.model_copy(update=action or {}),
        }
    )


def stops(*names):
    return {"on_violation": {**CONTRACT.limits.on_violation, **dict.fromkeys(names, "stop")}}


def turn_rad(pose_a, pose_b):
    return (Rotation.from_quat(pose_a[3:]) * Rotation.from_quat(pose_b[3:]).inv()).magnitude()


def tilt_rad(pose):
    return math.acos(np.clip(-Rotation.from_quat(pose[3:]).as_matrix()[2, 2], -1.0, 1.0))


def test_an_action_within_limits_is_a_scaled_delta_in_the_base_frame():
    action = np.array([1.0, -0.5, 0.2, 0.1, 0.2, -1.0])
    result = limiter().apply(action, POSE)
    np.testing.assert_allclose(result.target_pose[:3], POSE[:3] + 0.01 * action[:3])
    expected = Rotation.from_rotvec(0.12 * action[3:]) * Rotation.from_quat(DOWN)
    assert (Rotation.from_quat(result.target_pose[3:]) * expected.inv()).magnitude() < 1e-9
    np.testing.assert_array_equal(result.executed, action)
    assert result.limits == () and result.stopped_by == ()


def test_the_commanded_pose_adds_up_and_the_measured_reference_does_not():
    """Pins: `delta_reference: commanded` that quietly follows a sagging arm."""
    action = np.array([0.5, 0, 0, 0, 0, 0])
    commanded = limiter()
    commanded.apply(action, POSE)
    assert commanded.apply(action, POSE).target_pose[0] == pytest.approx(POSE[0] + 0.01)
    measured = limiter(action={"delta_reference": "measured"})
    measured.apply(action, POSE)
    assert measured.apply(action, POSE).target_pose[0] == pytest.approx(POSE[0] + 0.005)


def test_a_blocked_arm_is_not_wound_up():
    made = limiter()
    for _ in range(10):
        result = made.apply(np.array([1.0, 0, 0, 0, 0, 1.0]), POSE)
    assert result.target_pose[0] - POSE[0] == pytest.approx(0.02)
    assert turn_rad(result.target_pose, POSE) == pytest.approx(0.25)
    assert result.limits == ("windup",)
    np.testing.assert_allclose(result.executed, ZERO, atol=1e-6)


def test_each_limit_is_named_when_it_acts():
    assert limiter().apply(np.array([3.0, 0, 0, 0, 0, 0]), POSE).limits == ("action_range",)
    assert limiter(max_translation_step_m=0.005).apply(np.array([1.0, 0, 0, 0, 0, 0]), POSE).limits == (
        "translation_step",
    )
    assert limiter(max_rotation_step_rad=0.05).apply(np.array([0, 0, 0, 0, 0, 1.0]), POSE).limits == ("rotation_step",)
    low = np.array([0.5, 0.0, 0.025, *DOWN])
    result = limiter(low).apply(np.array([0, 0, -1.0, 0, 0, 0]), low)
    assert result.limits == ("position_box",)
    assert result.target_pose[2] == 0.02
    assert result.executed[2] == pytest.approx(-0.5)


def test_tilt_is_turned_back_to_its_limit():
    tilted = np.array([0.5, 0.0, 0.2, *(Rotation.from_rotvec([0.55, 0, 0]) * Rotation.from_quat(DOWN)).as_quat()])
    result = limiter(tilted).apply(np.array([0, 0, 0, 1.0, 0, 0]), tilted)
    assert result.limits == ("tilt",)
    assert tilt_rad(result.target_pose) == pytest.approx(0.6)
    assert result.executed[3] == pytest.approx(0.05 / 0.12)


@pytest.mark.parametrize(
    ("name", "limits", "action"),
    [
        ("translation_step", {"max_translation_step_m": 0.005}, [1.0, 0, 0, 0, 0, 0]),
        ("rotation_step", {"max_rotation_step_rad": 0.05}, [0, 0, 0, 0, 0, 1.0]),
        ("position_box", {"position_max_m": (0.505, 0.35, 0.5)}, [1.0, 0, 0, 0, 0, 0]),
        ("tilt", {"max_tilt_rad": 0.05}, [0, 0, 0, 1.0, 0, 0]),
    ],
)
def test_a_stop_limit_commands_no_motion_and_says_so(name, limits, action):
    result = limiter(**limits, **stops(name)).apply(np.array(action), POSE)
    assert result.stopped_by == (name,)
    np.testing.assert_allclose(result.target_pose, POSE)
    np.testing.assert_array_equal(result.executed, ZERO)


def test_an_arm_outside_the_box_is_neither_thrown_back_nor_let_further_out():
    """Pins: a re-reference outside the box followed by a jump to its face."""
    outside = np.array([0.80, 0.0, 0.2, *DOWN])
    made = limiter(outside)
    assert made.apply(ZERO, outside).target_pose[0] == pytest.approx(0.80)
    assert made.apply(np.array([1.0, 0, 0, 0, 0, 0]), outside).target_pose[0] == pytest.approx(0.80)
    assert made.apply(np.array([-1.0, 0, 0, 0, 0, 0]), outside).target_pose[0] == pytest.approx(0.79)
    assert made.apply(np.array([1.0, 0, 0, 0, 0, 0]), outside).target_pose[0] == pytest.approx(0.79)


def test_the_leash_only_shortens_a_step():
    """Pins: a pushed arm, or one wrong measurement, that takes the commanded pose along."""
    pushed = POSE + np.array([0.1, 0, 0, 0, 0, 0, 0])
    made = limiter()
    assert made.apply(ZERO, pushed).target_pose[0] == POSE[0]
    away = made.apply(np.array([-1.0, 0, 0, 0, 0, 0]), pushed)
    assert away.target_pose[0] == pytest.approx(POSE[0]) and away.limits == ("windup",)
    assert made.apply(np.array([1.0, 0, 0, 0, 0, 0]), pushed).target_pose[0] == pytest.approx(POSE[0] + 0.01)


poses = st.tuples(*[st.floats(-1.0, 1.0)] * 3, *[st.floats(-1.0, 1.0)] * 4).filter(lambda p: math.hypot(*p[3:]) > 0.1)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["commanded", "measured"]),
    st.floats(0.001, 0.02),
    st.floats(0.02, 0.25),
    st.lists(st.tuples(actions, poses, st.booleans()), min_size=1, max_size=15),
)
def test_limits_hold_against_the_last_command_whatever_is_measured(reference, step_m, turn_rad, sequence):
    made = limiter(action={"delta_reference": reference}, max_translation_step_m=step_m, max_rotation_step_rad=turn_rad)
    known = TargetLimits.of(changed(max_translation_step_m=step_m, max_rotation_step_rad=turn_rad))
    old = tuple(POSE)
    for action, measured, near in sequence:
        result = made.apply(action, old if near else measured)
        assert violation(known, old, result.target_pose, made.gripper_width_m) is None
        old = result.target_pose


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("index", range(6))
def test_a_non_finite_action_raises_and_moves_nothing(bad, index):
    made = limiter()
    action = np.zeros(6)
    action[index] = bad
    with pytest.raises(NonFiniteInput, match=rf"action\[{index}\]"):
        made.apply(action, POSE)
    np.testing.assert_allclose(made.apply(ZERO, POSE).target_pose, POSE)


def test_a_non_finite_pose_wrong_sizes_and_a_missing_reference_are_refused():
    made = ActionLimiter(CONTRACT)
    with pytest.raises(ValueError, match="before reference"):
        made.apply(ZERO, POSE)
    with pytest.raises(NonFiniteInput, match="measured_pose"):
        made.reference(np.full(7, math.nan))
    made.reference(POSE)
    with pytest.raises(ValueError, match="must have 6"):
        made.apply(np.zeros(7), POSE)
    with pytest.raises(NonFiniteInput, match="measured_pose"):
        made.apply(ZERO, np.full(7, math.nan))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(actions, st.lists(unit, min_size=6, max_size=6)), min_size=1, max_size=25))
def test_no_sequence_of_actions_leaves_the_limits_and_the_record_rebuilds_every_target(sequence):
    """Any actions, any tracking error: box and tilt hold, and `executed` is what was commanded."""
    limits, scale_m, scale_rad = CONTRACT.limits, 0.01, 0.12
    made = limiter()
    old = POSE
    for action, error in sequence:
        measured = np.concatenate([old[:3] + 0.015 * np.array(error[:3]), DOWN])
        measured[3:] = (Rotation.from_rotvec(0.1 * np.array(error[3:])) * Rotation.from_quat(old[3:])).as_quat()
        measured_in_box = np.clip(measured[:3], limits.position_min_m, limits.position_max_m)
        result = made.apply(action, np.concatenate([measured_in_box, measured[3:]]))
        target, executed = np.array(result.target_pose), np.array(result.executed)
        assert np.all(target[:3] >= np.array(limits.position_min_m) - 1e-12)
        assert np.all(target[:3] <= np.array(limits.position_max_m) + 1e-12)
        assert tilt_rad(target) <= limits.max_tilt_rad + 1e-6
        assert np.linalg.norm(target[3:]) == pytest.approx(1.0)
        np.testing.assert_allclose(old[:3] + scale_m * executed[:3], target[:3], atol=1e-9)
        rebuilt = Rotation.from_rotvec(scale_rad * executed[3:]) * Rotation.from_quat(old[3:])
        assert (rebuilt * Rotation.from_quat(target[3:]).inv()).magnitude() < 1e-6
        old = target
