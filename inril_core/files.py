"""Files that are whole or absent, and files of JSON lines: the one place where they are written and read."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import itertools
import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from inril_core.errors import ConfigError

T = TypeVar("T")

MAX_LINES_BYTES = 256 << 20
"""A file of JSON lines larger than this is not read."""
_CREATE_TIMEOUT_S = 10.0
_POLL_S = 0.01
_BLOCK_BYTES = 65536
_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF}
"""What a network or shared-folder file system answers to a lock, or to a sync of a folder, that it does not know."""


class FileBusy(OSError):
    """Another process is writing this file at the moment."""


def lock_file(file: IO[Any], wait_s: float) -> None:
    """Wait until no other process holds the lock of an open file, and hold it until the file is closed.

    Raises:
        FileBusy: another one holds it for longer than `wait_s`.
        OSError: the file system knows no locks.
    """
    deadline_s = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() > deadline_s:
                raise FileBusy(errno.EBUSY, "another process is writing it; wait for it", file.name) from error
        time.sleep(_POLL_S)


class AtomicFile:
    """A file that replaces ``path`` at `commit`, and until then leaves it as it is. Use as a context manager.

    It is opened when it is made, so that a place that cannot be written is found before the work whose result it
    takes. The data is written beside it (``path`` + ``.tmp``), synced and renamed; without `commit` nothing stays.
    A kill leaves at most the ``.tmp`` file, which the next writer reuses.

    Args:
        mode: permissions of the file, which then must belong to this user; None: what the umask gives.

    Raises:
        FileBusy: another process holds the file open to write.
        OSError: the folder is missing or cannot be written.
    """

    def __init__(self, path: Path, mode: int | None = None) -> None:
        self.path = path
        self._temporary = path.with_name(path.name + ".tmp")
        self._fd = self._open(0o666 if mode is None else mode)
        try:
            if mode is not None:
                if os.fstat(self._fd).st_uid != os.geteuid():
                    raise PermissionError(errno.EPERM, "belongs to another user; remove it", str(self._temporary))
                os.fchmod(self._fd, mode)
            os.ftruncate(self._fd, 0)
        except BaseException:
            os.close(self._fd)
            raise

    def __enter__(self) -> AtomicFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def commit(self, data: bytes) -> None:
        """Put ``data`` in place. Only once.

        Raises:
            OSError: the disk is full or broken; ``path`` is as it was.
        """
        write_all(self._fd, data)
        os.fsync(self._fd)
        os.replace(self._temporary, self.path)
        os.close(self._fd)
        self._fd = -1
        sync_folder(self.path.parent)

    def close(self) -> None:
        """Leave ``path`` as it is, unless `commit` was called; may be called again."""
        if self._fd >= 0:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._temporary)
            os.close(self._fd)
            self._fd = -1

    def _open(self, mode: int) -> int:
        while True:
            fd = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                os.close(fd)
                raise FileBusy(errno.EBUSY, "another process is writing it; wait for it", str(self.path)) from error
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    os.close(fd)
                    raise
            try:
                # the writer before may have renamed or removed what was opened here
                if os.path.samestat(os.fstat(fd), os.stat(self._temporary)):
                    return fd
            except FileNotFoundError:
                pass
            os.close(fd)


class ResultFile:
    """A file that appears whole at the end of a piece of work, in a folder that is tried before it begins.

    Args:
        option: of the command line, named in errors.
    """

    def __init__(self, path: Path, option: str = "--out") -> None:
        self._path, self._option = path.expanduser().absolute(), option
        self._file: AtomicFile | None = None
        self._made: list[Path] = []
        """Folders that were made for it, the innermost first."""

    def __enter__(self) -> ResultFile:
        """Make the folder and open the file.

        Raises:
            ConfigError: that is not possible, or the path is a folder.
        """
        if self._path.is_dir():
            raise ConfigError(f"{self._option} = {self._path}: is a folder; give the name of a file in it")
        folders = (self._path.parent, *self._path.parent.parents)
        self._made = list(itertools.takewhile(lambda folder: not os.path.lexists(folder), folders))
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = AtomicFile(self._path)
        except OSError as error:
            self._clear()
            raise ConfigError(
                f"{self._option} = {self._path}: {error.strerror} ({error.filename}); give a path that you may write to"
            ) from error
        return self

    def write(self, data: bytes) -> None:
        """Put the data in its place.

        Raises:
            ConfigError: the disk is full, or the folder is no longer there.
        """
        try:
            assert self._file is not None
            self._file.commit(data)
        except OSError as error:
            raise ConfigError(
                f"{self._option} = {self._path}: {error.strerror}; free some space, or give another path"
            ) from error
        self._made = []

    def __exit__(self, *_: object) -> None:
        self._clear()

    def _clear(self) -> None:
        if self._file is not None:
            self._file.close()
        for folder in self._made:
            with contextlib.suppress(OSError):
                folder.rmdir()


def check_writable(path: Path, option: str = "--out") -> None:
    """Refuse, before long work begins, a file that cannot be written at its end. Nothing stays, whatever is found.

    Raises:
        ConfigError: see `ResultFile`.
    """
    with ResultFile(path, option):
        pass


def write_atomically(path: Path, data: bytes, mode: int | None = None) -> None:
    """Replace ``path`` by ``data``; a crash leaves the old or the new content.

    Raises:
        OSError: as `AtomicFile`; ``path`` is as it was.
    """
    with AtomicFile(path, mode) as file:
        file.commit(data)


def create_once(path: Path, data: bytes, mode: int | None = None) -> bool:
    """Make ``path`` with ``data`` unless it is there; whether it was made here. Processes may race: one wins.

    It needs no hard links.

    Raises:
        OSError: as `AtomicFile`; another process has held the file for 10 s without making it.
    """
    give_up = time.monotonic() + _CREATE_TIMEOUT_S
    while not os.path.lexists(path):
        try:
            with AtomicFile(path, mode) as file:
                if os.path.lexists(path):
                    return False
                file.commit(data)
                return True
        except FileBusy:
            if time.monotonic() > give_up:
                raise
            time.sleep(_POLL_S)
    return False


def sync_file(path: Path) -> None:
    """Make a file's content last."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_folder(folder: Path) -> None:
    """Make creations, renames and removals in a folder last, where the file system can."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of ``data``, in as many calls as it takes."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def append_line(path: Path, values: Mapping[str, Any], sync: bool = True) -> None:
    """Append one JSON line; when this returns it is on disk (``sync``) or with the kernel.

    One process appends to a file at a time. A last line without its end, which a crash cut short and no reader has
    counted, is removed first.

    Raises:
        OSError: the disk is full or broken; of this line nothing stays.
    """
    line = json.dumps(values, separators=(",", ":")).encode() + b"\n"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    try:
        end = _cut_unfinished_line(fd)
        try:
            write_all(fd, line)
            if sync:
                os.fsync(fd)
        except OSError:
            os.ftruncate(fd, end)
            raise
    finally:
        os.close(fd)
    if sync and end == 0:
        sync_folder(path.parent)


def write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Replace a file of JSON lines, atomically.

    Raises:
        OSError: as `write_atomically`.
    """
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    write_atomically(path, text.encode())


@dataclass
class Lines(Generic[T]):
    """What a file of JSON lines holds."""

    values: list[T] = field(default_factory=list)
    """The sound lines, in order."""
    problems: list[str] = field(default_factory=list)
    """One text for each line that is not sound: file, line number, field and reason."""


def read_sound_lines(path: Path, kind: type[T]) -> Lines[T]:
    """The lines of a file that are ``kind``, a dataclass or ``dict``, and what is wrong with the others.

    A missing file has no lines. A last line without its end is one that a dying writer left: it does not count.
    Never raises for what is in the file.
    """
    found: Lines[T] = Lines()
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_LINES_BYTES + 1)
    except FileNotFoundError:
        return found
    except OSError as error:
        found.problems.append(f"{path}: cannot be read ({error.strerror or error})")
        return found
    if len(data) > MAX_LINES_BYTES:
        found.problems.append(f"{path}: larger than {MAX_LINES_BYTES >> 20} MB: only its beginning is read")
    for number, line in enumerate(data[:MAX_LINES_BYTES].split(b"\n")[:-1], 1):
        try:
            found.values.append(parse_line(line, kind))
        except ValueError as error:
            found.problems.append(f"{path}, line {number}: {error}")
    return found


def read_lines(path: Path, kind: type[T]) -> list[T]:
    """The lines of a file, all of which must be ``kind``; see `read_sound_lines`.

    Raises:
        ConfigError: the file is missing, or a line is not sound; names the first.
    """
    if not path.exists():
        raise ConfigError(f"{path}: there is no such file")
    found = read_sound_lines(path, kind)
    if found.problems:
        raise ConfigError(f"{found.problems[0]}; fix or delete this line")
    return found.values


def parse_line(line: bytes, kind: type[T]) -> T:
    """One JSON value as ``kind``; nothing is converted but an integer to a float.

    Raises:
        ValueError: it is something else; names the field.
    """
    wanted: Any = kind
    try:
        value: T = _adapter(wanted).validate_json(line, strict=True)
        return value
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        given = "" if first["type"] in ("missing", "json_invalid") else f" = {first['input']!r:.60}"
        raise ValueError(f"{where}{given}: {first['msg']}" if where else first["msg"]) from error


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _cut_unfinished_line(fd: int) -> int:
    """Remove what stands behind the last line end; the length of the file then, in bytes."""
    size = os.fstat(fd).st_size
    if size == 0 or os.pread(fd, 1, size - 1) == b"\n":
        return size
    start, block = size, b""
    while start > 0 and b"\n" not in block:
        start = max(0, start - _BLOCK_BYTES)
        block = os.pread(fd, _BLOCK_BYTES, start)
    end = start + block.rfind(b"\n") + 1
    os.ftruncate(fd, end)
    return end
