"""An arm: it exists on paper, moves as told, and is armed like a real one. Rehearse with it before the arm is there."""

import numpy as np
from pydantic import Field

from inril_core.hardware.arms.base import Arm, ArmConfig, ArmState


class Config(ArmConfig):
    """Settings, as ``arm_settings`` gives them."""

    start_m: tuple[float, float, float] = (0.50, 0.0, 0.15)
    """Of the tool, base frame; the tool looks down."""
    speed_mps: float = Field(0.25, gt=0.0, le=2.0)
    """The tool is never faster, whatever it is told."""

    def build(self, contract):
        """See `ArmConfig.build`."""
        return Rehearsal(self, 1.0 / contract.control_rate_hz)


class Rehearsal(Arm):
    """Moves in straight lines. `simulated` stays false: a person arms it."""

    def __init__(self, config, period_s):
        self._step_m, self._period_s = config.speed_mps * period_s, period_s
        self._pose = np.array([*config.start_m, 1.0, 0.0, 0.0, 0.0])
        self._twist, self._width_m = np.zeros(6), 0.0

    def measure(self):
        """See `Arm.measure`. A real arm raises `ArmLost` here where its controller is silent."""
        joints = np.zeros(7)
        return ArmState(self._pose.copy(), self._twist.copy(), joints, joints, joints, self._width_m)

    def follow(self, tool_pose, gripper_width_m):
        """See `Arm.follow`. A real arm gives the pose to a controller that interpolates, in its own thread."""
        before_m, way_m = self._pose[:3].copy(), tool_pose[:3] - self._pose[:3]
        distance_m = float(np.linalg.norm(way_m))
        self._pose = np.array([*(before_m + way_m * min(1.0, self._step_m / max(distance_m, 1e-9))), *tool_pose[3:]])
        self._twist[:3] = (self._pose[:3] - before_m) / self._period_s
        self._width_m = self._width_m if gripper_width_m is None else gripper_width_m

    def hold(self):
        """See `Arm.hold`."""
        self._twist = np.zeros(6)
