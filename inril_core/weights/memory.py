"""Memory for packs, used again: to get fresh memory from the system takes longer than to fill it."""

from __future__ import annotations

import sys
import threading

import numpy as np
from numpy.typing import NDArray

KEPT_N = 3  # what acts, what waits for its boundary, what comes in
_OWN_REFERENCES = 2  # the list's, and that of the argument of getrefcount


class PackMemory:
    """Gives buffers, and gives one again only when nothing looks into it any more. Several threads may use it."""

    def __init__(self) -> None:
        self._buffers: list[NDArray[np.uint8]] = []
        self._lock = threading.Lock()

    def take(self, size_bytes: int) -> NDArray[np.uint8]:
        """uint8[size_bytes] of any content. Every view of it, a tensor for instance, keeps it from being given again.

        Raises:
            MemoryError: there is no more.
        """
        with self._lock:
            free = [i for i in range(len(self._buffers)) if self._is_free(i)]
            for i in free:
                if size_bytes <= len(self._buffers[i]) <= 2 * size_bytes:
                    return self._buffers[i][:size_bytes]
            if len(self._buffers) >= KEPT_N:
                self._buffers.pop(free[0] if free else 0)
            self._buffers.append(np.empty(size_bytes, np.uint8))
            return self._buffers[-1][:size_bytes]

    def _is_free(self, i: int) -> bool:
        # a view of a view refers to the array that owns the memory, so this counts all of them
        return sys.getrefcount(self._buffers[i]) == _OWN_REFERENCES
