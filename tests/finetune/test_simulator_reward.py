"""The simulator's own reward reaches the learner, and nothing else does."""

import dataclasses

import numpy as np
import pytest

from inril_core.errors import ConfigError
from inril_core.finetune.config import load_config
from inril_core.finetune.learner import new_policy
from inril_core.finetune.local import collect_demos, fine_tune
from inril_core.finetune.methods import method_config
from tests.finetune.dot_task import DotTask, dot_config
from tests.finetune.point_task import make_episode

REWARDS = np.array([1.0, 2.5, -3.0], np.float32)


def label(success: bool, terminated: bool, rewards: np.ndarray | None = REWARDS, **settings: float):
    made = make_episode(np.zeros((4, 4)), np.zeros((3, 6)), success, terminated=terminated)
    return method_config("rewards", {"method": "simulator", **settings}).label(
        dataclasses.replace(made, rewards=rewards)
    )


def test_rewards_are_taken_as_they_are_and_scaled() -> None:
    """Pins: a locomotion task learned from a success label that comes after a thousand steps."""
    rewards, masks = label(False, True)
    assert rewards.dtype == masks.dtype == np.float32
    np.testing.assert_array_equal(rewards, REWARDS)
    np.testing.assert_array_equal(label(False, True, scale=0.5)[0], REWARDS / 2)


def test_only_a_simulation_that_ended_by_itself_has_no_value_beyond() -> None:
    """Pins: the value of a runner cut off by the time limit set to 0, or a success taken for an end."""
    np.testing.assert_array_equal(label(False, True)[1], [1, 1, 0])
    np.testing.assert_array_equal(label(True, False)[1], [1, 1, 1])


def test_the_range_of_one_success_is_refused() -> None:
    """Pins: a locomotion task whose values are all clipped to 1 without a word, because that is RLPD's default."""
    base = load_config("rl_only")
    with pytest.raises(ConfigError, match="set it to null"):
        base.changed(rewards={"method": "simulator"})
    base.changed(rewards={"method": "simulator"}, **{"rl.target_range": None})
    base.changed(rewards={"method": "simulator"}, **{"rl.target_range": [-5.0, 20.0]})


def test_an_episode_without_rewards_is_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigError, match="holds no rewards; use rewards: {method: task}"):
        label(True, True, None)


@pytest.mark.parametrize("rewards", ["task", "label"])
def test_a_task_that_goes_on_after_success_has_no_reward_of_its_end(tmp_path, rewards: str) -> None:
    """Pins: a runner paid for its fall after the goal, so that falling sooner pays more."""
    task = DotTask()
    task.success_ends = False
    config = dot_config("rl_only", rewards={"method": rewards})
    demos = collect_demos(task, task.expert(), range(2))
    with pytest.raises(ConfigError, match="goes on after success"):
        fine_tune(config, task, new_policy(config, task.interface, demos), demos, tmp_path, 0)
