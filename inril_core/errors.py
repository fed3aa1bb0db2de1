"""The errors that a user can fix."""

from __future__ import annotations


class InrilError(Exception):
    """Base of every error that inril raises on purpose."""


class ConfigError(InrilError):
    """A setting, file or argument that the user can fix.

    The message names the file or argument, the field, the value, what is allowed and the fix.
    """
