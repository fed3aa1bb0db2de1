"""Images of a board by a simulated camera, whose intrinsics and pose are known exactly."""

from __future__ import annotations

import math
import os
from types import TracebackType

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from inril_core.calibration import rigid
from inril_core.calibration.board import Board
from inril_core.calibration.camera import Camera
from inril_core.sim.render import RenderError

_OPTICAL = rigid.compose(np.diag([1.0, -1.0, -1.0]), np.zeros(3))
"""MuJoCo's cameras look along -z with y up; optical frames look along z with y down."""
_SUPERSAMPLING = 3
_PX_PER_SQUARE = 96

_MODEL = """
<mujoco>
  <visual>
    <global offwidth="{width}" offheight="{height}"/>
    <headlight ambient=".55 .55 .55" diffuse=".4 .4 .4" specular="0 0 0"/>
    <quality offsamples="4"/>
    <map znear="0.02" zfar="20"/>
  </visual>
  <statistic extent="1"/>
  <asset>
    <texture name="sky" type="skybox" builtin="gradient" rgb1=".35 .38 .42" rgb2=".2 .2 .22" width="64" height="64"/>
    <texture name="board" type="2d" file="board.png"/>
    <material name="board" texture="board" texrepeat="1 1" texuniform="false" specular="0" shininess="0"/>
    <material name="paper" rgba=".95 .95 .95 1" specular="0" shininess="0"/>
  </asset>
  <worldbody>
    <camera name="eye" pos="0 0 0" fovy="{fovy}"/>
    <body name="board" mocap="true">
      <geom type="plane" size="{half_x} {half_y} 1" material="board" contype="0" conaffinity="0"/>
      <geom type="box" size="{paper_x} {paper_y} .002" pos="0 0 -.0025" material="paper" contype="0" conaffinity="0"/>
    </body>
  </worldbody>
</mujoco>
"""


class BoardCamera:
    """A camera without distortion that looks at one board. Use as a context manager, in the thread that made it.

    Raises:
        RenderError: there is no off-screen OpenGL.
    """

    def __init__(self, board: Board, width_px: int = 640, height_px: int = 480, fovy_deg: float = 45.0) -> None:
        # imported after inril_core.sim, which says how MuJoCo renders without a display
        import mujoco

        focal = 0.5 * height_px / math.tan(math.radians(0.5 * fovy_deg))
        # OpenCV counts from the middle of the first pixel, MuJoCo's image begins at its edge
        K = np.array([[focal, 0.0, 0.5 * (width_px - 1)], [0.0, focal, 0.5 * (height_px - 1)], [0.0, 0.0, 1.0]])
        self.camera = Camera(K, np.zeros(5))
        self._board, self._size = board, (width_px, height_px)
        self._forward, self._shadow = mujoco.mj_forward, mujoco.mjtRndFlag.mjRND_SHADOW
        x, y = board.size_m
        margin = board.square_m
        text = _MODEL.format(
            width=_SUPERSAMPLING * width_px,
            height=_SUPERSAMPLING * height_px,
            fovy=fovy_deg,
            half_x=0.5 * x,
            half_y=0.5 * y,
            paper_x=0.5 * x + margin,
            paper_y=0.5 * y + margin,
        )
        # a plane shows its texture to +z with y up; the board's own frame has y down and z into the board
        done, png = cv2.imencode(".png", cv2.cvtColor(board.image(_PX_PER_SQUARE), cv2.COLOR_GRAY2RGB))
        assert done
        self._T_board_geom = rigid.compose(np.diag([1.0, -1.0, -1.0]), np.array([0.5 * x, 0.5 * y, 0.0]))
        try:
            self._model = mujoco.MjModel.from_xml_string(text, {"board.png": png.tobytes()})
            self._data = mujoco.MjData(self._model)
            self._renderer = mujoco.Renderer(self._model, _SUPERSAMPLING * height_px, _SUPERSAMPLING * width_px)
        except Exception as error:  # the GL loaders raise whatever their platform raises
            raise RenderError(
                f"no off-screen OpenGL (MUJOCO_GL={os.environ.get('MUJOCO_GL')}): {error!r}; install libegl1 "
                "libegl-mesa0 libgl1-mesa-dri"
            ) from error

    def __enter__(self) -> BoardCamera:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._renderer.close()

    def image(
        self,
        T_camera_board: np.ndarray,
        rng: np.random.Generator | None = None,
        blur_px: float = 0.0,
        noise: float = 0.0,
    ) -> np.ndarray:
        """uint8[H, W, 3] of the board.

        Args:
            blur_px: deviation of a Gaussian blur.
            noise: deviation of the grey values' noise, of 255.
        """
        T = _OPTICAL @ T_camera_board @ self._T_board_geom
        self._data.mocap_pos[0] = T[:3, 3]
        self._data.mocap_quat[0] = Rotation.from_matrix(T[:3, :3]).as_quat()[[3, 0, 1, 2]]
        self._forward(self._model, self._data)
        self._renderer.update_scene(self._data, "eye")
        self._renderer.scene.flags[self._shadow] = 0
        image = cv2.resize(self._renderer.render(), self._size, interpolation=cv2.INTER_AREA).astype(np.float64)
        if blur_px > 0.0:
            image = cv2.GaussianBlur(image, (0, 0), blur_px)
        if noise > 0.0:
            assert rng is not None, "noise needs a generator"
            image = image + rng.normal(0.0, noise, image.shape[:2])[..., None]
        return np.asarray(np.clip(image, 0.0, 255.0).round().astype(np.uint8))


def random_views(board: Board, camera: Camera, rng: np.random.Generator, count: int, tilt_rad: float) -> np.ndarray:
    """Poses T_camera_board float64[count, 4, 4] that fill the image and tilt the board to all sides."""
    middle = np.array([*(0.5 * s for s in board.size_m), 0.0])
    centre, focal = camera.K[:2, 2], camera.focal_px
    views: list[np.ndarray] = []
    while len(views) < count:
        about = np.append(rng.uniform(-tilt_rad, tilt_rad, 2), rng.uniform(-0.5, 0.5))
        R = Rotation.from_rotvec(about).as_matrix()
        depth = rng.uniform(0.9, 1.8) * focal * max(board.size_m) / (2.0 * centre[0])
        side = rng.uniform(-0.45, 0.45, 2) * centre / focal * depth
        T = rigid.compose(R, np.append(side, depth) - R @ middle)
        seen = camera.project(rigid.apply(T, board.points))
        inside = ((seen > 2.0) & (seen < 2.0 * centre - 2.0)).all(axis=1)
        if inside.mean() > 0.7:
            views.append(T)
    return np.array(views)
