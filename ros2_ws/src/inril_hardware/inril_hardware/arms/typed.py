"""Types of messages, services and actions that are looked up by name: vendors' packages need not be installed."""

from __future__ import annotations

import importlib
from typing import Any

from inril_core.errors import ConfigError
from inril_core.hardware.arm_modes import snake


def message_type(name: str, setting: str) -> Any:
    """The class of ``PACKAGE/msg/NAME``, ``PACKAGE/srv/NAME`` or ``PACKAGE/action/NAME``.

    Raises:
        ConfigError: it is no such name, or its package is not built for inril's environment.
    """
    package, _, rest = name.partition("/")
    kind, _, kind_name = rest.partition("/")
    if not package.isidentifier() or kind not in ("msg", "srv", "action") or not kind_name.isidentifier():
        raise ConfigError(f"{setting} = {name!r}: must be PACKAGE/msg/NAME, PACKAGE/srv/NAME or PACKAGE/action/NAME")
    try:
        return getattr(importlib.import_module(f"{package}.{kind}"), kind_name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"{setting} = {name!r}: {error}; copy the package {package} into ros2_ws/src and run `make setup`, which "
            f"builds it for inril's environment, or set {setting} to a type that is there"
        ) from error


def mode_and_errors(message: Any) -> tuple[str, list[str]]:
    """Mode and names of the present errors of an arm's controller.

    A text is ``mode`` or ``mode: error, error``. Any other message has the number `robot_mode`, named by its constants
    ROBOT_MODE_*, and `current_errors`, whose fields are true where an error is present (franka_msgs).
    """
    if hasattr(message, "data") and isinstance(message.data, str):
        mode, _, errors = message.data.partition(":")
        return snake(mode), [error.strip() for error in errors.split(",") if error.strip()]
    kind = type(message)
    names = {getattr(kind, name): snake(name) for name in dir(kind) if name.startswith("ROBOT_MODE_")}
    present = message.current_errors
    errors = [name for name in present.get_fields_and_field_types() if getattr(present, name) is True]
    return names.get(message.robot_mode, f"robot_mode_{message.robot_mode}"), errors
