"""The error of data that no calibration may be made from."""

from __future__ import annotations

from inril_core.errors import ConfigError


class CalibrationRefused(ConfigError):
    """Data that give no calibration, or a wrong one. The message is one line: the cause and what to do.

    reason: one word that programs can compare, e.g. ``too_little_rotation``.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(" ".join(message.split()))
        self.reason = reason
