"""Simulated cell, limits and observation in one process: what the graph does, without the graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from inril_core.contract import Contract, ImageField, load_contract
from inril_core.control.observation import StateVector, observation_vector, prepare_image
from inril_core.experts.base import Expert
from inril_core.experts.scripted.base import scripted_expert
from inril_core.experts.scripted.onlooker import Onlooker
from inril_core.outcome import CellReport, judge
from inril_core.safety.joint_model import JointModel, JointSample
from inril_core.safety.limits import ActionLimiter
from inril_core.sim.cell import Cell, CellState
from inril_core.sim.part_noise import Parts, PartTracker, noise_of
from inril_core.sim.urdf import panda_urdf
from inril_core.tasks.base import TaskStep


class CellEnv:
    """One episode after another in the simulated cell, with the arbiter's limits and the graph's observation.

    Images that the contract says a policy reads are rendered; `reset` and `step` then raise `RenderError` where this
    machine cannot.

    Raises:
        ConfigError: as `Cell` and `StateVector`.
    """

    success_ends = True

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.cell = Cell(contract)
        joints = contract.limits.joints
        # the simulated arm is the packaged one, whatever URDF the contract names for the real one
        self._limiter = ActionLimiter(contract, None if joints is None else JointModel(contract, panda_urdf()))
        self._observe = StateVector(contract)
        self._tracker = PartTracker(noise_of(contract))
        self._tracked: Parts = {}
        self._ended = True

    @property
    def interface(self) -> Contract:
        """The contract is the interface."""
        return self.contract

    @property
    def episode_length_steps(self) -> int:
        """Of the contract."""
        return self.contract.episode_length_steps

    def expert(self) -> Expert:
        """The scripted expert, at its best but for the noise that it demonstrates with.

        It knows the parts' poses also where a policy has only pictures.
        """
        return _LooksAtCell(self) if self.contract.image_shapes else scripted_expert(self.contract)

    @property
    def state(self) -> CellState:
        """The cell's state behind the last observation."""
        return self.cell.state

    @property
    def tool_pose(self) -> np.ndarray:
        """float64[7] behind the last observation, base frame, m and xyzw."""
        return self.cell.state.tool_pose

    def reset(self, seed: int, purpose: str = "train") -> np.ndarray:
        """Begin an episode; float32[D], its first observation. purpose: demo starts in the narrower range."""
        state = self.cell.reset(seed, purpose)
        self._limiter.begin()
        self._limiter.reference(state.tool_pose)
        self._saw(state)
        self._ended = False
        self._tracker.reset(seed)
        return self._vector(state)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, TaskStep]:
        """Execute one action (A, contract units): the next observation float32[D] and what came of it.

        Raises:
            ValueError: the action has another size or is not finite, or the episode is over.
        """
        if self._ended:
            raise ValueError("the episode is over (or never began); call reset")
        limited = self._limiter.apply(np.asarray(action, np.float64), self.cell.state.tool_pose)
        pose = np.array(limited.target_pose)
        state = self.cell.step(pose[:3], pose[3:], self._limiter.gripper_width_m)
        self._saw(state)
        report = CellReport(state.success, state.failed, state.reason)
        outcome = judge(state.step, self.contract.episode_length_steps, report)
        self._ended = outcome.ended
        reason = outcome.source if outcome.truncated else outcome.reason
        executed = np.asarray(limited.executed, np.float32)
        reward = 1.0 if outcome.success else 0.0
        return self._vector(state), TaskStep(
            executed, limited.limits, outcome.success, outcome.terminated, outcome.truncated, reason, reward
        )

    def _saw(self, state: CellState) -> None:
        if self.contract.limits.joints is not None:
            self._limiter.saw_joints(JointSample(state.joint_position_rad.tolist(), state.tool_pose.tolist(), 0))

    def close(self) -> None:
        """Give back the renderer, if there is one."""
        self.cell.close()

    def _vector(self, state: CellState) -> np.ndarray:
        measured = self._tracker.measure(state.step * self.contract.period_ns, state.parts)
        if measured is not None:
            self._tracked = measured[1]
        vector = self._observe(state.tool_pose, state.tool_twist, state.gripper_width_m, self._tracked)
        images = {}
        for field in self.contract.images:
            if field.required:
                images[field.name] = drawn_image(self.cell.render, field)
        return observation_vector(self.contract.image_shapes, vector, images)


def drawn_image(draw: Callable[[str, int, int], np.ndarray], field: ImageField) -> np.ndarray:
    """What an Observation carries of a camera of the simulated cell: uint8[height_px, width_px, 3].

    draw: gives uint8[H, W, 3] for (camera, width_px, height_px).
    """
    left, top, width_px, height_px = field.crop_px or (0, 0, field.width_px, field.height_px)
    return prepare_image(draw(field.camera, left + width_px, top + height_px), field)


class _LooksAtCell:
    """The scripted expert in a cell whose policy sees pictures: it looks at the parts' poses instead."""

    def __init__(self, env: CellEnv) -> None:
        self._env = env
        self._onlooker = Onlooker(env.contract)

    def reset(self, seed: int) -> None:
        """See `Expert.reset`."""
        self._onlooker.reset(seed)

    def act(self, observation: np.ndarray) -> np.ndarray:
        """See `Expert.act`."""
        return self._onlooker.act(*_measured(self._env.state))


def _measured(state: CellState) -> tuple[np.ndarray, np.ndarray, float, Mapping[str, np.ndarray]]:
    return state.tool_pose, state.tool_twist, state.gripper_width_m, state.parts


def make(rest: str) -> CellEnv:
    """The task ``cell:NAME`` of a packaged contract or a contract's file, from what follows ``cell:``.

    Raises:
        ConfigError: see `CellEnv`; or there is no such contract.
    """
    return CellEnv(load_contract(rest))
