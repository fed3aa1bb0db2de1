"""Pins: a simulated arm in real time whose states are a whole period old, or that jumps where a period is cut short."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inril_core.contract import load_contract
from inril_core.hardware.arms.simulated import SimulatedArm
from inril_core.sim.cell import PIECES, Cell, CellError
from inril_core.tasks.families.cell import CellEnv


def pose_above(cell: Cell, up_m: float) -> np.ndarray:
    return cell.state.tool_pose + np.array([0.0, 0.0, up_m, 0.0, 0.0, 0.0, 0.0])


def test_a_period_in_pieces_is_the_period_to_the_last_bit(env: CellEnv) -> None:
    ends = []
    for pieces in (PIECES, 1):
        env.reset(4)
        env.cell.aim(*np.split(pose_above(env.cell, 0.008), [3]))
        for _ in range(PIECES // pieces):
            state = env.cell.advance(pieces)
        env.cell.aim_at_last()
        for _ in range(PIECES // pieces):
            state = env.cell.advance(pieces)
        assert state.step == 2
        ends.append(state.qpos)
    env.reset(4)
    env.cell.step(*np.split(pose_above(env.cell, 0.008), [3]))
    assert np.array_equal(ends[0], ends[1]) and np.array_equal(ends[0], env.cell.hold().qpos)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.floats(-0.01, 0.01), st.integers(1, 2 * PIECES)), min_size=1, max_size=8))
def test_what_is_commanded_never_jumps(steps: list[tuple[float, int]]) -> None:
    """However long the arm stays with a target: a joint is commanded at most a piece of the longest way further."""
    env = _environment()
    env.reset(4)
    cell = env.cell
    commanded = cell._joint_target_rad.copy()
    for up_m, pieces in steps:
        cell.aim(*np.split(pose_above(cell, up_m), [3]))
        way = np.abs(cell._goal_rad - commanded)
        for _ in range(pieces):
            cell.advance(1)
            assert (np.abs(cell._joint_target_rad - commanded) <= way / PIECES + 1e-12).all()
            commanded = cell._joint_target_rad.copy()
        if pieces >= PIECES:
            assert np.array_equal(commanded, cell._goal_rad)


@cache
def _environment() -> CellEnv:
    """One for all examples: hypothesis makes no fixture anew for each."""
    return CellEnv(load_contract("insert_leg"))


def test_a_cell_that_was_never_laid_out_says_so(env: CellEnv) -> None:
    for call in (
        lambda cell: cell.aim(np.zeros(3), np.array([0, 0, 0, 1.0])),
        Cell.aim_at_last,
        lambda c: c.advance(1),
    ):
        with pytest.raises(CellError, match="call reset first"):
            call(Cell(env.contract))


@pytest.mark.parametrize(("most", "parts"), [(1, 1), (4, 1), (5, 5), (10, 5), (500, 5)])
def test_a_period_is_cut_into_no_more_parts_than_asked(env: CellEnv, most: int, parts: int) -> None:
    arm = SimulatedArm(env.cell)
    env.reset(4)
    before = env.cell._data.time
    assert arm.cut_periods(most) == parts
    arm.follow(pose_above(env.cell, 0.005), None)
    for _ in range(parts - 1):
        arm.wait()
    assert env.cell._data.time == pytest.approx(before + env.cell.period_s)
