"""What more threads of the C++ kernels gain, in wall time."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from inril_core.bench.rounds import median
from inril_core.bench.speed_task import filled_learner
from inril_core.finetune.config import load_config
from inril_core.networks.compute import use_kernel_threads
from inril_core.networks.native import library

THREADS = (1, 2)
UPDATES = 100
"""Per number of threads and round."""
Seconds = dict[str, dict[int, list[float]]]
"""Of each preset, by threads: wall time per update, one number a round."""


def measure(presets: Sequence[str], rounds: int, folder: Path) -> Seconds:
    """One learner of each preset, trained on by one thread and by several in turns; empty without C++ kernels."""
    if library() is None:
        return {}
    learners = {name: filled_learner(load_config(name), folder / name) for name in presets}
    found: Seconds = {name: {threads: [] for threads in THREADS} for name in presets}
    try:
        for number in range(-1, rounds):  # the first one warms up
            for name, learner in learners.items():
                for threads in THREADS if number % 2 else reversed(THREADS):
                    use_kernel_threads(threads)
                    began_s = time.perf_counter()
                    for _ in range(UPDATES):
                        learner.train_step()
                    if number >= 0:
                        found[name][threads].append((time.perf_counter() - began_s) / UPDATES)
    finally:
        use_kernel_threads(1)
    return found


def section(found: Seconds) -> list[str]:
    """Of the report."""
    lines = [
        "\n## What a second thread gains\n",
        f"Wall time of {UPDATES} updates of one learner, with one thread of the C++ kernels and with more in turns, on "
        f"{len(os.sched_getaffinity(0))} cores; how many times as fast the latter are, paired by round. The weights "
        "are the same to the bit. A graph in lockstep waits for its learner, so that one uses two threads; all others "
        "use one.\n",
        "| preset | threads | updates/s | times as fast | 95 % interval |",
        "|---|---|---|---|---|",
    ]
    for name, by_threads in found.items():
        for threads, seconds in by_threads.items():
            middle, low, high = median([a / b for a, b in zip(by_threads[THREADS[0]], seconds, strict=True)])
            rate = 1 / median(seconds)[0]
            lines.append(f"| `{name}` | {threads} | {rate:.0f} | {middle:.2f} | {low:.2f} to {high:.2f} |")
    return lines if found else [*lines[:1], "Not measured: there are no C++ kernels here."]
