"""Simulated cell, limits and observation in one process: what the graph does, without the graph."""

from __future__ import annotations

import numpy as np

from inril_core.contract import Contract
from inril_core.control.observation import StateVector
from inril_core.safety.limits import ActionLimiter
from inril_core.sim.cell import Cell, CellState
from inril_core.sim.experts import demonstrator
from inril_core.tasks.base import Demonstrator, Outcome


class CellEnv:
    """One episode after another in the simulated cell, with the arbiter's limits and the graph's observation.

    Raises:
        ConfigError: as `Cell` and `StateVector`.
    """

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.cell = Cell(contract)
        self._limiter = ActionLimiter(contract)
        self._observe = StateVector(contract)
        self._ended = True

    @property
    def interface(self) -> Contract:
        """The contract is the interface."""
        return self.contract

    @property
    def episode_length_steps(self) -> int:
        """Of the contract."""
        return self.contract.episode_length_steps

    def demonstrator(self) -> Demonstrator:
        """The scripted expert, at its best but for the noise that it demonstrates with."""
        return demonstrator(self.contract)

    @property
    def state(self) -> CellState:
        """The cell's state behind the last observation."""
        return self.cell.state

    def reset(self, seed: int, purpose: str = "train") -> np.ndarray:
        """Begin an episode; float32[D], its first observation. purpose: demo starts in the narrower range."""
        state = self.cell.reset(seed, purpose)
        self._limiter.begin()
        self._limiter.reference(state.tool_pose)
        self._ended = False
        return self._vector(state)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, Outcome]:
        """Execute one action (A, contract units): the next observation float32[D] and what came of it.

        Raises:
            ValueError: the action has another size or is not finite, or the episode is over.
        """
        if self._ended:
            raise ValueError("the episode is over (or never began); call reset")
        limited = self._limiter.apply(np.asarray(action, np.float64), self.cell.state.tool_pose)
        pose = limited.target_pose
        state = self.cell.step(pose[:3], pose[3:], self._limiter.gripper_width_m)
        terminated = state.success or state.failed
        truncated = not terminated and state.step >= self.contract.episode_length_steps
        self._ended = terminated or truncated
        reason = state.reason if terminated else ("episode_length" if truncated else "")
        executed = limited.executed.astype(np.float32)
        reward = 1.0 if state.success else 0.0
        return self._vector(state), Outcome(
            executed, limited.limits, state.success, terminated, truncated, reason, reward
        )

    def close(self) -> None:
        """Give back the renderer, if there is one."""
        self.cell.close()

    def _vector(self, state: CellState) -> np.ndarray:
        return self._observe(state.tool_pose, state.tool_twist, state.gripper_width_m, state.parts)
