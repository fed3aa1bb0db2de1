"""one_leg: FurnitureBench's task of that name, from the lying leg to the screwed one (Heo et al. 2023)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from inril_core.contract.definitions.base import CellSettings, TaskDefinition
from inril_core.contract.definitions.insert_leg import insert_leg_features
from inril_core.settings import Settings
from inril_core.transforms import quat_conjugate, quat_multiply, quat_normalise, quat_rotate, rotation6_from_quat

NEAR_M = 0.02  # reach of the fields that magnify what is close
Offset = Annotated[float, Field(ge=-5.0, le=5.0)]


class Success(Settings):
    """The furniture's own package decides: its `compute_assemble` counts newly assembled pairs of parts."""

    assembled_by: Literal["furniture_bench"]


class PartsStart(Settings):
    """Where the parts may lie, about their places in furniture-bench's layout."""

    leg_offset_m: tuple[Offset, Offset]
    """Largest offset of the leg along base x and y."""
    leg_yaw_rad: Annotated[float, Field(ge=0.0, le=3.2)]
    """Largest turn of the leg, either way."""
    any_face: bool
    """The leg lies on any of its four sides."""
    top_offset_m: tuple[Offset, Offset]
    """Largest offset of the table top along base x and y."""
    top_yaw_rad: Annotated[float, Field(ge=0.0, le=3.2)]
    """Largest turn of the table top, either way."""
    tool_offset_m: Annotated[float, Field(ge=0.0, le=0.1)]
    """Largest offset of the tool along base x, y and z."""


class Sim(CellSettings):
    """The simulated cell."""

    clearance_m: Annotated[float, Field(gt=0.0, le=0.01)]
    """Hole radius minus peg radius."""
    thread_depth_m: Annotated[float, Field(gt=0.0, le=0.025)]
    """Depth of the tip at which the thread catches."""
    thread_lead_m: Annotated[float, Field(gt=0.0, le=0.1)]
    """Depth gained per turn."""
    layout: PartsStart
    """Where an episode starts, whatever its purpose."""


def one_leg_features(
    tool_pose: np.ndarray, tool_twist: np.ndarray, gripper_width_m: float, parts: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The observation fields of one_leg: those of insert_leg, and where leg and hole are for the tool.

    Arguments and errors: as `insert_leg_features`. Adds tip_near_hole_m [3] (tip_in_hole_m within +-NEAR_M, because
    a millimetre counts at the hole and is lost in the spread of the whole way), leg_in_tool_m [3] (of the middle of
    its block), leg_in_tool_rot6d [6] and hole_heading_sin_cos [2] (of the hole's x axis about base z), all float64.
    """
    leg, hole, tool = parts["leg"].tolist(), parts["hole"].tolist(), tool_pose.tolist()
    tool_inverse = quat_conjugate(quat_normalise(tool[3:]))
    along = quat_rotate(quat_normalise(hole[3:]), (1.0, 0.0, 0.0))
    heading_rad = math.atan2(along[1], along[0])
    leg_in_tool_quat = quat_multiply(tool_inverse, quat_normalise(leg[3:]))
    values = insert_leg_features(tool_pose, tool_twist, gripper_width_m, parts)
    return values | {
        "tip_near_hole_m": np.clip(values["tip_in_hole_m"], -NEAR_M, NEAR_M),
        "leg_in_tool_m": np.array(quat_rotate(tool_inverse, [leg[i] - tool[i] for i in range(3)])),
        "leg_in_tool_rot6d": np.array(rotation6_from_quat(leg_in_tool_quat)),
        "hole_heading_sin_cos": np.array([math.sin(heading_rad), math.cos(heading_rad)]),
    }


# A person's hand is not still either, and this task needs it: cloned from 50 demonstrations without noise a policy
# grasps and then hovers over the hole, because nothing in them shows the way back (docs/results/simulator.md).
DEFINITION = TaskDefinition(one_leg_features, Success, Sim, scene="one_leg", expert="one_leg", expert_noise=0.1)
