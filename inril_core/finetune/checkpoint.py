"""Checkpoints and logs on disk: safetensors and JSON, written so that a crash leaves the old or the new one."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from inril_core.errors import ConfigError


def write_atomically(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data``: temporary file, fsync, rename, fsync of the folder."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_checkpoint(path: Path, parts: Mapping[str, Mapping[str, Tensor]], facts: Mapping[str, Any]) -> None:
    """One safetensors file: tensors named ``part/name``, and ``facts`` as JSON in its metadata."""
    tensors = {f"{part}/{name}": t.detach().contiguous() for part, names in parts.items() for name, t in names.items()}
    write_atomically(path, save(tensors, metadata={"facts": json.dumps(facts)}))


def read_checkpoint(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """What `write_checkpoint` wrote.

    Raises:
        ConfigError: missing or not readable.
    """
    parts: dict[str, dict[str, Tensor]] = {}
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads(file.metadata()["facts"])
            for key in file.keys():  # noqa: SIM118 - not a mapping
                part, name = key.split("/", 1)
                parts.setdefault(part, {})[name] = file.get_tensor(key)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: no readable checkpoint ({error}); start a new run or restore the file") from error
    return parts, facts


def append_line(path: Path, values: Mapping[str, Any]) -> None:
    """Append one JSON line and flush it to disk."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(values) + "\n")
        file.flush()
        os.fsync(file.fileno())


def write_lines(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Replace a file of JSON lines, atomically."""
    write_atomically(path, "".join(json.dumps(line) + "\n" for line in lines).encode())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON lines of a file; a torn last line, left by a crash, is ignored.

    Raises:
        ConfigError: missing, or a line before the last is not JSON.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    values = []
    for number, line in enumerate(lines[:-1], 1):
        try:
            values.append(json.loads(line))
        except ValueError as error:  # nor UTF-8
            raise ConfigError(f"{path}: line {number} is not JSON: {error}; mend or delete this line") from error
    return values
