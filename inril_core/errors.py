"""The errors that a user can fix."""

from __future__ import annotations


class InrilError(Exception):
    """Base of every error that inril raises on purpose."""


class ConfigError(InrilError):
    """A setting, file or argument that the user can fix.

    The message names the file or argument, the field, the value, what is allowed and the fix.
    """


def missing_package(what: str, extra: str, error: ImportError, needs: str = "") -> ConfigError:
    """The error for an optional package that is not installed.

    Args:
        what: what needs it, with a verb: `--ray needs Ray`.
        extra: of pyproject.toml.
        needs: what the extra alone does not bring, or what can be done instead.
    """
    command = f".venv/bin/python -m pip install -c constraints.txt -e '.[{extra}]'"
    also = f"; {needs}" if needs else ""
    return ConfigError(f"{what} ({error}): in inril's folder, {command}{also}")
