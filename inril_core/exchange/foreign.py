"""An episode as another project's file gives it: named columns, and what the file says of rate and success."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from inril_core.errors import ConfigError

_REFERENCE = re.compile(r"(?P<key>[^\[\]]+?)(\[(?P<begin>\d+)(:(?P<end>\d+))?\])?")


def split_reference(reference: str) -> tuple[str, slice | None]:
    """The key and the numbers that ``KEY``, ``KEY[3]`` or ``KEY[0:3]`` names; None: all of them. What is no such
    reference is taken as a key."""
    match = _REFERENCE.fullmatch(reference.strip())
    if match is None:
        return reference, None
    if match["begin"] is None:
        return match["key"], None
    begin = int(match["begin"])
    return match["key"], slice(begin, begin + 1 if match["end"] is None else int(match["end"]))


@dataclass
class Foreign:
    """One episode. Columns have a row for each action, or one more where the file has the closing observation."""

    name: str
    """Within its file or folder: ``demo_3``."""
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    images: dict[str, np.ndarray] = field(default_factory=dict)
    """uint8[n, H, W, 3] by key."""
    skipped: list[str] = field(default_factory=list)
    """Images that the file has and nobody asked for."""
    rate_hz: float | None = None
    """None: the file does not say it."""
    stamps_s: np.ndarray | None = None
    """Of the rows, where the file has real ones."""
    success: bool | None = None
    """None: the file does not say it."""

    def column(self, reference: str) -> np.ndarray:
        """``float64[n, size]`` of ``KEY``, ``KEY[3]`` or ``KEY[0:3]``.

        Raises:
            ConfigError: no such column or no such numbers in it; names those that there are.
        """
        key, place = split_reference(reference)
        if key not in self.columns:
            raise ConfigError(f"{self.name}: has no column {key!r}; there are {self.described()}")
        values = np.asarray(self.columns[key])
        if values.dtype.kind not in "biuf":
            raise ConfigError(f"{self.name}: column {key} is {values.dtype}, no numbers")
        rows = values.reshape(len(values), -1).astype(np.float64)
        if place is None:
            return rows
        if not place.start < place.stop <= rows.shape[1]:
            raise ConfigError(f"{self.name}: {reference}: {key} has {rows.shape[1]} numbers")
        return rows[:, place]

    def described(self) -> str:
        """Its columns and images with their sizes."""
        columns = [f"{key}[{int(np.prod(values.shape[1:], dtype=int))}]" for key, values in self.columns.items()]
        return ", ".join([*columns, *(f"{key} (image)" for key in (*self.images, *self.skipped))]) or "none"
