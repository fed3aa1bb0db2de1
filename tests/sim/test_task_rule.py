"""Pins: success needs depth, uprightness and a clockwise turn made in the hole; a lost leg is a failure."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from inril_core.contract import Contract
from inril_core.sim.cell import Cell
from inril_core.sim.scenes import insert_leg
from inril_core.tasks.families.cell import CellEnv
from inril_core.transforms import quat_from_rotvec, quat_multiply, quat_rotate


def poses(depth_m: float, turn_rad: float, tilt_rad: float = 0.0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Leg and tool pose with the tip in the hole's middle."""
    quat = quat_multiply(quat_from_rotvec((tilt_rad, 0, 0)), quat_from_rotvec((0, 0, -turn_rad)))
    tip = insert_leg.HOLE_POSITION_M - [0, 0, depth_m]
    leg = tip - quat_rotate(quat, insert_leg.TIP_IN_LEG_M.tolist())
    grasp = leg + quat_rotate(quat, insert_leg.GRASP_IN_LEG_M.tolist())
    return {"leg": np.array([*leg, *quat])}, np.array([*grasp, 1, 0, 0, 0])


def judged(cell: Cell, path: list[tuple[float, float, float]]) -> tuple[bool, bool, str]:
    cell.reset(0)
    verdict = (False, False, "")
    for depth_m, turn_rad, tilt_rad in path:
        verdict = cell.scene.judge(*poses(depth_m, turn_rad, tilt_rad))
    return verdict


def turning(depth_m: float, until_rad: float, tilt_rad: float = 0.0) -> list[tuple[float, float, float]]:
    return [(depth_m, turn, tilt_rad) for turn in np.arange(0.0, until_rad, 0.1)] + [(depth_m, until_rad, tilt_rad)]


def test_seated_and_turned_is_success(env: CellEnv) -> None:
    assert judged(env.cell, turning(0.021, 1.6)) == (True, False, "leg_seated_and_turned")


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(turning(0.019, 1.6), id="not deep enough"),
        pytest.param(turning(0.021, 1.5), id="not turned enough"),
        pytest.param(turning(0.021, 2.7), id="turned too far"),
        pytest.param(turning(0.021, 1.6, tilt_rad=0.25), id="not upright"),
        pytest.param([*turning(-0.01, 1.6), (0.021, 1.6, 0.0)], id="turned in the air"),
        pytest.param([*turning(0.021, 1.5), (0.0, 1.5, 0.0), (0.021, 1.7, 0.0)], id="pulled out in between"),
        pytest.param([(0.021, -turn, 0.0) for turn in np.arange(0.0, 1.7, 0.1)], id="turned the wrong way"),
    ],
)
def test_anything_less_is_not(env: CellEnv, path: list[tuple[float, float, float]]) -> None:
    assert judged(env.cell, path) == (False, False, "")


def test_turn_is_counted_across_half_a_circle(env: CellEnv) -> None:
    path = [(0.021, 2.8 + turn, 0.0) for turn in np.arange(0.0, 1.7, 0.1)]
    assert judged(env.cell, path)[0]


def test_rule_comes_from_the_contract(changed: Callable[[Any], Contract]) -> None:
    easy = changed(lambda content: content["success"].update(turn_min_rad=0.5, depth_m=0.01, turn_depth_m=0.005))
    assert judged(Cell(easy), turning(0.012, 0.6))[0]


def test_dropping_the_leg_ends_the_episode_as_a_failure(env: CellEnv) -> None:
    state = env.cell.reset(2)
    for _ in range(10):
        state = env.cell.step(state.tool_pose[:3], state.tool_pose[3:], gripper_width_m=0.08)
    assert (state.success, state.failed, state.reason) == (False, True, "leg_dropped")


def test_grip_carries_the_leg_for_a_whole_episode(env: CellEnv, contract: Contract) -> None:
    state = env.cell.reset(2)
    start = state.parts["leg"][:3] - state.tool_pose[:3]
    for _ in range(contract.episode_length_steps):
        state = env.cell.hold()
    assert not state.failed
    assert math.dist(state.parts["leg"][:3] - state.tool_pose[:3], start) < 0.002


def test_environment_truncates_at_the_contract_length_and_then_refuses(
    changed: Callable[[Any], Contract],
) -> None:
    env = CellEnv(changed(lambda content: content.update(episode_length_steps=3)))
    env.reset(0)
    outcomes = [env.step(np.zeros(6))[1] for _ in range(3)]
    assert [o.truncated for o in outcomes] == [False, False, True]
    assert not any(o.terminated for o in outcomes)
    assert outcomes[-1].reason == "episode_length"
    with pytest.raises(ValueError, match="reset"):
        env.step(np.zeros(6))


def test_hole_is_perceived_with_the_contract_error_but_judged_by_truth(
    changed: Callable[[Any], Contract],
) -> None:
    cell = Cell(changed(lambda content: content["sim"].update(hole_pose_error_m=0.002)))
    holes = np.array([cell.reset(seed).parts["hole"][:3] for seed in range(5)])
    errors = np.abs(holes - insert_leg.HOLE_POSITION_M)
    assert 0.0002 < errors[:, :2].max() <= 0.002
    assert np.all(errors[:, 2] == 0.0)
    assert cell.scene.judge(*poses(0.021, 0.0))[1] is False


def test_verdicts_are_plain_booleans_everywhere(env: CellEnv) -> None:
    """A numpy boolean aborts the process that puts it into a message."""
    for path in (turning(0.021, 1.6), turning(0.001, 0.1), turning(-0.02, 0.1)):
        success, failed, _ = judged(env.cell, path)
        assert type(success) is bool and type(failed) is bool
