"""Pins: what the simulated arm does depends on the physics step, or a control rate does not fit it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from inril_core.contract import Contract
from inril_core.experts.scripted.base import scripted_expert
from inril_core.sim import cell as cell_module
from inril_core.sim.cell import Cell
from inril_core.tasks.families.cell import CellEnv


@pytest.mark.parametrize("rate_hz", [10.0, 12.5, 20.0, 25.0, 40.0, 50.0])
def test_a_control_period_is_simulated_in_whole(changed: Callable[..., Contract], rate_hz: float) -> None:
    cell = Cell(changed(lambda content: content.update(control_rate_hz=rate_hz)))
    state = cell.reset(0)
    assert cell.period_s == pytest.approx(1.0 / rate_hz)
    before_s = cell._data.time
    cell.step(state.tool_pose[:3], state.tool_pose[3:])
    assert cell._data.time - before_s == pytest.approx(1.0 / rate_hz)
    cell.hold()
    assert cell._data.time - before_s == pytest.approx(2.0 / rate_hz)


@pytest.mark.parametrize("seed", [40_000, 40_002])
def test_a_fast_start_goes_where_finer_steps_take_it(
    contract: Contract, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The motors are at their limit here, where explicit damping makes the arm shake by more than 7 mm."""
    tools = []
    expert = scripted_expert(contract).worse(0.1, 0.0, 0.0)
    for step_s in (cell_module.TIMESTEP_S, 0.001):
        monkeypatch.setattr(cell_module, "TIMESTEP_S", step_s)
        env = CellEnv(contract)
        observation = env.reset(seed, "eval")
        expert.reset(seed)
        env.step(expert.act(observation))
        tools.append(env.state.tool_pose[:3])
    assert np.linalg.norm(tools[0] - tools[1]) < 0.003


def test_no_force_is_above_the_joints_limits(contract: Contract) -> None:
    cell = Cell(contract)
    start = cell.reset(3).tool_pose
    torque_nm = np.abs(cell.step(start[:3] + 0.05, start[3:]).joint_torque_nm)
    assert (torque_nm <= [30.0, 30.0, 30.0, 30.0, 12.0, 12.0, 12.0]).all() and torque_nm.max() > 5.0
