"""Pins: an estimate of an arm's delay or friction that is not what was planted."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from inril_core.contract import load_contract
from inril_core.contract.definitions.physics import Physics, PhysicsValues
from inril_core.errors import ConfigError
from inril_core.evaluation.sim_to_real.identify import Replay, fit
from inril_core.evaluation.sim_to_real.study import record
from inril_core.evaluation.sim_to_real.twin import with_physics, write_contract

NOMINAL = load_contract("insert_leg")


@pytest.mark.parametrize("planted", [PhysicsValues(0.048, 3.0, 0.85)])
def test_planted_delay_and_friction_are_recovered(planted: PhysicsValues, tmp_path) -> None:
    reality = with_physics(NOMINAL, Physics.fixed(**planted._asdict()))
    recordings = record(reality, range(100, 103), np.random.default_rng(1))
    found = fit(Replay(NOMINAL, recordings, 15))
    assert found.values.action_delay_s == pytest.approx(planted.action_delay_s, abs=0.01)
    assert found.values.joint_friction_nm == pytest.approx(planted.joint_friction_nm, rel=0.2)
    assert found.values.gain_scale == pytest.approx(planted.gain_scale, rel=0.1)
    assert found.rms_m < 0.2 * found.rms_before_m
    twin = load_contract(write_contract(tmp_path / "twin.yaml", with_physics(NOMINAL, found.ranges())))
    low, high = twin.sim.physics.joint_friction_nm
    assert low < found.values.joint_friction_nm < high and twin.interface_digest == NOMINAL.interface_digest


def test_recordings_of_another_start_or_contract_are_named() -> None:
    episode = record(NOMINAL, range(100, 101), np.random.default_rng(1))[0]
    with pytest.raises(ConfigError, match="no recording"):
        Replay(NOMINAL, [])
    moved = episode.tool_pose + np.array([0.05, 0, 0, 0, 0, 0, 0])
    with pytest.raises(ConfigError, match="begins 5. mm from start 100"):
        Replay(NOMINAL, [dataclasses.replace(episode, tool_pose=moved)])
    with pytest.raises(ConfigError, match="another interface"):
        Replay(NOMINAL, [dataclasses.replace(episode, interface_digest="0" * 64)])
    with pytest.raises(ConfigError, match="give some of action_delay_s"):
        fit(Replay(NOMINAL, [episode], 2), ("mass_kg",))
