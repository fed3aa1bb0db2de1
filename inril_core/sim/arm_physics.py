"""Delay, friction and gains of the simulated arm, drawn for each episode."""

from __future__ import annotations

from collections import deque

import mujoco
import numpy as np

from inril_core.contract.definitions.physics import Physics, PhysicsValues
from inril_core.sim.scenes.base import TIMESTEP_S

ARM = slice(0, 7)


class ArmPhysics:
    """Changes a compiled model as a contract's ``sim.physics`` says; without it nothing is touched."""

    def __init__(self, model: mujoco.MjModel, physics: Physics | None) -> None:
        self.physics = physics
        """From the next `begin` on."""
        self.values = PhysicsValues()
        """Of the running episode."""
        self._model = model
        self._gain = model.actuator_gainprm[ARM, 0].copy()
        self._stiffness = model.actuator_biasprm[ARM, 1].copy()
        self._friction_nm = model.dof_frictionloss[ARM].copy()
        self._waiting: deque[np.ndarray] = deque()

    def begin(self, seed: int) -> None:
        """Draw the values of an episode, and give the model its own again where nothing is drawn."""
        self.values = PhysicsValues() if self.physics is None else self.physics.draw(seed)
        scale, friction_nm = self.values.gain_scale, self.values.joint_friction_nm
        self._model.actuator_gainprm[ARM, 0] = scale * self._gain
        self._model.actuator_biasprm[ARM, 1] = scale * self._stiffness
        self._model.dof_frictionloss[ARM] = self._friction_nm + friction_nm
        self._waiting.clear()

    def hold(self, joint_rad: np.ndarray) -> None:
        """What was commanded before the episode: the arm stands here."""
        delay_n = round(self.values.action_delay_s / TIMESTEP_S)
        self._waiting = deque([np.array(joint_rad)] * delay_n)

    def advance(self, data: mujoco.MjData, joint_target_rad: np.ndarray, steps: int) -> None:
        """So many physics steps with a joint target [7], which the motors get late."""
        if not self._waiting:
            data.ctrl[ARM] = joint_target_rad
            mujoco.mj_step(self._model, data, steps)
            return
        for _ in range(steps):
            self._waiting.append(joint_target_rad)
            data.ctrl[ARM] = self._waiting.popleft()
            mujoco.mj_step(self._model, data)
