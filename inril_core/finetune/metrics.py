"""Training metrics on disk: JSON lines, and TensorBoard scalars."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inril_core.files import read_lines, write_lines

METRICS_NAME = "metrics.jsonl"


class MetricsLog:
    """One line per group of updates in ``folder/metrics.jsonl``, the same as scalars in ``folder/tensorboard``.

    Args:
        folder: made if missing.
        from_update: lines of later updates are dropped; a resumed learner makes them again.
        tensorboard: also write TensorBoard's event file.
    """

    def __init__(self, folder: Path, from_update: int = 0, tensorboard: bool = True) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / METRICS_NAME
        if self._path.exists():
            write_lines(self._path, [line for line in read_lines(self._path, dict) if line["updates"] <= from_update])
        self._writer: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=from_update + 1)

    def write(self, updates: int, facts: Mapping[str, float], metrics: Mapping[str, float]) -> None:
        """One group: ``facts`` (steps, times) and ``metrics``. A number that is not finite is left out."""
        values = {k: v for k, v in {**facts, **metrics}.items() if math.isfinite(v)}
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"updates": updates, **values}) + "\n")
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(f"learner/{name}", value, updates)

    def close(self) -> None:
        """Flush and close."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
