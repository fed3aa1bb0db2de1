"""What a simulated person sees: arm and parts as they were measured for a tick, not what the policy is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from inril_common.convert import pose_to_array, stamp_to_ns, twist_to_array
from inril_common.qos import TICK
from inril_msgs.msg import Observation, PartPoses, RobotState

from inril_core.teleop import Scene

_ROUNDING_NS = 1_000_000
"""Ages are single precision."""


class SceneTopics:
    """Listens to robot_state and part_poses, from which an Observation was made.

    Each comes over a topic of its own, so that any of the three may come last.

    node: has ``create_subscription`` and ``guarded``. changed: called when one of the two has come.
    """

    def __init__(self, node: Any, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._robot_ns = self._parts_ns = -1
        self._arm = (np.zeros(6), 0.0)
        self._parts: dict[str, np.ndarray] = {}
        node.create_subscription(RobotState, "robot_state", self._on_robot, TICK)
        node.create_subscription(PartPoses, "part_poses", self._on_parts, TICK)

    def of(self, observation: Observation) -> Scene | None:
        """The scene of an Observation, or a newer one; None: a part of it has not come yet."""
        now_ns = stamp_to_ns(observation.header.stamp)
        robot_ns, parts_ns = (now_ns - round(float(age_s) * 1e9) - _ROUNDING_NS for age_s in observation.link_age_s[:2])
        if self._robot_ns < robot_ns or self._parts_ns < parts_ns:
            return None
        return Scene(*self._arm, self._parts)

    def _on_robot(self, state: RobotState) -> None:
        self._arm = twist_to_array(state.tool_twist), state.gripper_width_m
        self._robot_ns = stamp_to_ns(state.header.stamp)
        self._changed()

    def _on_parts(self, parts: PartPoses) -> None:
        self._parts = {name: pose_to_array(pose) for name, pose in zip(parts.names, parts.poses, strict=True)}
        self._parts_ns = stamp_to_ns(parts.header.stamp)
        self._changed()
