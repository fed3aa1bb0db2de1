"""Pins: physics of the simulated arm that outlive their episode, change old contracts, or are not what they say."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from inril_core.contract import Contract, load_contract
from inril_core.contract.definitions.physics import Physics
from inril_core.sim.cell import Cell
from inril_core.sim.scenes.base import TIMESTEP_S

SEED, STEPS_N = 11, 6


def contract(**physics: float) -> Contract:
    values = load_contract("insert_leg").model_dump(mode="json")
    values["sim"]["physics"] = Physics.fixed(**physics).model_dump(mode="json")
    return Contract.model_validate(values)


def way(cell: Cell, speed_m: float = 0.008) -> np.ndarray:
    """Tool positions [STEPS_N + 1, 3] on the way up."""
    state = cell.reset(SEED, "eval")
    start, found = state.tool_pose.copy(), [state.tool_pose[:3].copy()]
    for step in range(1, STEPS_N + 1):
        found.append(cell.step(start[:3] + [0.0, 0.0, step * speed_m], start[3:]).tool_pose[:3].copy())
    return np.array(found)


@pytest.fixture(scope="module")
def plain() -> np.ndarray:
    return way(Cell(load_contract("insert_leg")))


def test_a_contract_without_physics_is_what_it_was() -> None:
    """Its text, and so the digest that recordings and checkpoints carry, does not mention them."""
    packaged, late = load_contract("insert_leg"), contract(action_delay_s=0.1)
    assert "physics" not in packaged.text and "physics" in late.text
    assert late.interface_digest == packaged.interface_digest != late.deployment_digest


def test_a_delay_of_one_period_is_one_step_late(plain: np.ndarray) -> None:
    late = way(Cell(contract(action_delay_s=25 * TIMESTEP_S)))
    np.testing.assert_allclose(late[2:], plain[1:-1], atol=2e-4)
    assert np.abs(late[2:] - plain[2:]).max() > 0.005


def test_friction_and_weak_gains_hold_the_arm_back(plain: np.ndarray) -> None:
    for physics in ({"joint_friction_nm": 5.0}, {"gain_scale": 0.5}):
        assert way(Cell(contract(**physics)))[-1, 2] < plain[-1, 2] - 2e-4


def test_physics_end_with_their_episode(plain: np.ndarray) -> None:
    cell = Cell(contract(action_delay_s=0.06, joint_friction_nm=5.0, gain_scale=0.7))
    way(cell)
    cell.arm.physics = None
    np.testing.assert_array_equal(way(cell), plain)


def test_a_seed_draws_the_same_values_from_the_ranges() -> None:
    physics = Physics(action_delay_s=(0.02, 0.06), joint_friction_nm=(1.0, 5.0))
    drawn = [physics.draw(seed) for seed in range(200)]
    assert drawn == [physics.draw(seed) for seed in range(200)] and len(set(drawn)) == 200
    delays_s = [values.action_delay_s for values in drawn]
    assert 0.02 <= min(delays_s) < 0.025 and 0.055 < max(delays_s) <= 0.06
    assert {values.gain_scale for values in drawn} == {1.0}


@pytest.mark.parametrize(
    "wrong", [{"action_delay_s": (0.2, 0.1)}, {"joint_friction_nm": (-1.0, 1.0)}, {"gain_scale": (0.0, 1.0)}, {"x": 1}]
)
def test_ranges_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Physics(**wrong)
