"""How the machine is used by training."""

import ctypes

import torch

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
_KEEP_BYTES = 1 << 28


def use_one_thread() -> None:
    """One torch thread, deterministic kernels, and freed memory kept for the next update.

    Runs then repeat to the bit and leave the other cores alone. Without the last point glibc returns each
    activation of 128 kB to the kernel and faults its pages in again, a third of an update of a small network.
    """
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
