"""insert_leg: a leg held in the gripper goes into the hole below and is turned by a quarter."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

import numpy as np
from pydantic import Field

from inril_core.contract.definitions.base import CellSettings, TaskDefinition
from inril_core.contract.square_table import HOLE_RADIUS_M, LEG_TIP_M
from inril_core.settings import Settings
from inril_core.transforms import (
    quat_conjugate,
    quat_multiply,
    quat_normalise,
    quat_rotate,
    rotation6_from_quat,
)


class Success(Settings):
    """When the leg counts as inserted."""

    depth_m: Annotated[float, Field(gt=0.0, le=0.1)]
    """Of the tip below the hole's rim, at least."""
    min_up_z: Annotated[float, Field(gt=0.0, le=1.0)]
    """Cosine of the angle between the leg's and the hole's axes, at least."""
    turn_min_rad: Annotated[float, Field(ge=0.0, le=6.3)]
    """Least clockwise turn about the hole's axis made while deeper than `turn_depth_m`."""
    turn_max_rad: Annotated[float, Field(ge=0.0, le=6.3)]
    """Largest such turn."""
    turn_depth_m: Annotated[float, Field(ge=0.0, le=0.1)]
    """Depth from which a turn counts."""


class StartRange(Settings):
    """Where an episode of the simulated cell may start, relative to straight above the hole."""

    offset_m: Annotated[float, Field(ge=0.0, le=0.2)]
    """Largest distance along base x and along y."""
    height_min_m: Annotated[float, Field(ge=0.0, le=0.3)]
    height_max_m: Annotated[float, Field(ge=0.0, le=0.3)]
    tilt_rad: Annotated[float, Field(ge=0.0, le=0.8)]
    """Largest tilt of the leg, about any horizontal axis."""
    yaw_rad: Annotated[float, Field(ge=0.0, le=3.2)]
    """Largest turn of the leg about its axis, either way."""


class Sim(CellSettings):
    """The simulated cell."""

    clearance_m: Annotated[float, Field(gt=0.0, le=0.01)]
    """Hole radius minus peg radius."""
    start: StartRange
    """Where episodes of training and evaluation start."""
    demo_start: StartRange
    """Where demonstrations start."""
    hole_pose_error_m: Annotated[float, Field(ge=0.0, le=0.02)] = 0.0
    """Largest error of the perceived hole along base x and along y, drawn per episode."""


def insert_leg_features(
    tool_pose: np.ndarray, tool_twist: np.ndarray, gripper_width_m: float, parts: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The observation fields of insert_leg.

    tool_pose: float64[7], m and xyzw, base frame. tool_twist: float64[6], m/s and rad/s, base frame.
    parts: poses float64[7] of `leg` (centre of its block, z from peg to block) and `hole` (centre of its
    rim, z up).

    Returns tip_in_hole_m [3], leg_in_hole_rot6d [6], turn_sin_cos [2] (the leg's heading about the hole's
    axis), tool_position_m [3], tool_rot6d [6], tool_twist [6] and gripper_width_m [1], all float64.

    Raises:
        KeyError: a part is missing.
        ValueError: a quaternion names no rotation.
    """
    leg, hole, tool = parts["leg"].tolist(), parts["hole"].tolist(), tool_pose.tolist()
    leg_quat, hole_inverse = quat_normalise(leg[3:]), quat_conjugate(quat_normalise(hole[3:]))
    arm = quat_rotate(leg_quat, LEG_TIP_M)
    tip = quat_rotate(hole_inverse, [leg[i] + arm[i] - hole[i] for i in range(3)])
    leg_rot6d = rotation6_from_quat(quat_multiply(hole_inverse, leg_quat))
    heading = math.hypot(leg_rot6d[0], leg_rot6d[1])
    sin_cos = (leg_rot6d[1] / heading, leg_rot6d[0] / heading) if heading > 1e-9 else (0.0, 1.0)
    return {
        "tip_in_hole_m": np.array(tip),
        "leg_in_hole_rot6d": np.array(leg_rot6d),
        "turn_sin_cos": np.array(sin_cos),
        "tool_position_m": np.array(tool[:3]),
        "tool_rot6d": np.array(rotation6_from_quat(quat_normalise(tool[3:]))),
        "tool_twist": np.asarray(tool_twist, np.float64),
        "gripper_width_m": np.array([gripper_width_m]),
    }


APPROACH_M, SEATED_M = 0.1, 0.02
"""Distance of the tip from the rim's centre at which the way begins, and depth at which it is seated."""


def insert_leg_progress(fields: Mapping[str, np.ndarray]) -> np.ndarray:
    """Half for the tip's way to the hole, half for its depth in it; the turn is not seen."""
    tip = fields["tip_in_hole_m"]
    inside = (np.hypot(tip[:, 0], tip[:, 1]) < HOLE_RADIUS_M) & (tip[:, 2] <= 0.0)
    near = np.where(inside, 1.0, 1.0 - np.linalg.norm(tip, axis=1) / APPROACH_M)
    depth = np.where(inside, -tip[:, 2] / SEATED_M, 0.0)
    return np.asarray(0.5 * near.clip(0.0, 1.0) + 0.5 * depth.clip(0.0, 1.0))


DEFINITION = TaskDefinition(
    insert_leg_features, Success, Sim, scene="insert_leg", expert="insert_leg", progress=insert_leg_progress
)
