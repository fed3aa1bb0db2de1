"""Files that survive a crash: replaced as a whole, or lengthened line by line.

A crash or a full disk leaves the old file or the new one; of lines, at most the last one is torn, and it is ignored.
"""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from inril_core.errors import ConfigError


def write_atomically(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data``: temporary file, fsync, rename, fsync of the folder.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make creations, renames and removals in a folder last."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def append_line(path: Path, values: Mapping[str, Any]) -> None:
    """Append one JSON line and flush it to disk. A last line that a crash tore is cut off first.

    Raises:
        OSError: the disk is full or gone; of the line nothing is left behind.
    """
    with open(path, "a+b", buffering=0) as file:
        append_bytes(file, json.dumps(values).encode() + b"\n", cut_torn_line(file))


def append_bytes(file: Any, data: bytes, end: int) -> None:
    """Write ``data`` at the ``end`` of an unbuffered file that was opened to append, and flush it to disk.

    Raises:
        OSError: the disk is full or gone; the file ends at ``end`` again.
    """
    try:
        while data:
            data = data[file.write(data) :]
        os.fsync(file.fileno())
    except OSError:
        file.truncate(end)
        raise


def cut_torn_line(file: Any) -> int:
    """Leave only whole lines in a file opened to read and append; returns its size.

    A last line that is whole but for its line end, which an editor took, is kept.
    """
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        return 0
    file.seek(size - 1)
    if file.read(1) == b"\n":
        return int(size)
    file.seek(0)
    content = file.read()
    end = content.rfind(b"\n") + 1
    try:
        json.loads(content[end:])
    except ValueError:
        file.truncate(end)
        return int(end)
    file.seek(0, os.SEEK_END)
    file.write(b"\n")
    return int(size) + 1


def write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Replace a file of JSON lines, atomically."""
    write_atomically(path, "".join(json.dumps(line) + "\n" for line in lines).encode())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON lines of a file; a torn last line, left by a crash, is ignored.

    Raises:
        ConfigError: missing, or a line before the last is not a JSON object.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    values = []
    for number, line in enumerate(lines[:-1], 1):
        try:
            value = json.loads(line)
        except ValueError as error:  # nor UTF-8
            raise ConfigError(f"{path}: line {number} is not JSON: {error}; fix or delete this line") from error
        if not isinstance(value, dict):
            raise ConfigError(f"{path}: line {number} is no JSON object; fix or delete this line")
        values.append(value)
    return values
