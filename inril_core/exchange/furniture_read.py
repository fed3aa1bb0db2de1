"""Reads demonstrations of FurnitureBench: one pickle an episode, of which only numbers, texts and arrays are taken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from inril_core.errors import ConfigError
from inril_core.exchange.foreign import Foreign
from inril_core.exchange.restricted_pickle import PickleRefused, read_pickle

RATE_HZ = 10.0
"""FurnitureBench runs at 10 Hz and writes no rate."""


def furniture_files(source: Path) -> list[Path]:
    """The pickles of a folder, or the one that is given."""
    return sorted(source.rglob("*.pkl")) if source.is_dir() else [source]


def read_furniture(source: Path, image_keys: tuple[str, ...] | None = None) -> Iterator[Foreign]:
    """Episodes one at a time. Columns are keys of the observations, ``robot_state/ee_pos``, and ``actions``.

    image_keys: the images to keep; None: all.

    Raises:
        ConfigError: a file is no such pickle, damaged, or holds more than plain values.
    """
    for path in furniture_files(source):
        try:
            yield _foreign(read_pickle(path), path, image_keys)
        except PickleRefused as error:
            raise ConfigError(f"{error}; remove the file if it does not come from FurnitureBench") from error


def _foreign(value: Any, path: Path, image_keys: tuple[str, ...] | None) -> Foreign:
    if not isinstance(value, dict) or not {"observations", "actions"} <= value.keys():
        found = sorted(map(str, value))[:8] if isinstance(value, dict) else type(value).__name__
        raise ConfigError(
            f"{path}: no demonstration of FurnitureBench: observations and actions are missing in {found}"
        )
    observations, actions = value["observations"], value["actions"]
    if not isinstance(observations, list) or not observations or not all(isinstance(o, dict) for o in observations):
        raise ConfigError(f"{path}: observations are no list of dictionaries")
    foreign = Foreign(path.stem, rate_hz=RATE_HZ)
    rows = [dict(_leaves(observation, "")) for observation in observations]
    for key in rows[0]:
        parts = [row.get(key) for row in rows]
        _add(foreign, key, parts, path, image_keys)
    _add(foreign, "actions", list(actions), path, image_keys)
    for key in ("rewards", "skills"):
        if isinstance(value.get(key), (list, np.ndarray)) and len(value[key]) == len(actions):
            _add(foreign, key, list(value[key]), path, image_keys)
    said = value.get("success")
    foreign.success = bool(said) if isinstance(said, (bool, int)) else None
    return foreign


def _leaves(value: dict[str, Any], before: str) -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        name = f"{before}/{key}" if before else str(key)
        if isinstance(item, dict):
            yield from _leaves(item, name)
        elif isinstance(item, (np.ndarray, int, float, bool)):
            yield name, item


def _add(foreign: Foreign, key: str, parts: list[Any], path: Path, image_keys: tuple[str, ...] | None) -> None:
    arrays = [np.asarray(part) for part in parts]
    if (
        any(part is None for part in parts)
        or len({a.shape for a in arrays}) > 1
        or any(a.dtype == object for a in arrays)
    ):
        lacking = next((n for n, part in enumerate(parts) if part is None or np.shape(part) != arrays[0].shape), 0)
        raise ConfigError(f"{path}: {key} of step {lacking} is missing or of another shape")
    if arrays[0].ndim == 3 and arrays[0].dtype == np.uint8 and 3 in (arrays[0].shape[0], arrays[0].shape[-1]):
        if image_keys is None or key in image_keys:
            rows = np.stack(arrays)
            foreign.images[key] = rows if rows.shape[-1] == 3 else rows.transpose(0, 2, 3, 1)
        else:
            foreign.skipped.append(key)
    elif arrays[0].dtype.kind in "biuf":
        foreign.columns[key] = np.stack(arrays)
