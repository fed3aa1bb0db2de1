"""Pictures of the cell, rendered off screen. Touches OpenGL only when the first picture is asked for."""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence

import mujoco
import numpy as np

from inril_core.contract import Contract
from inril_core.errors import InrilError
from inril_core.sim.scenes.base import TIMESTEP_S, make_scene


class RenderError(InrilError):
    """No picture can be made; the message says why and what to install."""


class CellRenderer:
    """Renders joint states of one model. Use it in the thread that made it.

    cameras: those that the model has. shadows: nicer and several times slower.
    """

    def __init__(self, model: mujoco.MjModel, cameras: Sequence[str], shadows: bool = False) -> None:
        self._cameras = tuple(cameras)
        self._model = model
        self._data = mujoco.MjData(model)
        self._shadows = shadows
        self._renderers: dict[tuple[int, int], mujoco.Renderer] = {}

    def image(self, qpos: np.ndarray, camera: str, width_px: int, height_px: int) -> np.ndarray:
        """uint8[height_px, width_px, 3] of the cell at `qpos` (float64[nq + 7 nmocap], see `CellState`).

        Raises:
            RenderError: OpenGL is missing, the camera is unknown, or `qpos` does not fit the model.
        """
        if camera not in self._cameras:
            raise RenderError(f"camera = {camera!r}: the cell has {', '.join(self._cameras)}")
        joints, size = self._model.nq, self._model.nq + 7 * self._model.nmocap
        if np.shape(qpos) != (size,) or not np.isfinite(qpos).all():
            raise RenderError(
                f"qpos of shape {np.shape(qpos)}: the cell needs {size} finite numbers; give the contract that it "
                "was recorded with"
            )
        renderer = self._renderer(width_px, height_px)
        self._data.qpos[:] = qpos[:joints]
        mocap = np.reshape(qpos[joints:], (-1, 7))
        self._data.mocap_pos[:], self._data.mocap_quat[:] = mocap[:, :3], mocap[:, 3:]
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        renderer.update_scene(self._data, camera)
        renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = int(self._shadows)
        renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = int(self._shadows)
        return np.array(renderer.render())

    def close(self) -> None:
        """Free the GL contexts. Idempotent."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()
        atexit.unregister(self.close)

    def _renderer(self, width_px: int, height_px: int) -> mujoco.Renderer:
        size = (width_px, height_px)
        if size not in self._renderers:
            _refuse_other_loader()
            try:
                self._renderers[size] = mujoco.Renderer(self._model, height_px, width_px)
            except Exception as error:  # the GL loaders raise whatever their platform raises
                raise RenderError(
                    f"no off-screen OpenGL (MUJOCO_GL={os.environ.get('MUJOCO_GL')}): {error!r}. Install "
                    "libegl1 libegl-mesa0 libgl1-mesa-dri (Debian, Ubuntu), or use a contract without images"
                ) from error
            # Registered after MuJoCo's own exit handler, so run before it: later OpenGL is gone.
            atexit.unregister(self.close)
            atexit.register(self.close)
        return self._renderers[size]


def _refuse_other_loader() -> None:
    """MuJoCo ends the process at the second context that it cannot make, so none is tried where it cannot succeed."""
    loader = getattr(mujoco, "GLContext", None)
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if loader is None or (loader.__module__ == "mujoco.glfw" and not display):
        raise RenderError(
            "no off-screen OpenGL: MuJoCo was imported before inril, or with another MUJOCO_GL, and draws on a "
            "display, which is missing; set MUJOCO_GL=egl in the environment, or import inril_core first"
        )


class EpisodeRenderer:
    """Renders recorded episodes of a contract again, from their `qpos`; cameras stand where the scene has them."""

    def __init__(self, contract: Contract, shadows: bool = True) -> None:
        scene = make_scene(contract, TIMESTEP_S)
        self._renderer = CellRenderer(scene.model, scene.cameras, shadows)

    def image(self, qpos: np.ndarray, camera: str = "front", width_px: int = 640, height_px: int = 480) -> np.ndarray:
        """uint8[height_px, width_px, 3] at one recorded `qpos` (float64[nq + 7 nmocap]).

        Raises:
            RenderError: as `CellRenderer.image`.
        """
        return self._renderer.image(qpos, camera, width_px, height_px)

    def close(self) -> None:
        """Free the GL contexts. Idempotent."""
        self._renderer.close()
