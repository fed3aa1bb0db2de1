"""Pins: a recording that cannot be repeated in the simulated cell, or a replay that says so wrongly."""

import dataclasses

import numpy as np
import pytest

from inril_core.contract import load_contract
from inril_core.errors import ConfigError
from inril_core.tasks.families.cell import CellEnv
from inril_core.tasks.replay import replay
from tests.exchange.episodes import make

CONTRACT = load_contract("insert_leg")


@pytest.fixture(scope="module")
def recorded():
    """What the cell does with eight random actions, as a recording."""
    env, seed = CellEnv(CONTRACT), 5
    rng = np.random.default_rng(0)
    env.reset(seed, "demo")
    poses, actions = [env.state.tool_pose], []
    for _ in range(8):
        _, outcome = env.step(rng.uniform(-1, 1, 6))
        actions.append(outcome.executed)
        poses.append(env.state.tool_pose)
    env.close()
    template = make(seed, steps=8, success=False)
    return dataclasses.replace(template, actions=np.array(actions, np.float32), tool_pose=np.array(poses, np.float64))


def test_the_same_actions_lead_to_the_same_poses(recorded):
    done = replay(recorded)
    assert (done.steps, done.recorded_steps, done.success) == (8, 8, False)
    assert done.position_m < 1e-6 and done.rotation_rad < 1e-5


def test_what_was_changed_is_found_at_its_step(recorded):
    actions = recorded.actions.copy()
    actions[4] *= -1.0
    done = replay(dataclasses.replace(recorded, actions=actions))
    assert done.position_m > 1e-3 and done.position_step >= 5
    moved = recorded.tool_pose.copy()
    moved[3, 0] += 0.5
    assert replay(dataclasses.replace(recorded, tool_pose=moved)).position_step == 3


def test_a_task_without_a_cell_is_named(recorded):
    with pytest.raises(ConfigError, match="made-5: cannot be replayed"):
        replay(dataclasses.replace(recorded, contract_text="{}"))
