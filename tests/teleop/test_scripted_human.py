"""Pins: when the scripted human takes over, when it hands back, and that its noise is reproducible."""

from __future__ import annotations

import numpy as np
import pytest

from inril_core.contract import Contract, load_contract
from inril_core.errors import ConfigError
from inril_core.experts.scripted.insert_leg import InsertLegExpert
from inril_core.sim.cell import Cell
from inril_core.teleop import Scene, TickView, device_config
from inril_core.teleop.scripted import ScriptedHuman


def view(episode: str, step: int, purpose: str, seed: int, state: np.ndarray) -> TickView:
    return TickView(episode, step, purpose, seed, state, np.zeros(7))


def grabs(human: ScriptedHuman, purpose: str, steps: int, size: int, episode: str = "e") -> list[tuple[bool, bool]]:
    inputs = [human.read(view(episode, step, purpose, 1, np.zeros(size, np.float32))) for step in range(steps)]
    return [(i.grab, i.released) for i in inputs]


def test_demonstrates_from_the_first_step(contract: Contract) -> None:
    human = ScriptedHuman(InsertLegExpert(contract))
    assert grabs(human, "demo", 3, contract.observation_size) == [(True, False)] * 3


def test_keeps_out_of_train_and_eval(contract: Contract) -> None:
    human = ScriptedHuman(InsertLegExpert(contract))
    for purpose in ("train", "eval"):
        assert grabs(human, purpose, 3, contract.observation_size) == [(False, False)] * 3


def test_takes_over_in_mid_episode_and_hands_back_once(contract: Contract) -> None:
    human = ScriptedHuman(InsertLegExpert(contract), (1, 3))
    said = [(False, False), (True, False), (True, False), (False, True), (False, False)]
    assert grabs(human, "train", 5, contract.observation_size) == said


def test_hands_back_where_the_episode_ended_before(contract: Contract) -> None:
    human = ScriptedHuman(InsertLegExpert(contract), (1, 30))
    grabs(human, "train", 4, contract.observation_size)
    assert grabs(human, "train", 2, contract.observation_size, "next") == [(False, True), (True, False)]


def test_noise_restarts_with_the_episode(contract: Contract) -> None:
    human = ScriptedHuman(InsertLegExpert(contract, noise=0.5))
    state = np.zeros(contract.observation_size, np.float32)
    actions = [human.read(view(name, 0, "demo", 7, state)).action for name in ("a", "b")]
    assert np.array_equal(*actions)


def test_settings_make_it(contract: Contract) -> None:
    human = device_config("scripted", "{takeover_steps: [1, 2], expert: {noise: 0.3}}").build(contract)
    state = np.zeros(contract.observation_size, np.float32)
    said = [human.read(view("e", step, "train", 5, state)) for step in range(3)]
    assert [s.grab for s in said] == [False, True, False]
    expert = InsertLegExpert(contract, noise=0.3, seed=5)
    assert np.array_equal(said[1].action, [expert.act(state) for _ in range(2)][1])


@pytest.mark.parametrize("steps", ["20", "[40, 20]", "[5, 5]", "[-1, 3]", "[a, b]", "[1, 2, 3]", "[1.5, 2]", "20:40"])
def test_a_range_that_is_none_is_refused(steps: str) -> None:
    with pytest.raises(ConfigError, match="takeover_steps"):
        device_config("scripted", f"{{takeover_steps: {steps}}}")


def test_looks_at_the_cell_where_the_policy_sees_pictures(contract: Contract) -> None:
    """The same motions as where the poses are the observation, and a clear error without a sight of the cell."""
    state = Cell(contract).reset(3, "demo")
    scene = Scene(state.tool_twist, state.gripper_width_m, state.parts)
    pixels, known = load_contract("insert_leg_pixels"), device_config("scripted").build(contract)
    human = device_config("scripted").build(pixels)
    assert human.looks_at_scene and not known.looks_at_scene
    features = contract.task_definition.features(state.tool_pose, *vars(scene).values())
    seen = np.concatenate([np.ravel(features[field.name]) for field in contract.observation]).astype(np.float32)
    tick = TickView("e", 0, "demo", 7, np.zeros(pixels.state_size, np.float32), state.tool_pose, scene)
    wanted = known.read(TickView("e", 0, "demo", 7, seen, state.tool_pose)).action
    assert np.array_equal(human.read(tick).action, wanted) and np.abs(wanted).max() > 0.1
    with pytest.raises(ValueError, match="was not shown"):
        human.read(view("e", 1, "demo", 7, tick.state))
    worse = device_config("scripted", "{expert: {noise: 0.3}}").build(pixels)
    assert not np.array_equal(worse.read(tick).action, wanted)


def test_it_looks_around_before_it_demonstrates_and_nowhere_else(contract: Contract) -> None:
    """Pins: looking around in a takeover, which is there to help."""
    human = device_config("scripted", "{look_around_steps: 2, takeover_steps: [0, 9]}").build(contract)
    plain = device_config("scripted", "{takeover_steps: [0, 9]}").build(contract)
    state, pose = np.zeros(contract.observation_size, np.float32), np.array([0.4, 0.0, 0.2, 0.0, 0.0, 0.0, 1.0])
    for purpose, same in (("demo", [False, False, True]), ("train", [True] * 3)):
        views = [TickView(purpose, step, purpose, 5, state, pose) for step in range(3)]
        assert [np.array_equal(human.read(view).action, plain.read(view).action) for view in views] == same
