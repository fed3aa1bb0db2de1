"""The key that signs weights: a file that only its owner can read."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from inril_core.errors import ConfigError
from inril_core.files import create_once

KEY_BYTES = 32


class Key(bytes):
    """The secret. It prints as `<key>`, so that no log or traceback shows it."""

    def __repr__(self) -> str:
        return "<key>"

    __str__ = __repr__


def load_or_create_key(path: Path) -> Key:
    """Read the key, or make it at the first call. Processes may race for it: one key results.

    Raises:
        ConfigError: others can read the file, it belongs to another user, is no regular file, has a wrong
            size, or cannot be read or made.
    """
    try:
        if not os.path.lexists(path):
            _create(path)
        return _load(path)
    except OSError as error:
        where = "" if error.filename in (None, str(path)) else f" ({error.filename})"
        raise ConfigError(
            f"key {path}: {error.strerror}{where}; make it readable and its folder writable for you, or set INRIL_KEY "
            "to a file of yours elsewhere"
        ) from error


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    create_once(path, secrets.token_bytes(KEY_BYTES), mode=0o600)


def _load(path: Path) -> Key:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"key {path}: not a regular file; replace it by a copy of the key file itself")
        mode = stat.S_IMODE(status.st_mode)
        if mode & 0o077:
            raise ConfigError(
                f"key {path}: mode {mode:o} lets others read or change it; remove it to get a new one, or "
                f"`chmod 600` it if nobody else was there"
            )
        if status.st_uid != os.geteuid():
            raise ConfigError(f"key {path}: belongs to user {status.st_uid}; make a copy that belongs to you")
        secret = file.read(KEY_BYTES + 1)
    if len(secret) != KEY_BYTES:
        raise ConfigError(f"key {path}: must have {KEY_BYTES} bytes; remove it to get a new one")
    return Key(secret)
