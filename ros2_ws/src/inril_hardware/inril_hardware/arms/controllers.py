"""Names of the topics by which ros2_control controllers are driven, and what they say."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from inril_core.hardware.arm_modes import MOVING_MODES
from inril_core.hardware.arms.base import ArmConfig
from inril_core.hardware.motion import MotionLimits

_FRANKA = "franka_robot_state_broadcaster"
_FR3_JOINTS = tuple(f"fr3_joint{number}" for number in range(1, 8))

PRESETS: dict[str, dict[str, Any]] = {
    "none": {},
    # crisp_controllers: CartesianController (target_pose), PoseBroadcaster (current_pose), joint_state_broadcaster and
    # the adapter that gives each gripper the topics of a position controller
    "crisp_controllers": {
        "target_topic": "target_pose",
        "target_frame": "base",
        "pose_topic": "current_pose",
        "pose_frame": "base",
        "joint_topic": "joint_states",
        "joint_names": _FR3_JOINTS,
        "gripper": "topic",
        "gripper_command_topic": "gripper/gripper_position_controller/commands",
        "gripper_state_topic": "gripper/joint_states",
    },
    # franka_ros2 (jazzy) says more of the arm; a Cartesian impedance controller is loaded beside its broadcaster
    "franka_ros2": {
        "target_topic": "target_pose",
        "target_frame": "base",
        "pose_topic": f"{_FRANKA}/current_pose",
        "pose_frame": "fr3_link0",
        "joint_topic": f"{_FRANKA}/measured_joint_states",
        "joint_names": _FR3_JOINTS,
        "wrench_topic": f"{_FRANKA}/external_wrench_in_base_frame",
        "mode_topic": f"{_FRANKA}/robot_state",
        "mode_type": "franka_msgs/msg/FrankaRobotState",
        "recovery": "action_server/error_recovery",
        "recovery_type": "franka_msgs/action/ErrorRecovery",
        "gripper": "action",
        "gripper_command_topic": "franka_gripper/gripper_action",
        "gripper_state_topic": "franka_gripper/joint_states",
        "gripper_open_at": 0.04,
    },
}


class Config(ArmConfig):
    """An arm that is driven through the topics of ros2_control controllers.

    Names without a leading slash are below `namespace`.
    """

    preset: Literal["crisp_controllers", "franka_ros2", "none"] = "crisp_controllers"
    """Gives the values of what is not set."""
    namespace: str = ""
    """Of the controllers, e.g. ``left``; empty: none."""

    target_topic: str = Field(min_length=1)
    """geometry_msgs/PoseStamped, reliable, depth 1. This arm must be its only publisher."""
    target_frame: str
    """frame_id of the targets."""
    pose_topic: str = Field(min_length=1)
    """geometry_msgs/PoseStamped: the measured tool."""
    pose_frame: str
    """The frame_id that it must have: the arm's base, whose poses the contract calls `base_frame`."""
    twist_topic: str = ""
    """geometry_msgs/TwistStamped, measured, base frame; empty: differences of poses."""
    joint_topic: str = Field(min_length=1)
    """sensor_msgs/JointState."""
    joint_names: tuple[str, ...] = Field(min_length=7, max_length=7)
    """The arm's joints, from the base on."""
    wrench_topic: str = ""
    """geometry_msgs/WrenchStamped: external, base frame; empty: there is none."""
    mode_topic: str = ""
    """Mode and errors of the arm's controller; empty: not known, and a reflex shows as an arm that does not follow."""
    mode_type: str = "std_msgs/msg/String"
    """``PACKAGE/msg/NAME`` with `robot_mode`, constants ROBOT_MODE_* and `current_errors`; or std_msgs/msg/String: its
    text is ``mode`` or ``mode: error, error``."""
    moving_modes: tuple[str, ...] = MOVING_MODES
    """In which the arm follows targets; in any other one it is stopped by name."""
    recovery: str = ""
    """Service or action that clears the controller's errors; called only when a person arms. Empty: there is none."""
    recovery_type: str = "std_srvs/srv/Trigger"
    """``PACKAGE/srv/NAME`` or ``PACKAGE/action/NAME``, called with an empty request."""

    gripper: Literal["topic", "action", "none"]
    gripper_command_topic: str = ""
    """topic: std_msgs/Float64MultiArray of one number. action: control_msgs/action/GripperCommand."""
    gripper_state_topic: str = ""
    """sensor_msgs/JointState, whose first position counts."""
    gripper_closed_at: float = 0.0
    """Position of command and state at width 0."""
    gripper_open_at: float = 1.0
    """The same at `gripper_max_width_m`."""
    gripper_max_width_m: float = Field(0.08, gt=0.0, le=1.0)
    gripper_force_n: float = Field(20.0, gt=0.0, le=140.0)
    """Of the action's goals."""

    rate_hz: float = Field(100.0, ge=20.0, le=500.0)
    """Set-points a second."""
    max_age_s: float = Field(0.2, gt=0.0, le=10.0)
    """Without a new pose or new joints for longer, or with older stamps, the arm is lost."""
    gripper_max_age_s: float = Field(1.0, gt=0.0, le=10.0)
    connect_s: float = Field(5.0, gt=0.0, le=60.0)
    """How long all topics are waited for."""
    motion: MotionLimits = MotionLimits()

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        preset = values.get("preset", "crisp_controllers")
        return {**PRESETS.get(preset, {}), **values} if isinstance(preset, str) else values

    @model_validator(mode="after")
    def _gripper_is_whole(self) -> Config:
        if self.gripper != "none" and not (self.gripper_command_topic and self.gripper_state_topic):
            raise ValueError(f"gripper = {self.gripper!r} needs gripper_command_topic and gripper_state_topic")
        if self.gripper_open_at == self.gripper_closed_at:
            raise ValueError("gripper_open_at must differ from gripper_closed_at")
        return self

    def build(self, contract: Any) -> Any:
        """See `ArmConfig.build`."""
        from inril_hardware.arms.ros2_control import Ros2ControlArm

        return Ros2ControlArm(self, contract)
