"""Pins: the observation fields are what their names and frames say, by closed forms and against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from inril_core.contract import load_contract
from inril_core.contract.definitions.insert_leg import insert_leg_features
from inril_core.contract.square_table import LEG_TIP_M
from inril_core.sim.scenes import insert_leg
from inril_core.tasks.families.cell import CellEnv

TOOL = np.array([0.5, 0.1, 0.2, 1.0, 0.0, 0.0, 0.0])
ANGLES = st.floats(-3.0, 3.0)


def features(leg: np.ndarray, hole: np.ndarray) -> dict[str, np.ndarray]:
    return insert_leg_features(TOOL, np.arange(6.0), 0.03, {"leg": leg, "hole": hole})


def test_seated_leg_has_its_tip_below_the_hole() -> None:
    hole = np.array([0.5, 0.0, 0.03, 0.0, 0.0, 0.0, 1.0])
    leg = hole.copy()
    leg[2] -= LEG_TIP_M[2] + 0.025
    values = features(leg, hole)
    assert values["tip_in_hole_m"] == pytest.approx([0.0, 0.0, -0.025])
    assert values["leg_in_hole_rot6d"] == pytest.approx([1, 0, 0, 0, 1, 0])
    assert values["turn_sin_cos"] == pytest.approx([0.0, 1.0])
    assert values["tool_rot6d"] == pytest.approx([1, 0, 0, 0, -1, 0])
    assert values["tool_twist"] == pytest.approx(np.arange(6.0))
    assert values["gripper_width_m"] == pytest.approx([0.03])


@given(st.lists(ANGLES, min_size=6, max_size=6), st.lists(st.floats(-1, 1), min_size=6, max_size=6))
def test_relative_to_any_hole(angles: list[float], positions: list[float]) -> None:
    leg_r, hole_r = Rotation.from_rotvec(angles[:3]), Rotation.from_rotvec(angles[3:])
    leg_p, hole_p = np.array(positions[:3]), np.array(positions[3:])
    values = features(np.array([*leg_p, *leg_r.as_quat()]), np.array([*hole_p, *hole_r.as_quat()]))
    tip = hole_r.inv().apply(leg_p + leg_r.apply(LEG_TIP_M) - hole_p)
    relative = (hole_r.inv() * leg_r).as_matrix()
    assert values["tip_in_hole_m"] == pytest.approx(tip, abs=1e-9)
    assert values["leg_in_hole_rot6d"] == pytest.approx(relative[:, :2].T.ravel(), abs=1e-9)


@given(ANGLES)
def test_turn_is_the_heading_about_the_hole(turn_rad: float) -> None:
    leg = np.array([0, 0, 0, *Rotation.from_rotvec([0, 0, turn_rad]).as_quat()])
    assert features(leg, np.array([0, 0, 0, 0, 0, 0, 1.0]))["turn_sin_cos"] == pytest.approx(
        [math.sin(turn_rad), math.cos(turn_rad)], abs=1e-9
    )


def test_a_leg_lying_down_has_finite_features() -> None:
    leg = np.array([0, 0, 0, *Rotation.from_rotvec([0, math.pi / 2, 0]).as_quat()])
    values = features(leg, np.array([0, 0, 0, 0, 0, 0, 1.0]))
    assert all(np.isfinite(value).all() for value in values.values())


def test_fields_are_those_of_the_contract() -> None:
    contract = load_contract("insert_leg")
    state = CellEnv(contract).cell.reset(0)
    values = contract.task_definition.features(state.tool_pose, state.tool_twist, state.gripper_width_m, state.parts)
    assert {name: value.size for name, value in values.items()} == {f.name: f.size for f in contract.observation}


def test_tip_is_where_the_simulated_peg_ends() -> None:
    model = insert_leg.scene(0.0005, 0.004)
    mesh = model.geom("leg_peg").dataid[0]
    start, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
    lowest = model.geom("leg_peg").pos[2] + model.mesh_vert[start : start + count, 2].min()
    assert lowest == pytest.approx(LEG_TIP_M[2], abs=1e-6)
