"""Pins: looking around that leaves the place where the attempt began, is imitated, or never ends."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from inril_core.contract import Contract
from inril_core.errors import ConfigError
from inril_core.experts.looking_around import LookingAround
from inril_core.finetune.local import collect_demos
from inril_core.finetune.memory.transitions import imitated_steps
from inril_core.tasks.families.cell import CellEnv
from tests.finetune.dot_task import DotTask

WANTED = np.array([0.5, -0.5, 0.25, 0.0, 0.0, 1.0, -1.0], np.float32)


def walked(contract: Contract, steps: int, seed: int, count: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Tool poses of a tool that goes where it is told, and the actions."""
    looking, actions = LookingAround(contract, steps), []
    looking.reset(seed)
    pose = np.array([0.4, 0.1, 0.2, *Rotation.from_euler("x", 170, degrees=True).as_quat()])
    poses = [pose]
    for _ in range(count):
        actions.append(looking.changed(WANTED, pose))
        moves, turns = actions[-1][:3] * contract.action.translation_scale_m, actions[-1][3:6]
        turned = Rotation.from_rotvec(turns * contract.action.rotation_scale_rad) * Rotation.from_quat(pose[3:])
        pose = np.concatenate((pose[:3] + moves, turned.as_quat()))
        poses.append(pose)
    return np.array(poses), actions


@pytest.mark.parametrize("seed", range(5))
def test_it_stays_near_where_the_attempt_began(contract: Contract, seed: int) -> None:
    poses, actions = walked(contract, 300, seed, 300)
    off = poses[:, :3] - poses[0, :3]
    assert (np.abs(off[:, :2]) <= 0.03 + 1e-9).all() and (off[:, 2] >= -0.02 - 1e-9).all() and (off[:, 2] <= 0.04).all()
    turned = (Rotation.from_quat(poses[:, 3:]) * Rotation.from_quat(poses[0, 3:]).inv()).magnitude()
    assert turned.max() < 0.6 and np.ptp(off, axis=0).min() > 0.03 and turned.max() > 0.2
    assert np.abs(actions).max() <= 1.0 and all(action[6] == WANTED[6] for action in actions)


def test_then_the_expert_acts(contract: Contract) -> None:
    _, actions = walked(contract, 7, 0, 12)
    assert [np.array_equal(action, WANTED) for action in actions] == [False] * 7 + [True] * 5
    assert all(np.array_equal(action, WANTED) for action in walked(contract, 0, 0, 3)[1])


def test_its_seed_decides(contract: Contract) -> None:
    a, b, c = (walked(contract, 20, seed, 20)[0] for seed in (1, 1, 2))
    assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_a_demonstration_after_looking_around_succeeds_and_only_it_is_imitated(env: CellEnv) -> None:
    demo = collect_demos(env, env.expert(), [3], look_around_steps=40)[0]
    assert demo.succeeded and demo.steps > 45 and demo.source.all()
    assert not imitated_steps(demo)[:40].any() and imitated_steps(demo)[41:].all()
    assert np.linalg.norm(demo.tool_pose[:40, :3] - demo.tool_pose[0, :3], axis=1).max() > 0.02


def test_what_moves_no_tool_cannot_look_around() -> None:
    with pytest.raises(ConfigError, match="look_around_steps"):
        collect_demos(DotTask(), DotTask().expert(), [0], 5)
