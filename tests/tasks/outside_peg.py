"""What a lab writes outside the package: a task for the simulated cell, and a family of tasks of its own."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from inril_core.contract import SimpleInterface
from inril_core.contract.definitions import TaskDefinition
from inril_core.contract.definitions.insert_leg import Sim, insert_leg_features
from inril_core.experts.scripted.base import ScriptedExpert
from inril_core.outcome import CellReport
from inril_core.settings import Settings
from inril_core.sim.scenes.insert_leg import InsertLeg
from inril_core.tasks import TaskStep


class Success(Settings):
    """The tip comes near the hole."""

    near_m: float
    """Distance of the tip from the rim's centre, at most."""


def features(
    tool_pose: np.ndarray, tool_twist: np.ndarray, gripper_width_m: float, parts: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Where the tip is seen from the hole."""
    whole = insert_leg_features(tool_pose, tool_twist, gripper_width_m, parts)
    return {"peg_m": whole["tip_in_hole_m"]}


class PegScene(InsertLeg):
    """insert_leg's parts under another rule."""

    success = Success

    def judge(self, parts: dict[str, np.ndarray], tool_pose: np.ndarray) -> CellReport:
        """Near is enough."""
        peg_m = features(tool_pose, np.zeros(6), 0.0, parts)["peg_m"]
        assert isinstance(self.rule, Success)
        success = bool(np.linalg.norm(peg_m) < self.rule.near_m)
        return CellReport(success, False, "near" if success else "")


class PegExpert(ScriptedExpert):
    """Straight to the hole."""

    looks_at = ("peg_m",)

    def wanted(self, observation: np.ndarray) -> np.ndarray:
        return np.concatenate([-observation[self.fields["peg_m"]], np.zeros(3)])


PEG = TaskDefinition(
    features,
    Success,
    Sim,
    scene="tests.tasks.outside_peg:PegScene",
    expert="tests.tasks.outside_peg:PegExpert",
)


class CountTask:
    """Succeeds after three steps."""

    episode_length_steps = 5
    success_ends = True

    def __init__(self, variant: str) -> None:
        self.interface = SimpleInterface(f"count:{variant}", 1, 1, {"variant": variant})

    def reset(self, seed: int, purpose: str = "train") -> np.ndarray:
        """See `Task`."""
        self._steps = 0
        return np.zeros(1, np.float32)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, TaskStep]:
        """See `Task`."""
        self._steps += 1
        done = self._steps == 3
        return np.full(1, self._steps, np.float32), TaskStep(action, (), done, done, False, "", float(done))

    def expert(self) -> PegExpert:
        """See `Task`."""
        raise NotImplementedError

    def close(self) -> None:
        """See `Task`."""


def make(rest: str) -> CountTask:
    """The family's function."""
    return CountTask(rest)


def broken(rest: str) -> object:
    """Makes no task."""
    return rest
