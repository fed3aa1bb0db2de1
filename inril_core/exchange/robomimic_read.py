"""Reads robomimic's HDF5 files: low-dimensional and image observations, with or without ``next_obs``, by mask."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from inril_core.exchange.columns import Rows, observation_slices
from inril_core.exchange.foreign import Foreign
from inril_core.exchange.hdf5_file import demo_names, open_demos
from inril_core.exchange.robomimic_write import SIDE

_BESIDE = ("actions", "actions_abs", "absolute_actions", "action_dict", "rewards", "dones", "states")


def read_robomimic_file(
    path: Path, subset: str | None = None, image_keys: tuple[str, ...] | None = None
) -> Iterator[Foreign]:
    """Demonstrations one at a time, in the order of their numbers. Columns are ``obs/KEY``, ``actions``, ...

    subset: name of one of the file's masks. image_keys: the images to read, as ``obs/KEY``; None: all.

    Raises:
        ConfigError: no such file or mask, no HDF5 with demonstrations, or damaged.
    """
    with open_demos(path) as file:
        rate_hz = _rate_hz(file)
        names = demo_names(file, subset, path)
        if not names:
            raise ValueError("it holds no demonstrations")
        tells = any(_paid(file["data"][name]) for name in demo_names(file, None, path))
        for name in names:
            yield _foreign(file["data"][name], name, rate_hz, tells, image_keys)


def read_own_robomimic(path: Path) -> Iterator[Rows] | None:
    """Episodes of a file that was written here, without loss; None: it is another's."""
    with open_demos(path) as file:
        names = demo_names(file, None, path)
        own = bool(names) and all(SIDE in file["data"][name] for name in names)
    return _own(path) if own else None


def _own(path: Path) -> Iterator[Rows]:
    with open_demos(path) as file:
        for name in demo_names(file, None, path):
            yield _rows(file["data"][name])


def _rows(demo: Any) -> Rows:
    side = demo[SIDE]
    facts = json.loads(side.attrs["facts"])
    rows = Rows(facts, {"actions": demo["actions"][()]})
    for table, into in (("steps", rows.steps), ("observations", rows.observations)):
        for key, values in side[table].items():
            texts = values.dtype.kind == "O"
            into[key] = np.array([_text(item) for item in values[()]], object) if texts else values[()]
    names = json.loads(side.attrs["images"])
    fields = [key for key in demo["obs"] if key not in {f"{name}_image" for name in names}]
    width = sum(demo["obs"][key].shape[1] for key in fields)
    order = observation_slices(facts["contract_text"], width)
    state = np.concatenate([demo["obs"][key][()] for key in order], 1)
    closing = np.concatenate([demo["next_obs"][key][-1:] for key in order], 1)
    rows.observations["observations"] = np.concatenate([state, closing])
    for name in names:
        key = f"{name}_image"
        pixels = np.concatenate([demo["obs"][key][()], demo["next_obs"][key][-1:]])
        rows.images[name] = (np.arange(len(pixels), dtype=np.int32), pixels)
    return rows


def _foreign(demo: Any, name: str, rate_hz: float | None, tells: bool, image_keys: tuple[str, ...] | None) -> Foreign:
    foreign = Foreign(name, rate_hz=rate_hz)
    for key in _BESIDE:
        if key in demo and hasattr(demo[key], "shape"):
            foreign.columns[key] = demo[key][()]
        elif key in demo:
            foreign.columns |= {f"{key}/{part}": values[()] for part, values in demo[key].items()}
    if "obs" not in demo:
        raise KeyError(f"{name} has no obs; extract the file with observations")
    following = demo.get("next_obs", {})
    keys = list(demo["obs"])
    closed = all(key in following for key in keys)
    for key in keys:
        values, place = demo["obs"][key], f"obs/{key}"
        is_image = values.ndim == 4 and values.dtype == np.uint8
        if is_image and image_keys is not None and place not in image_keys:
            foreign.skipped.append(place)
            continue
        rows = values[()]
        if closed:
            rows = np.concatenate([rows, following[key][-1:]])
        if is_image:
            foreign.images[place] = rows if rows.shape[-1] == 3 else rows.transpose(0, 2, 3, 1)
        else:
            foreign.columns[place] = rows
    foreign.success = _success(demo, tells)
    return foreign


def _success(demo: Any, tells: bool) -> bool | None:
    """``dones`` of 1 before the last step mark successes in robomimic's own extraction; else a sparse reward does."""
    if "dones" in demo and (demo["dones"][:-1] == 1).any():
        return True
    return _paid(demo) if tells and "rewards" in demo else None


def _paid(demo: Any) -> bool:
    """Whether there is a reward of 1 among zeros and ones."""
    if "rewards" not in demo:
        return False
    rewards = demo["rewards"][()]
    return bool(np.isin(rewards, (0.0, 1.0)).all() and (rewards == 1.0).any())


def _rate_hz(file: Any) -> float | None:
    try:
        rate_hz = json.loads(str(file["data"].attrs["env_args"]))["env_kwargs"]["control_freq"]
    except (KeyError, ValueError, TypeError, RecursionError):
        return None
    return float(rate_hz) if isinstance(rate_hz, (int, float)) and 0.0 < rate_hz < 1e5 else None


def _text(item: Any) -> str:
    return item.decode() if isinstance(item, bytes) else str(item)
