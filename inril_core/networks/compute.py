"""What networks are trained on: device, precision, threads."""

import ctypes
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from inril_core import distributed
from inril_core.errors import ConfigError
from inril_core.networks.flat import Adam
from inril_core.networks.native import library
from inril_core.settings import Settings

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
_KEEP_BYTES = 1 << 28


class ComputeConfig(Settings):
    """What the learner computes on; the numbers of two settings differ by rounding."""

    device: Literal["cpu", "cuda"] = "cpu"
    """Networks, replay and batches live there; random numbers are drawn on the CPU for all."""
    precision: Literal["float32", "bf16"] = "float32"
    """Of the matrix products; sums, optimizer and parameters are float32 anyway."""
    native: bool = True
    """On a CPU in float32, run written-out gradients and optimizers in C++ kernels, see
    `inril_core.networks.native`; where they do not exist, torch's kernels are used."""
    compile: bool = False
    """Run networks and written-out gradients through torch.compile; on a GPU the latter as CUDA graphs."""


def use_one_thread() -> None:
    """One torch thread, deterministic kernels, and freed memory kept for the next update.

    Runs then repeat to the bit and leave the other cores alone. Without the last point glibc returns each
    activation of 128 kB to the kernel and faults its pages in again, a third of an update of a small network.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it a GPU's matrix products are refused
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    # nothing here reads memory it has not written; filling it would cost a tenth of an update
    setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010 - not in torch's types
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _KEEP_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES)
    except (OSError, AttributeError):
        pass  # not glibc: slower, same numbers


def use_kernel_threads(count: int) -> None:
    """Let the C++ kernels, where they are used, share their work among ``count`` threads. Their numbers stay the same.

    For a process whose neighbours wait for it; all others leave the rest of the machine alone.
    """
    found = library()
    if found is not None:
        found.inril_use_threads(count)


def usable_device(compute: ComputeConfig) -> torch.device:
    """The device asked for.

    Raises:
        ConfigError: this machine does not have it.
    """
    if compute.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "compute.device = 'cuda': torch finds no GPU; install a CUDA build of the same version, or use cpu"
        )
    return torch.device(compute.device)


def precision(compute: ComputeConfig) -> AbstractContextManager[object]:
    """A fresh context in which matrix products are of the precision asked for."""
    if compute.precision == "float32":
        return nullcontext()
    return torch.autocast(compute.device, torch.bfloat16)


@runtime_checkable
class Accelerated(Protocol):
    """A method that has kernels of its own."""

    def take_kernels(self, found: ctypes.CDLL) -> None:
        """From here on use `inril_core.networks.native`."""


@runtime_checkable
class Stepping(Protocol):
    """A method that steps a policy with optimizers of its own."""

    adams: dict[str, Adam]


@runtime_checkable
class Direct(Protocol):
    """A method with functions of tensors alone, which can be compiled."""

    direct: dict[str, Callable[..., Any]]


def give_kernels(compute: ComputeConfig, *owners: object) -> None:
    """Where the settings allow it and this machine can, let ``owners`` and their optimizers use the C++ kernels.

    Not in a data-parallel run: optimizers of different processors must give the same bits.
    """
    if not compute.native or compute.device != "cpu" or compute.precision != "float32" or distributed.size() > 1:
        return
    found = library()
    if found is None:
        return
    for owner in owners:
        if isinstance(owner, Accelerated):
            owner.take_kernels(found)
        adams = owner.adams.values() if isinstance(owner, Stepping) else ()
        for adam in (*vars(owner).values(), *adams):
            if isinstance(adam, Adam):
                adam.kernels = found


def compiled(compute: ComputeConfig, *owners: object) -> None:
    """Where asked for, compile each network among ``owners`` and their attributes, in place.

    Of an owner that is `Direct`, its functions too; on a GPU each becomes one CUDA graph.
    """
    if compute.compile:
        networks = [m for owner in owners for m in (owner, *vars(owner).values()) if isinstance(m, nn.Module)]
        for network in dict.fromkeys(networks):
            network.compile()
        for owner in owners:
            if isinstance(owner, Direct):
                for name, function in owner.direct.items():
                    owner.direct[name] = _compiled_function(function, compute.device == "cuda")


def _compiled_function(function: Callable[..., Any], graph: bool) -> Callable[..., Any]:
    if not graph:
        return torch.compile(function, dynamic=False)
    captured = torch.compile(function, dynamic=False, mode="reduce-overhead")

    def run(*tensors: Any) -> tuple[Tensor, ...]:
        torch.compiler.cudagraph_mark_step_begin()
        return tuple(t.clone() for t in captured(*tensors))  # the graph writes to the same memory at its next run

    return run
