"""Pins: a wrong sign, order or branch in the quaternion functions, which would command a wrong rotation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from inril_core.transforms import (
    quat_conjugate,
    quat_difference,
    quat_from_rotvec,
    quat_multiply,
    quat_normalise,
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
