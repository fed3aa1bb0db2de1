"""Input devices through which a person drives the arm, one file per device."""

from inril_core.teleop.base import Device, DeviceConfig, DeviceLost, HumanInput, TickView, device_config

__all__ = ["Device", "DeviceConfig", "DeviceLost", "HumanInput", "TickView", "device_config"]
