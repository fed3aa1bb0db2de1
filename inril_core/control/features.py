"""Observation fields of each task, from what an arm and a perception measure: no memory, no simulator."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from inril_core.transforms import (
    quat_conjugate,
    quat_multiply,
    quat_normalise,
    quat_rotate,
    rotation6_from_quat,
)

Features = Callable[[np.ndarray, np.ndarray, float, Mapping[str, np.ndarray]], dict[str, np.ndarray]]

LEG_TIP_M = (0.0, 0.0, -0.05625)  # of square_table's leg, in the leg's frame: half the block and the peg
NEAR_M = 0.02  # reach of the fields that magnify what is close


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


FEATURES: dict[str, Features] = {"insert_leg": insert_leg_features, "one_leg": one_leg_features}
