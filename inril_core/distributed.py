"""One batch over several processes: who works on which rows, and what is averaged.

A batch of the settings is the whole run's. Every process draws the same random numbers, for all rows, and works on its
own: ``rank``, ``rank + size``, ... . A gradient is averaged where it is taken (`networks.flat.FlatParameters`), so a
loss that is a mean over rows needs nothing. What else depends on a whole batch goes through here: noise of one row each
(`normal_like`), statistics inside a loss (`mean`). With one process all of it is what torch alone would do, bit for
bit.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as torch_distributed
from torch import Tensor

from inril_core.errors import InrilError

TIMEOUT_S = 120.0
"""A process that says nothing for so long is given up; one that has ended is noticed at once."""

_rank, _size = 0, 1
_whole = False


class ProcessLost(InrilError):
    """Another process of the run has ended, hangs, or is out of step."""


def in_torchrun() -> bool:
    """Whether this process was started by torchrun (or with its environment variables) beside others."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def start(timeout_s: float = TIMEOUT_S) -> int:
    """Join the other processes that torchrun started; returns this one's rank, 0 without torchrun.

    Raises:
        ProcessLost: the others did not come within ``timeout_s``.
    """
    global _rank, _size
    if in_torchrun() and not torch_distributed.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        together(lambda: torch_distributed.init_process_group(backend, timeout=timedelta(seconds=timeout_s)))
        _rank, _size = torch_distributed.get_rank(), torch_distributed.get_world_size()
    return _rank


def stop() -> None:
    """Leave the others; from here on this process works alone."""
    global _rank, _size
    if torch_distributed.is_initialized():
        torch_distributed.destroy_process_group()
    _rank, _size = 0, 1


def together(collective: Callable[[], object]) -> None:
    """Do something that all processes do.

    Raises:
        ProcessLost: another one has ended or says nothing.
    """
    try:
        collective()
    except RuntimeError as error:  # torch.distributed's own errors are RuntimeErrors
        reason = str(error).strip().split("\n")[0].split(". ")[0]
        raise ProcessLost(
            f"process {_rank} of {_size} has lost another one ({reason}); look at the others' output, then start all "
            "of them again: the run goes on from its last checkpoint"
        ) from error


def size() -> int:
    """Processes that share the work on what is cut."""
    return 1 if _whole else _size


@contextmanager
def whole() -> Iterator[None]:
    """Inside, every process works on all rows, as if it were alone."""
    global _whole
    before, _whole = _whole, True
    try:
        yield
    finally:
        _whole = before


def own(rows: Tensor) -> Tensor:
    """This process's part of what has one entry per row of a whole batch."""
    return rows if size() == 1 else rows[_rank::_size]


def share(own_rows: int, all_rows: int) -> float:
    """What a mean over unevenly cut rows must be multiplied by, so that the processes' average is the whole mean."""
    return size() * own_rows / all_rows


def average_(vector: Tensor) -> Tensor:
    """``vector`` averaged over the processes, in place."""
    if size() > 1:
        together(lambda: torch_distributed.all_reduce(vector))
        vector.div_(_size)
    return vector


def mean(values: Tensor, weight: float = 1.0) -> Tensor:
    """Mean over all rows, of this process's ``values``; no gradient flows through it.

    Args:
        weight: `share` of this process, where rows are cut unevenly.
    """
    result = values.detach().mean()
    return result if size() == 1 else average_(result * weight)


def mean_number(value: float) -> float:
    """A number averaged over the processes."""
    return value if size() == 1 else float(average_(torch.tensor([value], dtype=torch.float64)))


def normal_like(rows: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal noise of the shape of ``rows [B, ...]``, on their device.

    It is drawn on the CPU, so that devices of all kinds get the same numbers.
    """
    count, *width = rows.shape
    drawn = own(torch.randn((size() * count, *width), generator=generator))
    return drawn if rows.is_cpu else drawn.to(rows.device)


def chosen_like(rows: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Whether each of ``rows [B, ...]`` is chosen, which it is with probability ``share``: ``[B]`` on their device."""
    return own(torch.rand(size() * len(rows), generator=generator) < share).to(rows.device)


def integers_like(rows: Tensor, end: int, generator: torch.Generator) -> Tensor:
    """A whole number from 0 to ``end - 1`` for each of ``rows [B, ...]``, ``[B]`` on their device."""
    return own(torch.randint(end, (size() * len(rows),), generator=generator)).to(rows.device)
