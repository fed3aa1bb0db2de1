"""Tensors and facts in one safetensors file, written so that a crash leaves the old one or the new one."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from inril_core.errors import ConfigError
from inril_core.files import write_atomically


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
