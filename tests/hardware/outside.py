"""What a lab writes outside the package: an arm that goes where it is told, and a camera that counts."""

from __future__ import annotations

import numpy as np

from inril_core.contract import Contract
from inril_core.hardware.arms.base import Arm, ArmConfig, ArmLost, ArmState
from inril_core.hardware.cameras.base import CameraConfig, CameraSource, Frame


class Perfect(Arm):
    """Is at once where it shall be. `broken`: it answers nothing, and cannot be armed."""

    def __init__(self, height_m: float) -> None:
        self._pose = np.array([0.5, 0.0, height_m, 1.0, 0.0, 0.0, 0.0])
        self.broken = False
        self.error: Exception = ArmLost("its emergency stop is pressed; release it")
        self.width_m = 0.04
        self.held = 0

    def measure(self) -> ArmState:
        """See `Arm`."""
        if self.broken:
            raise self.error
        return ArmState(self._pose.copy(), np.zeros(6), np.zeros(7), np.zeros(7), np.zeros(7), self.width_m)

    def follow(self, tool_pose: np.ndarray, gripper_width_m: float | None) -> None:
        """See `Arm`."""
        self._pose = tool_pose.copy()
        self.width_m = self.width_m if gripper_width_m is None else gripper_width_m

    def hold(self) -> None:
        """See `Arm`."""
        self.held += 1

    def recover(self) -> None:
        """See `Arm`."""
        self.measure()


class PerfectConfig(ArmConfig):
    """Settings of `Perfect`."""

    height_m: float = 0.2

    def build(self, contract: Contract) -> Perfect:
        """See `ArmConfig`."""
        return Perfect(self.height_m)


class Counting(CameraSource):
    """Each image is one brighter."""

    def __init__(self, width_px: int, height_px: int) -> None:
        self._pixels = np.zeros((height_px, width_px, 3), np.uint8)
        self.broken = False

    def read(self) -> Frame:
        """See `CameraSource`. `broken`: as its vendor's library fails."""
        if self.broken:
            raise OSError("no such device")
        self._pixels += 1
        return Frame(self._pixels.copy(), 7)


class CountingConfig(CameraConfig):
    """Settings of `Counting`."""

    of_the_cell = True

    def build(self, camera: str, width_px: int, height_px: int, arm: Arm | None) -> Counting:
        """See `CameraConfig`."""
        return Counting(width_px, height_px)
