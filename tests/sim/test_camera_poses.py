"""Pins: a camera that stands elsewhere than the contract says, differs between runs of a seed, or moves unasked."""

from __future__ import annotations

import json
from typing import Any

import mujoco
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from inril_core.contract import Contract, contract_from_text, load_contract
from inril_core.contract.definitions.physics import CameraOffset, CameraRanges, Physics
from inril_core.errors import ConfigError
from inril_core.sim.camera_poses import CameraPoses
from inril_core.sim.cell import Cell
from inril_core.sim.scenes.insert_leg import InsertLeg

SEED = 11
WIDE = {"offset_m": [[-0.01, 0.01]] * 3, "rotation_rad": [[-0.05, 0.05]] * 3}


def contract(**physics: Any) -> Contract:
    content = json.loads(load_contract("insert_leg").text)
    content["sim"]["physics"] = physics
    return contract_from_text(json.dumps(content))


def pictures(cell: Cell, seed: int = SEED) -> dict[str, np.ndarray]:
    cell.reset(seed)
    return {camera: cell.render(camera, 96, 64) for camera in InsertLeg.cameras}


def poses(cell: Cell) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Position and rotation matrix of each camera, in the base frame, MuJoCo's axes."""
    data = mujoco.MjData(cell.model)
    data.qpos[:] = cell.state.qpos[: cell.model.nq]
    mujoco.mj_forward(cell.model, data)
    return {
        name: (data.camera(name).xpos.copy(), data.camera(name).xmat.copy().reshape(3, 3)) for name in InsertLeg.cameras
    }


@pytest.mark.parametrize("physics", [{}, {"gain_scale": [1.0, 1.0]}, {"cameras": {"front": {}, "wrist": {}}}])
def test_cameras_without_an_error_see_what_they_saw_bit_for_bit(physics: dict[str, Any]) -> None:
    plain, same = pictures(Cell(load_contract("insert_leg"))), pictures(Cell(contract(**physics)))
    for camera, image in plain.items():
        np.testing.assert_array_equal(same[camera], image, err_msg=camera)


def test_a_contract_that_names_no_camera_says_what_it_said() -> None:
    """Its text and digest, which recordings carry, do not mention them."""
    assert "cameras" not in contract(gain_scale=[0.9, 1.1]).text
    moved = contract(cameras={"front": WIDE})
    assert contract_from_text(moved.text) == moved
    assert moved.interface_digest == load_contract("insert_leg").interface_digest != moved.deployment_digest


@pytest.mark.parametrize("camera", ["front", "wrist"])
def test_a_camera_stands_where_its_offset_says(camera: str) -> None:
    """In the optical frame of the model's camera, x right, y down, z forward, which for `wrist` goes with the hand."""
    offset = CameraOffset((0.01, -0.02, 0.03), (0.2, -0.1, 0.3))
    fixed = CameraRanges.model_validate({k: [(v, v) for v in values] for k, values in offset._asdict().items()})
    plain, cell = Cell(load_contract("insert_leg")), Cell(contract(cameras={camera: fixed.model_dump()}))
    for each in (plain, cell):
        each.reset(SEED)
    before, after = poses(plain), poses(cell)
    optical = before[camera][1] @ np.diag([1.0, -1.0, -1.0])
    wanted = optical @ Rotation.from_rotvec(offset.rotation_rad).as_matrix()
    np.testing.assert_allclose(after[camera][0], before[camera][0] + optical @ offset.offset_m, atol=1e-12)
    np.testing.assert_allclose(after[camera][1] @ np.diag([1.0, -1.0, -1.0]), wanted, atol=1e-12)
    for other in set(before) - {camera}:
        np.testing.assert_array_equal(after[other][0], before[other][0])
        np.testing.assert_array_equal(after[other][1], before[other][1])


def test_a_seed_gives_the_same_pictures_and_another_seed_others() -> None:
    cell, again = Cell(contract(cameras={"front": WIDE})), Cell(contract(cameras={"front": WIDE}))
    first = pictures(cell)
    standing = poses(cell)["front"][0]
    pictures(cell, SEED + 1)
    assert np.abs(poses(cell)["front"][0] - standing).max() > 1e-4
    for camera, image in pictures(cell).items():
        np.testing.assert_array_equal(image, first[camera], err_msg=camera)
        np.testing.assert_array_equal(pictures(again)[camera], image, err_msg=camera)
    assert not np.array_equal(first["front"], pictures(Cell(load_contract("insert_leg")))["front"])


def test_draws_are_uniform_and_change_no_others() -> None:
    one = Physics.model_validate({"gain_scale": (0.8, 1.2), "cameras": {"front": WIDE}})
    two = Physics.model_validate({"cameras": {"wrist": WIDE, "front": WIDE}})
    arm = Physics(gain_scale=(0.8, 1.2))
    drawn = []
    for seed in range(300):
        assert one.draw(seed) == arm.draw(seed)
        front, both = one.draw_cameras(seed)["front"], two.draw_cameras(seed)
        assert both["front"] == front != both["wrist"]
        drawn.append((*front.offset_m, *front.rotation_rad))
    values = np.array(drawn) / np.array([0.01] * 3 + [0.05] * 3)
    assert (np.abs(values) <= 1.0).all() and (np.abs(values).max(axis=0) > 0.95).all()
    assert np.abs(np.corrcoef(values.T) - np.eye(6)).max() < 0.25 and np.abs(values.mean(axis=0)).max() < 0.15


@pytest.mark.parametrize(
    ("cameras", "text"),
    [
        ({"Front!": {}}, "cameras.Front!"),
        ({"front": {"offset_m": [[0.01, -0.01], [0, 0], [0, 0]]}}, "the lower bound comes first"),
        ({"front": {"offset_m": [[0, 0], [0, 0], [0, 0.3]]}}, "cameras.front.offset_m.2.1"),
        ({"front": {"rotation_rad": [[0, 0], [-0.6, 0], [0, 0]]}}, "cameras.front.rotation_rad.1.0"),
        ({"front": {"rotation_rad": [[0, 0], [0, 0]]}}, "cameras.front.rotation_rad"),
        ({"front": {"offset_m": [[float("nan"), 0], [0, 0], [0, 0]]}}, "finite"),
        ({"front": {"tilt_rad": [0, 0]}}, "cameras.front.tilt_rad"),
        ([], "cameras"),
    ],
)
def test_ranges_that_make_no_sense_are_named(cameras: Any, text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        contract(cameras=cameras)
    assert text in str(refused.value) and "cameras" in str(refused.value)


def test_a_camera_that_the_cell_does_not_have_is_named() -> None:
    with pytest.raises(ConfigError, match=r"sim\.physics\.cameras\.frnt: .* it has front, overview, close, wrist"):
        Cell(contract(cameras={"frnt": WIDE}))


def test_moves_do_not_add_up() -> None:
    model = Cell(load_contract("insert_leg")).model
    before, stood = model.cam_quat.copy(), model.cam_pos.copy()
    cameras = CameraPoses(model, InsertLeg.cameras)
    for _ in range(2):
        cameras.move("front", CameraOffset((0.1, 0.0, 0.0), (0.0, 0.3, 0.0)))
    assert not np.array_equal(model.cam_quat, before)
    cameras.move("front", CameraOffset())
    np.testing.assert_array_equal(model.cam_quat, before)
    np.testing.assert_array_equal(model.cam_pos, stood)
