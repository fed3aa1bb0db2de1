"""Where the cameras of the simulated cell stand, drawn for each episode."""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np

from inril_core.contract.definitions.physics import CameraOffset, Physics
from inril_core.errors import ConfigError

_OPTICAL = np.array([1.0, -1.0, -1.0])
"""A camera's optical frame (y down, z forward) in MuJoCo's (y up, z backward): half a turn about x."""


class CameraPoses:
    """Moves cameras of a compiled model as a contract's ``sim.physics.cameras`` says; without it nothing is touched.

    names: the scene's cameras.

    Raises:
        ConfigError: ranges are given for a camera that the scene does not have.
    """

    def __init__(self, model: mujoco.MjModel, names: Sequence[str], physics: Physics | None = None) -> None:
        self._model = model
        self._drawn = physics if physics is not None and physics.cameras else None
        unknown = sorted(set(self._drawn.cameras if self._drawn else ()) - set(names))
        if unknown:
            raise ConfigError(
                f"sim.physics.cameras.{unknown[0]}: the simulated cell has no such camera; it has {', '.join(names)}"
            )
        self._position_m, self._quat_wxyz = model.cam_pos.copy(), model.cam_quat.copy()

    def begin(self, seed: int) -> None:
        """Draw where the cameras stand in an episode."""
        for name, offset in (self._drawn.draw_cameras(seed) if self._drawn else {}).items():
            self.move(name, offset)

    def move(self, camera: str, offset: CameraOffset) -> None:
        """Put a camera of the model where `offset` says, counted from where the model had it when this was made."""
        index = self._model.camera(camera).id
        quat, shift_m = self._quat_wxyz[index], np.zeros(3)
        mujoco.mju_rotVecQuat(shift_m, _OPTICAL * offset.offset_m, quat)
        self._model.cam_pos[index] = self._position_m[index] + shift_m
        rotation, turn, moved = _OPTICAL * offset.rotation_rad, np.zeros(4), np.zeros(4)
        angle_rad = float(np.linalg.norm(rotation))
        mujoco.mju_axisAngle2Quat(turn, rotation / angle_rad if angle_rad else np.array([1.0, 0.0, 0.0]), angle_rad)
        mujoco.mju_mulQuat(moved, quat, turn)
        self._model.cam_quat[index] = moved
