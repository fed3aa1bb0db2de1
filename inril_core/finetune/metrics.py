"""Training metrics on disk: JSON lines, and TensorBoard scalars."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inril_core.files import append_line, read_lines, write_lines

METRICS_NAME = "metrics.jsonl"


def numbers(window: Mapping[str, Sequence[float | Tensor]]) -> dict[str, list[float]]:
    """The metrics of a group of updates, with one transfer per device for all that are tensors."""
    tensors: dict[torch.device, list[Tensor]] = {}
    for value in (value for values in window.values() for value in values):
        if isinstance(value, Tensor):
            tensors.setdefault(value.device, []).append(value.detach().reshape(()).double())
    read = {device: iter(torch.stack(found).tolist()) for device, found in tensors.items()}
    return {
        name: [next(read[value.device]) if isinstance(value, Tensor) else value for value in values]
        for name, values in window.items()
    }


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
        append_line(self._path, {"updates": updates, **values})
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(f"learner/{name}", value, updates)

    def close(self) -> None:
        """Flush and close."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
