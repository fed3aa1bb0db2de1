"""Pins: a hand-eye calibration is right to 1 mm and 0.1 deg from 15 poses at 0.3 px, names the outliers, and its own
statements (covariance, held-out error, closed forms) are true."""

from __future__ import annotations

import math

import numpy as np
import pytest

from inril_core.calibration import rigid
from inril_core.calibration.camera import Camera
from inril_core.calibration.hand_eye import HandEye, calibrate
from inril_core.calibration.hand_eye_closed import METHODS, opencv, shah
from inril_core.calibration.hand_eye_data import HandEyeData
from inril_core.calibration.hand_eye_fit import Problem, refine
from tests.calibration.made_poses import Made, T_of, grid, make

MODES = ("eye_in_hand", "eye_to_hand")


def solved(made: Made) -> HandEye:
    a = made.arrays
    camera = Camera(a["K"], a["distortion"])
    return calibrate(HandEyeData(a["T_base_gripper"], a["corners"], a["board_points"], camera, a["mode"]))


def assert_right(found: HandEye, made: Made) -> None:
    distance_m, angle = rigid.difference(found.T, made.T)
    assert distance_m < 1e-3 and math.degrees(angle) < 0.1
    assert list(found.rejected) == made.bad
    assert 0.3 < found.residual_px < 0.55  # 0.3 px in both coordinates: 0.42


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("facing", [False, True], ids=["z_away", "z_towards"])
@pytest.mark.parametrize("bad", [(), ("corners", "arm", "reversed")], ids=["clean", "a_fifth_bad"])
def test_fifteen_poses(mode: str, facing: bool, bad: tuple[str, ...]) -> None:
    for seed in range(3):
        made = make(seed, mode, bad=bad, facing=facing)
        assert_right(solved(made), made)


@pytest.mark.parametrize("kind", ["corners", "random", "reversed", "other", "shifted", "arm", "arm_10mm"])
def test_every_kind_of_outlier_is_named(kind: str) -> None:
    made = make(7, bad=(kind,) * 4)
    assert_right(solved(made), made)


def test_a_third_of_many_poses_may_be_wrong() -> None:
    made = make(1, poses=40, bad=("corners", "arm", "reversed", "arm_10mm") * 3)
    assert_right(solved(made), made)


def test_a_few_wrong_corners_do_not_cost_the_pose() -> None:
    made = make(1)
    made.arrays["corners"][3, :8] += 20.0
    found = solved(made)
    assert_right(found, made)
    assert found.rejected_corners == {3: tuple(range(8))}


def test_the_four_corners_of_a_tag_are_a_board() -> None:
    tag = np.array([[-1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [1.0, -1.0, 0.0], [-1.0, -1.0, 0.0]]) * 0.06
    made = make(4, poses=20, bad=("arm", "reversed"), points=tag, facing=True)
    found = solved(made)
    distance_m, angle = rigid.difference(found.T, made.T)
    assert distance_m < 2e-3 and math.degrees(angle) < 0.2 and list(found.rejected) == made.bad


def test_a_board_that_is_not_flat() -> None:
    step = grid()
    step[27:, 2] = 0.03
    made = make(2, bad=("arm",), points=step)
    assert_right(solved(made), made)


def test_without_noise_the_answer_is_exact() -> None:
    found = solved(made := make(5, noise_px=0.0))
    distance_m, angle = rigid.difference(found.T, made.T)
    assert distance_m < 1e-7 and angle < 1e-7 and found.board_scale == pytest.approx(1.0, abs=1e-6)


def test_the_stated_deviation_covers_the_error() -> None:
    """Over seeds the squared error, in units of the covariance, is a chi-square of 6 degrees of freedom."""
    squares = []
    for seed in range(12):
        made = make(100 + seed)
        found = solved(made)
        step = rigid.inverse(found.T) @ made.T
        from scipy.spatial.transform import Rotation

        off = np.concatenate([Rotation.from_matrix(step[:3, :3]).as_rotvec(), step[:3, 3]])
        squares.append(float(off @ np.linalg.solve(found.covariance, off)))
    assert 2.0 < np.median(squares) < 14.0  # 5.3 if it were exact; from 12 poses it is itself uncertain


def test_the_held_out_error_sees_what_the_residual_does_not() -> None:
    """Few poses are fitted well and predict badly."""
    few, many = solved(make(3, poses=6)), solved(make(3, poses=25))
    assert few.held_out.residual_px / few.residual_px > many.held_out.residual_px / many.residual_px
    assert many.held_out.residual_px < 0.5 and many.held_out.position_m < 2e-3


@pytest.mark.parametrize("mode", MODES)
def test_the_closed_forms_are_exact_without_noise(mode: str) -> None:
    made = make(6, mode, noise_px=0.0)
    a = made.arrays
    data = HandEyeData(a["T_base_gripper"], a["corners"], a["board_points"], Camera(a["K"], a["distortion"]), mode)
    problem = Problem.of(data.A, data.corners, data.board_points, data.camera)
    C = np.array([view.T_camera_board for view in problem.views if view is not None])
    answers = {name: opencv(name, data.A, C) for name in METHODS}
    answers["shah"] = shah(data.A[None], C[None])[0][0]
    for name, X in answers.items():
        assert X is not None and rigid.difference(X, made.T)[0] < 1e-4, name
    longer = C.copy()
    longer[:, :3, 3] *= 1.25
    X, _, scale = shah(data.A[None], longer[None], free_scale=True)
    assert scale[0] == pytest.approx(0.8, abs=1e-5) and rigid.difference(X[0], made.T)[0] < 1e-4


def test_the_jacobian_is_that_of_the_residuals(monkeypatch: pytest.MonkeyPatch) -> None:
    from inril_core.calibration import hand_eye_fit

    made = make(0)
    a = made.arrays
    problem = Problem.of(
        rigid.inverse(a["T_base_gripper"]), a["corners"], a["board_points"], Camera(a["K"], a["distortion"])
    )
    own, seen = hand_eye_fit.least_squares, []

    def compared(residuals, start, jac, **options):
        at = start + np.linspace(0.02, 0.1, len(start))
        numeric = [(residuals(at + 1e-6 * e) - residuals(at - 1e-6 * e)) / 2e-6 for e in np.eye(len(start))]
        seen.append(np.abs(jac(at) - np.stack(numeric, axis=1)).max() / np.abs(numeric).max())
        return own(residuals, start, jac=jac, **options)

    monkeypatch.setattr(hand_eye_fit, "least_squares", compared)
    refine(problem, made.T, T_of([0.05, 0.1, 0.7], [0.5, 0.1, 0.02]), free=("scale", "focal"))
    assert seen and max(seen) < 1e-7
