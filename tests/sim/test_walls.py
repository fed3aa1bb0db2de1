"""Pins: a simulated arm that explores at the walls of the box leaves it further than `safety_monitor` allows."""

from __future__ import annotations

import numpy as np

from inril_core.contract import Contract, load_contract
from inril_core.safety.limits import ActionLimiter
from inril_core.sim.cell import Cell

SEEDS = (0, 1, 2, 3, 4, 41, 46, 60)
"""The last three: the ones of the first hundred in which whole steps of the inverse kinematics lead furthest out."""


def explore(cell: Cell, contract: Contract, seed: int) -> tuple[float, float]:
    """How far beyond the box the measured tool gets, m; how far joints lag behind their targets, rad.

    An episode's length of a policy with a bias that explores, limited as the arbiter limits its Targets, and not ended
    by a lost leg. Some of the box is out of the arm's reach.
    """
    low_m, high_m = np.array(contract.limits.position_min_m), np.array(contract.limits.position_max_m)

    def beyond_m(pose: np.ndarray) -> float:
        return float(np.maximum(low_m - pose[:3], pose[:3] - high_m).max())

    rng, limiter = np.random.default_rng(seed), ActionLimiter(contract)
    state = cell.reset(seed)
    limiter.reference(state.tool_pose)
    bias, beyond_box_m, lag_rad = rng.normal(0.0, 0.6, 6), 0.0, 0.0
    for _ in range(contract.episode_length_steps):
        target = np.array(limiter.apply(bias + rng.normal(0.0, 0.5, 6), state.tool_pose).target_pose)
        state = cell.step(target[:3], target[3:], limiter.gripper_width_m)
        beyond_box_m = max(beyond_box_m, beyond_m(state.tool_pose))
        lag_rad = max(lag_rad, float(np.abs(cell._joint_target_rad - state.joint_position_rad).max()))
    return beyond_box_m, lag_rad


def furthest(cell: Cell, contract: Contract) -> tuple[float, float]:
    """`explore`, the largest of all seeds."""
    beyond_box_m, lag_rad = zip(*(explore(cell, contract, seed) for seed in SEEDS), strict=True)
    return max(beyond_box_m), max(lag_rad)


def test_an_exploring_arm_stays_well_within_the_monitor_s_margin(contract: Contract) -> None:
    beyond_box_m, lag_rad = furthest(Cell(contract), contract)
    assert beyond_box_m < contract.monitor.position_margin_m
    assert lag_rad < 0.25


def test_force_limits_at_the_joints_would_be_noticed(contract: Contract) -> None:
    """MuJoCo then counts the motors' damping as inertia also where their force is at its limit: the arm swings."""
    cell = Cell(contract)
    cell.model.jnt_actfrcrange[:9] = cell.model.actuator_forcerange
    cell.model.jnt_actfrclimited[:9], cell.model.actuator_forcelimited[:] = True, False
    assert furthest(cell, contract)[1] > 0.3


if __name__ == "__main__":  # the figure of docs/results/simulator.md
    made = load_contract("insert_leg")
    beyond_mm = sorted(round(1e3 * explore(Cell(made), made, seed)[0]) for seed in range(100))
    print(f"beyond the box, mm, the ten furthest of 100 episodes: {beyond_mm[-10:]}")
