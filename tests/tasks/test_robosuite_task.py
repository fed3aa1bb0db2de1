"""Pins: robosuite as a task: sizes, repeatability, fresh observations, refusals, and experts that can do it."""

import numpy as np
import pytest

from inril_core.errors import ConfigError
from inril_core.experts.robosuite import SCRIPTS, ScriptedPicker
from inril_core.tasks import make_task
from inril_core.tasks.families.robosuite import SPECS, interface, observation_keys, relative_pose
from inril_core.transforms import quat_from_rotvec


def test_sizes_are_those_of_robomimics_files():
    sizes = {name: (interface(name).observation_size, interface(name).action_size) for name in SPECS}
    assert sizes == {"Lift": (19, 7), "Can": (23, 7), "Square": (23, 7), "Transport": (59, 14)}
    assert observation_keys("Lift") == ["robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos", "object"]
    assert len({interface(name).interface_digest for name in SPECS}) == len(SPECS)


def test_unknown_names_and_settings_are_refused():
    with pytest.raises(ConfigError, match="robosuite:Square"):
        make_task("robosuite:Door")
    with pytest.raises(ValueError, match="not finite"):
        ScriptedPicker(SCRIPTS["Lift"]).act(np.full(19, np.nan, np.float32))


def test_a_relative_pose_undoes_the_hand():
    hand = np.array(quat_from_rotvec((0.3, -0.2, 0.9)))
    tool = np.array([0.1, 0.2, 0.3])
    assert relative_pose(tool, hand, tool, hand) == pytest.approx([0, 0, 0, 0, 0, 0, 1])
    assert relative_pose(tool, -hand, tool, hand)[3:] == pytest.approx([0, 0, 0, 1])  # the same rotation
    turned = relative_pose(np.array([1.0, 0.0, 0.0]), hand, np.zeros(3), np.array(quat_from_rotvec((0, 0, np.pi / 2))))
    assert turned[:3] == pytest.approx([0.0, -1.0, 0.0])


@pytest.fixture(scope="module")
def lift():
    pytest.importorskip("robosuite", reason="needs `make extras`")
    task = make_task("robosuite:Lift")
    yield task
    task.close()


def test_lift_repeats_by_its_seed_whatever_came_before(lift):
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1.0, 1.0, (5, 7))

    def roll(seed, purpose="train"):
        return np.stack([lift.reset(seed, purpose), *(lift.step(action)[0] for action in actions)])

    first = roll(3)
    other = roll(4)
    assert np.array_equal(roll(3), first)
    assert not np.array_equal(first, other) and not np.array_equal(first[0], roll(3, "eval")[0])
    assert first.shape == (6, 19) and first.dtype == np.float32


def test_the_observation_is_of_now(lift):
    """robosuite's own observables are read at the start of a control step; a policy must not see the past."""
    lift.reset(0)
    seen, _ = lift.step(np.array([0.0, 0.0, -1.0, 0.0, 0.0, 0.0, -1.0]))
    data, robot = lift._env.sim.data, lift._env.robots[0]
    assert seen[0:3] == pytest.approx(data.site_xpos[robot.eef_site_id["right"]], abs=1e-6)
    assert seen[9:12] == pytest.approx(data.body_xpos[lift._env.cube_body_id], abs=1e-6)
    assert seen[16:19] == pytest.approx(seen[0:3] - seen[9:12], abs=1e-6)


def test_bad_actions_are_refused_and_wide_ones_clipped(lift):
    lift.reset(0)
    for action in (np.full(7, np.nan), np.zeros(6)):
        with pytest.raises(ValueError, match="finite numbers"):
            lift.step(action)
    _, outcome = lift.step(np.full(7, 2.0))
    assert outcome.limits == ("action_range",) and (outcome.executed == 1.0).all()


def test_an_idle_episode_is_truncated_not_terminated(lift):
    lift.reset(0)
    lift._steps = lift.episode_length_steps - 1
    _, outcome = lift.step(np.zeros(7))
    assert outcome.truncated and not outcome.terminated and not outcome.success and outcome.reward == 0.0
    with pytest.raises(ValueError, match="call reset"):
        lift.step(np.zeros(7))


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_the_scripted_expert_succeeds(name):
    pytest.importorskip("robosuite", reason="needs `make extras`")
    task = make_task(f"robosuite:{name}")
    expert = task.expert()
    observation, outcome = task.reset(1, "demo"), None
    expert.reset(1)
    while outcome is None or not (outcome.terminated or outcome.truncated):
        assert outcome is None or outcome.reward == 0.0
        observation, outcome = task.step(expert.act(observation))
    assert outcome.success and outcome.terminated and outcome.reward == 1.0
    task.close()
