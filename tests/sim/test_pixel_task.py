"""Pins: insert_leg from pictures: repeats to the bit, hides what must be seen, and acting and learning see the same."""

from __future__ import annotations

import numpy as np
import pytest

from inril_core.contract import ImageShape, load_contract
from inril_core.control.measurement import BadMeasurement
from inril_core.control.observation import observation_vector, split_observations
from inril_core.finetune.local import collect_demos
from inril_core.policies import policy_config
from inril_core.sim.render import RenderError
from inril_core.tasks import make_task
from inril_core.tasks.families.cell import CellEnv


@pytest.fixture(scope="module")
def pixels() -> CellEnv:
    task = make_task("insert_leg:pixels")
    try:
        task.reset(0)
    except RenderError as error:
        pytest.skip(f"no OpenGL: {error}")
    return task


def test_the_state_holds_nothing_that_must_be_seen() -> None:
    contract = load_contract("insert_leg_pixels")
    hidden = {"tip_in_hole_m", "leg_in_hole_rot6d", "turn_sin_cos", "tool_position_m"}
    assert not hidden & {field.name for field in contract.observation}
    assert contract.observation_size == contract.state_size + 2 * 84 * 84 * 3
    plain = load_contract("insert_leg")
    assert plain.observation_size == plain.state_size and plain.image_shapes == ()


def test_an_episode_repeats_and_is_learned_from_as_it_was_seen(pixels: CellEnv) -> None:
    first, second = (collect_demos(pixels, pixels.expert(), [3])[0] for _ in range(2))
    assert first.success and first.sha256 == second.sha256
    assert all(np.array_equal(first.images[name], second.images[name]) for name in ("close", "wrist"))
    policy = policy_config({"kind": "gaussian"}).seeing(pixels.interface.image_shapes)
    built = policy.build(pixels.interface.observation_size, 6)
    assert np.array_equal(built.observed(first)[0], pixels.reset(3, "demo"))
    assert first.images["close"].std() > 20


def test_acting_and_learning_build_the_same_vector() -> None:
    shapes = (ImageShape("a", 4, 5), ImageShape("b", 3, 2))
    rng = np.random.default_rng(0)
    states = rng.normal(size=(3, 7)).astype(np.float32)
    images = {s.name: rng.integers(0, 256, (3, s.height_px, s.width_px, 3), np.uint8) for s in shapes}
    rows = observation_vector(shapes, states, images)
    assert rows.shape == (3, 7 + 60 + 18) and rows.dtype == np.float32
    for t in range(3):
        one = observation_vector(shapes, states[t], {name: frames[t] for name, frames in images.items()})
        assert np.array_equal(one, rows[t])
    back, frames = split_observations(shapes, rows)
    assert np.array_equal(back, states) and all(np.array_equal(frames[name], images[name]) for name in images)
    assert observation_vector((), states, images) is states
    for bad in ({}, {**images, "b": images["b"][:, :2]}, {**images, "b": images["b"].astype(np.float32)}):
        with pytest.raises(BadMeasurement, match="image b|image a"):
            observation_vector(shapes, states, bad)
