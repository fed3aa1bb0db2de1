"""The arm of the simulated cell."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from inril_core.contract import Contract
from inril_core.hardware.arms.base import Arm, ArmConfig
from inril_core.sim.cell import PIECES, Cell, CellState


class SimulatedArm(Arm):
    """Moves the Panda of a simulated cell; `cell` also knows the parts and whether the task is done."""

    simulated: ClassVar[bool] = True

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self._pieces = PIECES
        """Of a period, that pass in one part of it."""

    def cut_periods(self, most: int) -> int:
        """See `Arm.cut_periods`."""
        self._pieces = next(
            pieces for pieces in range(1, PIECES + 1) if PIECES % pieces == 0 and most * pieces >= PIECES
        )
        return PIECES // self._pieces

    def wait(self) -> None:
        """See `Arm.wait`."""
        self.cell.advance(self._pieces)

    def measure(self) -> CellState:
        """See `Arm.measure`; also the parts' poses and the simulator's own knowledge."""
        return self.cell.state

    def follow(self, tool_pose: np.ndarray, gripper_width_m: float | None) -> None:
        """See `Arm.follow`."""
        self.cell.aim(tool_pose[:3], tool_pose[3:], gripper_width_m)
        self.cell.advance(self._pieces)

    def hold(self) -> None:
        """See `Arm.hold`."""
        self.cell.aim_at_last()
        self.cell.advance(self._pieces)

    def reset(self, seed: int, purpose: str) -> None:
        """See `Arm.reset`."""
        self.cell.reset(seed, purpose)

    def close(self) -> None:
        """Give back the cell's renderer."""
        self.cell.close()


class Config(ArmConfig):
    """Settings of the simulated arm; its cell is in the contract's section `sim`."""

    def build(self, contract: Contract) -> SimulatedArm:
        """See `ArmConfig.build`."""
        return SimulatedArm(Cell(contract))
