"""Pins: a wrong sign, order or branch in the quaternion functions, which would command a wrong rotation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from inril_core.transforms import (
    UNIT_NORM_TOLERANCE,
    never_filled,
    pose_problem,
    quat_conjugate,
    quat_difference,
    quat_from_rotvec,
    quat_multiply,
    quat_normalise,
    quat_problem,
    quat_rotate,
    rotation6_from_quat,
    rotvec_from_quat,
)

component = st.floats(-1.7, 1.7).map(lambda value: 0.0 if abs(value) < 1e-12 else value)
rotvecs = st.tuples(component, component, component)


def matrix(quat):
    return Rotation.from_quat(quat).as_matrix()


@given(rotvecs)
def test_exponential_and_logarithm_agree_with_scipy(rotvec):
    quat = quat_from_rotvec(rotvec)
    np.testing.assert_allclose(matrix(quat), Rotation.from_rotvec(rotvec).as_matrix(), atol=1e-12)
    np.testing.assert_allclose(rotvec_from_quat(quat), rotvec, atol=1e-9)


@given(rotvecs, rotvecs)
def test_product_inverse_and_difference_agree_with_scipy(first, second):
    a, b = quat_from_rotvec(first), quat_from_rotvec(second)
    np.testing.assert_allclose(matrix(quat_multiply(a, b)), matrix(a) @ matrix(b), atol=1e-12)
    np.testing.assert_allclose(matrix(quat_conjugate(a)), matrix(a).T, atol=1e-12)
    turn = quat_from_rotvec(quat_difference(a, b))
    np.testing.assert_allclose(matrix(quat_multiply(turn, b)), matrix(a), atol=1e-9)


@given(rotvecs, rotvecs)
def test_vectors_and_columns_agree_with_scipy(rotvec, vector):
    quat = quat_from_rotvec(rotvec)
    np.testing.assert_allclose(quat_rotate(quat, vector), matrix(quat) @ vector, atol=1e-12)
    np.testing.assert_allclose(rotation6_from_quat(quat), matrix(quat)[:, :2].T.ravel(), atol=1e-12)


def test_the_longer_way_round_is_never_taken():
    quat = quat_from_rotvec((0.0, 0.0, 1.5 * math.pi))
    np.testing.assert_allclose(rotvec_from_quat(quat), (0.0, 0.0, -0.5 * math.pi), atol=1e-12)


@pytest.mark.parametrize("quat", [(0.0, 0.0, 0.0, 0.0), (math.nan, 0.0, 0.0, 1.0), (math.inf, 0.0, 0.0, 1.0)])
def test_a_quaternion_that_names_no_rotation_is_refused(quat):
    with pytest.raises(ValueError, match="must be finite and above"):
        quat_normalise(quat)


SOUND = [0.4, -0.1, 0.2, 0.6, 0.0, 0.8, 0.0]


@pytest.mark.parametrize("place", range(7))
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_seven_numbers_of_which_one_is_not_finite_are_no_pose(place, value):
    assert ("position" if place < 3 else "quaternion") in pose_problem([*SOUND[:place], value, *SOUND[place + 1 :]])


@pytest.mark.parametrize("size", [0, 3, 6, 8])
def test_another_number_of_numbers_is_no_pose(size):
    assert f"{size} numbers" in pose_problem((SOUND * 2)[:size])


@pytest.mark.parametrize(("tolerance", "sound"), [(UNIT_NORM_TOLERANCE, True), (1e-6, False)])
def test_a_quaternion_may_be_off_by_the_tolerance(tolerance, sound):
    for length in (1.0 + 0.9 * UNIT_NORM_TOLERANCE, 1.0 - 0.9 * UNIT_NORM_TOLERANCE):
        pose = [*SOUND[:3], *(length * part for part in SOUND[3:])]
        assert (pose_problem(pose, tolerance) is None) is sound
        assert (quat_problem(pose[3:], tolerance) is None) is sound
    for length in (1.0 + 1.1 * tolerance, 1.0 - 1.1 * tolerance):
        assert pose_problem([*SOUND[:3], *(length * part for part in SOUND[3:])], tolerance) is not None
    assert pose_problem(SOUND, tolerance) is None


def test_a_message_that_nobody_filled_says_so():
    assert "ever filled" in pose_problem([0.0] * 7)
    assert never_filled([0.0, 0, 0, 0, 0, 0, 1]) and pose_problem([0.0, 0, 0, 0, 0, 0, 1]) is None
    assert not never_filled(SOUND)
