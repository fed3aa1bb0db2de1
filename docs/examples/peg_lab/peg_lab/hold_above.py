"""A task: bring the tool to a point above the table. No part is looked at, so nothing has to be tracked."""

import numpy as np
from pydantic import Field

from inril_core.contract.definitions import TaskDefinition
from inril_core.contract.definitions.insert_leg import Sim
from inril_core.experts.scripted.base import ScriptedExpert
from inril_core.outcome import CellReport
from inril_core.settings import Settings
from inril_core.sim.scenes.insert_leg import InsertLeg

GOAL_M = np.array([0.50, 0.0, 0.25])
"""Base frame."""


class Success(Settings):
    """The contract's section ``success``."""

    near_m: float = Field(gt=0.0, le=0.1)
    """Distance of the tool from the goal, at most."""


def features(tool_pose, tool_twist, gripper_width_m, parts):
    """The observation fields that a contract of this task may list; see `TaskDefinition.features`."""
    return {"to_goal_m": GOAL_M - tool_pose[:3]}


class Scene(InsertLeg):
    """The simulated table of insert_leg, with the leg in the gripper, under another rule."""

    success = Success

    def judge(self, parts, tool_pose):
        """See `inril_core.sim.scenes.base.Scene.judge`."""
        near = bool(np.linalg.norm(GOAL_M - tool_pose[:3]) < self.rule.near_m)
        return CellReport(success=near, failed=False, reason="above" if near else "")


class Expert(ScriptedExpert):
    """Straight to the goal."""

    looks_at = ("to_goal_m",)

    def wanted(self, observation):
        """See `ScriptedExpert.wanted`."""
        return np.concatenate([observation[self.fields["to_goal_m"]], np.zeros(3)])


DEFINITION = TaskDefinition(
    features, Success, Sim, scene="peg_lab.hold_above:Scene", expert="peg_lab.hold_above:Expert", expert_noise=0.05
)
