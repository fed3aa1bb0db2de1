"""Pins: inverse kinematics reaches what it should, moves within bounds and says what it cannot reach."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inril_core.sim.kinematics import DAMPING, MAX_STEP_RAD, POSTURE_GAIN, ArmKinematics, OutOfReach
from inril_core.sim.scenes.insert_leg import REST_RAD
from inril_core.transforms import quat_difference, quat_from_rotvec, quat_multiply

ARM = ArmKinematics(REST_RAD)


def test_forward_kinematics_of_the_data_sheet_pose() -> None:
    """At zero angles the flange is 88 mm forward, 926 mm up (0.333 + 0.316 + 0.384 - 0.107), tool down."""
    pose = ARM.tool_pose(np.zeros(7))
    assert pose[:3] == pytest.approx([0.088, 0.0, 0.926 - 0.1034], abs=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_solve_reaches_poses_near_rest(seed: int) -> None:
    rng = np.random.default_rng(seed)
    target = ARM.tool_pose(REST_RAD)
    target[:3] += rng.uniform(-0.08, 0.08, 3)
    target[3:] = quat_multiply(quat_from_rotvec(rng.uniform(-0.3, 0.3, 3).tolist()), target[3:].tolist())
    reached = ARM.tool_pose(ARM.solve(REST_RAD, target))
    assert reached[:3] == pytest.approx(target[:3], abs=2e-4)
    assert abs(np.dot(reached[3:], target[3:])) > 1 - 1e-7


def test_one_step_follows_a_control_step() -> None:
    target = ARM.tool_pose(REST_RAD)
    target[:3] += [0.01, -0.01, 0.01]
    joint_rad, _ = ARM.step(REST_RAD, target)
    assert ARM.tool_pose(joint_rad)[:3] == pytest.approx(target[:3], abs=3e-4)


def test_far_targets_are_approached_slowly_and_reported() -> None:
    target = ARM.tool_pose(REST_RAD)
    target[0] += 2.0
    joint_rad, _ = ARM.step(REST_RAD, target)
    assert np.abs(joint_rad - REST_RAD).max() <= MAX_STEP_RAD + 1e-12
    with pytest.raises(OutOfReach, match="out of reach"):
        ARM.solve(REST_RAD, target)


@given(st.integers(0, 2**32 - 1))
def test_a_step_is_damped_least_squares_with_the_posture_in_the_null_space(seed: int) -> None:
    """q + J+ (e - J p) + p with J+ = J^T (J J^T + d^2 I)^-1 and p towards rest; J by finite differences."""
    rng = np.random.default_rng(seed)
    joint_rad = REST_RAD + rng.normal(0.0, 0.1, 7)
    target = ARM.tool_pose(joint_rad + rng.normal(0.0, 0.01, 7))
    reached, error = ARM.step(joint_rad, target)
    offset = _offset(target, joint_rad)
    assert error == pytest.approx(np.abs(offset).sum(), abs=1e-9)
    ahead, back = (np.array([_offset(target, joint_rad + d) for d in s * 1e-6 * np.eye(7)]).T for s in (1.0, -1.0))
    jacobian = (back - ahead) / 2e-6
    inverse = jacobian.T @ np.linalg.inv(jacobian @ jacobian.T + DAMPING**2 * np.eye(6))
    posture = POSTURE_GAIN * (REST_RAD - joint_rad)
    wanted = joint_rad + inverse @ (offset - jacobian @ posture) + posture
    assert reached == pytest.approx(wanted, abs=1e-4)


def _offset(target: np.ndarray, joint_rad: np.ndarray) -> np.ndarray:
    pose = ARM.tool_pose(joint_rad)
    return np.array([*(target[:3] - pose[:3]), *quat_difference(target[3:].tolist(), pose[3:].tolist())])
