"""A camera of the simulated cell."""

from __future__ import annotations

from inril_core.errors import ConfigError
from inril_core.hardware.arms.base import Arm
from inril_core.hardware.arms.simulated import SimulatedArm
from inril_core.hardware.cameras.base import CameraConfig, CameraSource, Frame
from inril_core.sim.cell import Cell


class RenderedCamera(CameraSource):
    """Draws the cell as it is now. Each reading is a new image."""

    def __init__(self, cell: Cell, camera: str, width_px: int, height_px: int) -> None:
        self._cell, self._camera = cell, camera
        self._size_px = width_px, height_px

    def read(self) -> Frame:
        """See `CameraSource.read`.

        Raises:
            RenderError: no OpenGL here, or no such camera.
            CellError: the cell was never laid out.
        """
        return Frame(self._cell.render(self._camera, *self._size_px), None)


class Config(CameraConfig):
    """Settings of a rendered camera; its place is in the scene."""

    of_the_cell = True

    def build(self, camera: str, width_px: int, height_px: int, arm: Arm | None) -> RenderedCamera:
        """See `CameraConfig.build`."""
        if not isinstance(arm, SimulatedArm):
            raise ConfigError(f"camera {camera}: source 'rendered' looks at the simulated cell; name another source")
        return RenderedCamera(arm.cell, camera, width_px, height_px)
