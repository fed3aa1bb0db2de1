"""How a node comes first: before other processes, on chosen processors, with memory that stays in place and without
garbage collection in a tick.

Sources: sched(7), mlockall(2). Who may do so without being root: limits.conf(5), `rtprio` and `memlock`.
"""

from __future__ import annotations

import ctypes
import gc
import os
import re
import resource

from inril_core.errors import ConfigError

PRIORITY = 20
"""Of SCHED_FIFO, 1 to 99: below the kernel's own threads, which are at 50."""
LIMITS = "give yourself rtprio 20 and memlock unlimited in /etc/security/limits.d/inril.conf, and log in again"
_MCL_CURRENT, _MCL_FUTURE = 1, 2


def parse_cores(text: str) -> set[int]:
    """Processors of a list such as `0,2-3`; empty: all that this process may use.

    Raises:
        ConfigError: it is no such list, or names a processor that this process may not use.
    """
    allowed = os.sched_getaffinity(0)
    cores: set[int] = set()
    for part in filter(None, text.split(",")):
        match = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part.strip())
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise ConfigError(f"cores = {text!r}: give processors as 0,2-3")
        cores |= set(range(int(match[1]), int(match[2] or match[1]) + 1))
    if not cores <= allowed:
        raise ConfigError(f"cores = {text!r}: this process may use {sorted(allowed)}; give some of these")
    return cores or allowed


def run_on(cores: set[int]) -> None:
    """Keep all threads of this process on these processors."""
    for thread in _threads():
        os.sched_setaffinity(thread, cores)


def run_first() -> str:
    """Schedule all threads of this process before those of ordinary processes, and lock its memory.

    Returns why that is not permitted, with the fix; empty if it is done.
    """
    try:
        for thread in _threads():
            os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(PRIORITY))
    except OSError as error:
        return f"SCHED_FIFO is not permitted ({error.strerror}): {LIMITS}"
    if _locks_memory() and ctypes.CDLL(None, use_errno=True).mlockall(_MCL_CURRENT | _MCL_FUTURE) == 0:
        return ""
    return f"memory cannot be locked: {LIMITS}"


def permitted() -> str:
    """Why `run_first` would not do all it can; empty if it would. Nothing is changed."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    except OSError as error:
        return f"SCHED_FIFO is not permitted ({error.strerror})"
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return "" if _locks_memory() else "memory cannot be locked"


def _locks_memory() -> bool:
    """Whether all later memory can be locked too: with a limit, the first allocation beyond it would end the node."""
    return os.geteuid() == 0 or resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY


def _threads() -> list[int]:
    return [int(name) for name in os.listdir("/proc/self/task")]


ALLOCATIONS_BETWEEN_COLLECTIONS = 50_000
"""Python's own choice is 700: several collections a second in a node of the tick."""


def keep_what_is_there() -> None:
    """Collect garbage, and leave what is loaded and set up out of later collections: it stays while the node works.

    Within an episode it is hardly collected, since `between_episodes` does it: a collection would fall into a tick.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(ALLOCATIONS_BETWEEN_COLLECTIONS)


def between_episodes() -> None:
    """Call when an episode has ended: what takes time is done now."""
    gc.collect()
