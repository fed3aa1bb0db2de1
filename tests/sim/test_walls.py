"""Pins: an arm that explores at the walls of the box swings as far beyond them as `safety_monitor` stops."""

from __future__ import annotations

import numpy as np

from inril_core.contract import Contract
from inril_core.safety.limits import ActionLimiter
from inril_core.sim.cell import Cell

SEEDS = range(10)


def explore(cell: Cell, contract: Contract, seed: int) -> tuple[float, float]:
    """How much further than its joint targets the measured tool gets beyond the box, m; how far joints lag, rad.

    An episode's length of a policy with a bias that explores, limited as the arbiter limits its Targets, and not ended
    by a lost leg. The joint targets themselves may leave the box: some of it is out of the arm's reach.
    """
    low_m, high_m = np.array(contract.limits.position_min_m), np.array(contract.limits.position_max_m)

    def beyond_m(pose: np.ndarray) -> float:
        return float(np.maximum(low_m - pose[:3], pose[:3] - high_m).max())

    rng, limiter = np.random.default_rng(seed), ActionLimiter(contract)
    state = cell.reset(seed)
    limiter.reference(state.tool_pose)
    bias, asked_m, measured_m, lag_rad = rng.normal(0.0, 0.6, 6), 0.0, 0.0, 0.0
    for _ in range(contract.episode_length_steps):
        target = np.array(limiter.apply(bias + rng.normal(0.0, 0.5, 6), state.tool_pose).target_pose)
        state = cell.step(target[:3], target[3:], limiter.gripper_width_m)
        asked_m = max(asked_m, beyond_m(cell.kinematics.tool_pose(cell._joint_target_rad)))
        measured_m = max(measured_m, beyond_m(state.tool_pose))
        lag_rad = max(lag_rad, float(np.abs(cell._joint_target_rad - state.joint_position_rad).max()))
    return measured_m - asked_m, lag_rad


def furthest(cell: Cell, contract: Contract) -> tuple[float, float]:
    """`explore`, the largest of all seeds."""
    swing_m, lag_rad = zip(*(explore(cell, contract, seed) for seed in SEEDS), strict=True)
    return max(swing_m), max(lag_rad)


def test_an_exploring_arm_stays_well_within_the_monitor_s_margin(contract: Contract) -> None:
    swing_m, lag_rad = furthest(Cell(contract), contract)
    assert swing_m < 0.7 * contract.monitor.position_margin_m
    assert lag_rad < 0.25


def test_force_limits_at_the_joints_would_be_noticed(contract: Contract) -> None:
    """MuJoCo then counts the motors' damping as inertia also where their force is at its limit: the arm swings."""
    cell = Cell(contract)
    cell.model.jnt_actfrcrange[:9] = cell.model.actuator_forcerange
    cell.model.jnt_actfrclimited[:9], cell.model.actuator_forcelimited[:] = True, False
    assert furthest(cell, contract)[1] > 0.3
