"""Which tensors the gate has let pass before in this run: they may come back, however far they are from what acts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from blake3 import blake3
from pydantic import StringConstraints, with_config

from inril_core.files import append_line, read_sound_lines

if TYPE_CHECKING:
    from torch import Tensor

PASSED_NAME = "passed.jsonl"


@with_config(extra="forbid")
@dataclass(frozen=True)
class _Line:
    n: int
    tensors: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
    """BLAKE3, hex, of names, types, shapes and numbers."""


class Passed:
    """Digests of accepted tensors, in ``folder/passed.jsonl``. Without a line, or with a damaged one, weights that come
    back are judged like any others."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / PASSED_NAME
        self._known = {line.tensors for line in read_sound_lines(self._path, _Line).values}

    def has(self, state: Mapping[str, Tensor]) -> bool:
        """Whether these very tensors were accepted before."""
        return bool(self._known) and _digest(state) in self._known

    def note(self, n: int, state: Mapping[str, Tensor]) -> None:
        """Tensors that were accepted as version ``n``.

        Raises:
            OSError: the disk is full or broken; they are known to this process all the same.
        """
        digest = _digest(state)
        if digest not in self._known:
            self._known.add(digest)
            append_line(self._path, {"n": n, "tensors": digest}, sync=False)


def _digest(state: Mapping[str, Tensor]) -> str:
    import torch

    whole = blake3(max_threads=1)
    for name, tensor in sorted(state.items()):
        values = tensor.detach().cpu().contiguous()
        whole.update(f"{name} {values.dtype} {tuple(values.shape)} ".encode())
        whole.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return whole.hexdigest()
