"""A file or folder that is whole or absent, however large: built beside its place, renamed at the end."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from inril_core.errors import ConfigError
from inril_core.files import sync_folder

MARKER = "inril_export.json"
"""Lies in every folder that is written here; only such a folder is replaced."""


class Output:
    """The place where something large is built. Use as a context manager; without `commit` nothing stays.

    A killed process leaves ``.NAME.part`` beside the place, which the next one removes.

    Args:
        path: what is to be made. replace: what is there already is replaced at `commit`, if `is_ours` says that it
            was made by the same command.

    Raises:
        ConfigError: there is something already, another process builds it, or it cannot be written.
    """

    def __init__(self, path: Path, replace: bool, is_ours: Callable[[Path], bool]) -> None:
        self.path = path.expanduser().absolute()
        self.part = self.path.with_name(f".{self.path.name}.part")
        self._lock_path = self.path.with_name(f".{self.path.name}.lock")
        self._check(replace, is_ours)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = open(self._lock_path, "a")  # noqa: SIM115
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(self.part)
        except BlockingIOError as error:
            raise ConfigError(f"{self.path}: another process is writing it; wait for it") from error
        except OSError as error:
            raise ConfigError(f"{self.path}: {_reason(error)}") from error

    def __enter__(self) -> Output:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        _remove(self.part)
        self._lock_path.unlink(missing_ok=True)
        self._lock.close()
        if isinstance(error, OSError):
            raise ConfigError(f"{self.path}: {_reason(error)}; nothing was written") from error

    def commit(self) -> None:
        """Put what lies in `part` in its place, after it is on the disk."""
        _sync(self.part)
        old = self.path.with_name(f".{self.path.name}.old")
        _remove(old)
        if self.path.is_dir():
            os.rename(self.path, old)
        os.replace(self.part, self.path)
        sync_folder(self.path.parent)
        _remove(old)

    def _check(self, replace: bool, is_ours: Callable[[Path], bool]) -> None:
        if not os.path.lexists(self.path):
            return
        if not replace:
            raise ConfigError(f"{self.path}: is there already; give another place, or --force to replace it")
        if not is_ours(self.path):
            raise ConfigError(f"{self.path}: was not made by this command, so it is not replaced; move it away")


def mark(folder: Path, kind: str, **facts: object) -> None:
    """Say what a folder is, so that the same command may replace it."""
    (folder / MARKER).write_text(json.dumps({"format": kind, "version": 1, **facts}) + "\n")


def is_marked(folder: Path, kind: str) -> bool:
    """Whether `mark` said this of a folder."""
    try:
        found = json.loads((folder / MARKER).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("format") == kind and not folder.is_symlink()


def _sync(path: Path) -> None:
    for file in [path] if path.is_file() else [entry for entry in path.rglob("*") if entry.is_file()]:
        fd = os.open(file, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{error.strerror}; free some space, or give a place on another disk"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{error.strerror}; give a place that you may write to"
    return f"{error.strerror or error}"
