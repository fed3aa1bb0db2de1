"""HDF5 files with robomimic's layout: opened with errors that say what to do, demonstrations by mask and number."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from inril_core.data.episode import InvalidEpisode
from inril_core.errors import ConfigError, missing_package

_DEMO = re.compile(r"demo_\d+")
_DAMAGE = (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError, InvalidEpisode)


def hdf5() -> Any:
    """The module h5py.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise missing_package("HDF5 files need h5py", "data", error) from error
    return h5py


@contextmanager
def open_demos(path: Path | str) -> Iterator[Any]:
    """A file with ``data/demo_N`` to read; whatever HDF5 stumbles over inside the block is told as damage.

    Raises:
        ConfigError: h5py is not installed; the file is missing, no HDF5, has no ``data``, or is damaged.
    """
    h5py = hdf5()
    try:
        with h5py.File(path, "r") as file:
            if "data" not in file or not isinstance(file["data"], h5py.Group):
                raise ConfigError(f"{path}: no data/: not a robomimic file")
            yield file
    except _DAMAGE as error:
        raise ConfigError(f"{path}: not a readable robomimic file ({error}); fetch or extract it again") from error


def demo_names(file: Any, subset: str | None, path: Path | str) -> list[str]:
    """Names of the demonstrations in the order of their numbers; ``subset`` is the name of one of the file's masks.

    Raises:
        ConfigError: there is no such mask.
    """
    names = [key for key in file["data"] if _DEMO.fullmatch(key)]
    if subset is not None:
        masks = list(file["mask"]) if "mask" in file else []
        if subset not in masks:
            raise ConfigError(f"{path}: subset = {subset!r}: must be one of {masks}")
        chosen = {item.decode() if isinstance(item, bytes) else str(item) for item in file["mask"][subset][:]}
        names = [key for key in names if key in chosen]
    return sorted(names, key=lambda key: int(key.removeprefix("demo_")))
