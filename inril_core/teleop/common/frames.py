"""The frames in which a person may move the tool, and the way from them to the base frame."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from inril_core.teleop.base import DeviceConfig
from inril_core.teleop.common.inbox import Inbox
from inril_core.transforms import Quaternion, Vector3, quat_normalise, quat_rotate

Frame = Literal["base", "tool", "camera"]
Quat = tuple[float, float, float, float]


class FrameConfig(DeviceConfig):
    """Settings of a device that moves the tool in a frame of the person's choice."""

    frame: Frame = "base"
    """In which frame "forward" is meant. ``tool``: that of the measured tool; ``camera``: that of a fixed camera."""
    camera_quat_xyzw: Quat | None = None
    """With ``frame: camera``: rotation from the camera's frame into the base frame, of the hand-eye calibration."""

    @model_validator(mode="after")
    def _camera_is_known(self) -> FrameConfig:
        if (self.frame == "camera") != (self.camera_quat_xyzw is not None):
            raise ValueError(
                f"frame = {self.frame!r} with camera_quat_xyzw = {self.camera_quat_xyzw}: frame: camera needs "
                "camera_quat_xyzw, the camera's rotation in the base frame, and no other frame takes it"
            )
        if self.camera_quat_xyzw is not None:
            quat_normalise(self.camera_quat_xyzw)
        return self

    def rotation(self, inbox: Inbox) -> Quaternion | None:
        """Rotation (xyzw) from the chosen frame into the base frame; None: the tool's pose is not known now."""
        if self.frame == "base":
            return (0.0, 0.0, 0.0, 1.0)
        if self.camera_quat_xyzw is not None:
            return quat_normalise(self.camera_quat_xyzw)
        return None if inbox.tool_pose is None else quat_normalise(inbox.tool_pose[3:])


def to_base(rotation: Quaternion, motion: tuple[float, ...]) -> tuple[float, ...]:
    """A twist, or a displacement with a rotation vector (6 numbers), turned by ``rotation``.

    A rotation vector turns like any vector: R exp(w) R^T = exp(R w).
    """
    linear: Vector3 = quat_rotate(rotation, motion[:3])
    angular: Vector3 = quat_rotate(rotation, motion[3:6])
    return (*linear, *angular)
