"""Input devices through which a person drives the arm, one file per device."""

from inril_core.teleop.base import (
    Device,
    DeviceConfig,
    DeviceLost,
    HumanInput,
    Inbox,
    Scene,
    TickView,
    Topic,
    device_config,
)

__all__ = ["Device", "DeviceConfig", "DeviceLost", "HumanInput", "Inbox", "Scene", "TickView", "Topic", "device_config"]
