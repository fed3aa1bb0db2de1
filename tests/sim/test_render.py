"""Pins: pictures show the scene, and a recorded state gives the same picture again."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from inril_core.contract import Contract
from inril_core.sim.render import EpisodeRenderer, RenderError
from inril_core.sim.scenes.insert_leg import InsertLeg
from inril_core.tasks.families.cell import CellEnv


@pytest.mark.parametrize("camera", InsertLeg.cameras)
def test_each_camera_sees_something(env: CellEnv, camera: str) -> None:
    env.reset(0)
    pixels = env.cell.render(camera, 96, 64)
    assert pixels.shape == (64, 96, 3) and pixels.dtype == np.uint8
    assert pixels.std() > 20
    orange = (pixels[..., 0] > 100) & (pixels[..., 0] > 1.6 * pixels[..., 2].astype(int))
    assert orange.sum() > 20  # leg or table top


def test_recorded_states_give_the_same_picture(env: CellEnv, contract: Contract) -> None:
    env.reset(3)
    live = env.cell.render("front", 64, 64)
    renderer = EpisodeRenderer(contract, shadows=False)
    again = renderer.image(env.state.qpos, "front", 64, 64)
    env.step(np.ones(6))
    assert np.array_equal(live, again)
    assert not np.array_equal(live, renderer.image(env.state.qpos, "front", 64, 64))
    renderer.close()
    renderer.close()


def test_drawing_does_not_touch_physics(env: CellEnv) -> None:
    def run(draw: bool) -> np.ndarray:
        env.reset(4)
        for _ in range(3):
            if draw:
                env.cell.render("wrist", 32, 32)
            env.step(np.full(6, 0.3))
        return env.state.qpos

    assert np.array_equal(run(True), run(False))


def test_bad_requests_are_refused(env: CellEnv, contract: Contract) -> None:
    env.reset(0)
    with pytest.raises(RenderError, match="camera"):
        env.cell.render("nowhere", 32, 32)
    renderer = EpisodeRenderer(contract)
    for qpos in (np.zeros(3), np.full(env.cell.model.nq, np.nan)):
        with pytest.raises(RenderError, match="qpos"):
            renderer.image(qpos)


def test_missing_opengl_is_explained(env: CellEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no display")

    monkeypatch.setattr("inril_core.sim.render.mujoco.Renderer", broken)
    env.reset(0)
    with pytest.raises(RenderError, match="libegl1"):
        env.cell.render("front", 33, 31)


FOREIGN = """
import mujoco
from inril_core.contract import load_contract
from inril_core.sim.cell import Cell
from inril_core.sim.render import RenderError
cell = Cell(load_contract("insert_leg"))
cell.reset(0)
for _ in range(2):
    try:
        cell.render()
    except RenderError as error:
        print(error)
"""


def test_a_program_that_imported_mujoco_first_is_told_so_each_time() -> None:
    """Pins: a process that MuJoCo aborts at the second picture it cannot make."""
    hidden = ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    command = [sys.executable, "-c", FOREIGN]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("import inril_core first") == 2


def test_the_order_of_inril_s_own_imports_does_not_matter() -> None:
    """Pins: a benchmark that imports MuJoCo above the cell, after which nothing can be drawn."""
    program = FOREIGN.replace("import mujoco\n", "import inril_core.bench.cell_speed\n") + "print(cell.render().shape)"
    environment = {name: value for name, value in os.environ.items() if name != "MUJOCO_GL"}
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert ended.stdout.endswith("(480, 640, 3)\n"), ended.stdout + ended.stderr
