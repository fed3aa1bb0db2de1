"""Where a node's CPU time goes: its stack is looked at each time it has used a few milliseconds more.

For `graph_benchmark`. `INRIL_PROFILE` names a folder; each node writes `NODE.json` there when it ends: what was done,
and in how many samples. What DDS's own threads use is counted with what the node's thread did when it noticed.
"""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from pathlib import Path
from types import FrameType

PROFILE = "INRIL_PROFILE"
INTERVAL_S = 0.004
_PARTS = {
    "wait_set.py": "wait set",
    "executor.py": "executor",
    "taking.py": "taking messages",
    "decoding.py": "reading messages",
    "publisher.py": "publishing",
}
_IGNORED = ("node.py", "diagnostics.py")
"""They only pass calls on."""


class Sampler:
    """Counts what the main thread of this process does."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        signal.signal(signal.SIGPROF, self._sample)
        signal.siginterrupt(signal.SIGPROF, False)
        signal.setitimer(signal.ITIMER_PROF, INTERVAL_S, INTERVAL_S)

    def _sample(self, number: int, frame: FrameType | None) -> None:
        self._counts[_what(frame)] += 1

    def write(self, folder: Path, node: str) -> None:
        """Stop, and write what was counted."""
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        (folder / f"{node}.json").write_text(json.dumps(self._counts))


def sampler_if_asked() -> Sampler | None:
    """One if the environment asks for it."""
    return Sampler() if os.environ.get(PROFILE) else None


def _what(frame: FrameType | None) -> str:
    """The part of the executor or of rclpy that the time is spent in or for, or the node's own function and, after a
    colon, the innermost module of `inril_core` that it is in."""
    own, module = "start", ""
    while frame is not None:
        path = frame.f_code.co_filename
        name = os.path.basename(path)
        if name in _PARTS and ("inril_common" in path or "rclpy" in path):
            if own == "start":
                return _PARTS[name]
            return f"{own}: {module}" if module else own
        if "inril_core" in path:
            module = module or name.removesuffix(".py")
        elif ("inril_" in path and name not in _IGNORED) or name == "convert.py":
            own = f"{name.removesuffix('.py')}.{frame.f_code.co_name}"
        frame = frame.f_back
    return "start and end"


def read_samples(folder: Path) -> dict[str, dict[str, float]]:
    """By node: what was done, as a share of its samples after the start."""
    shares = {}
    for path in sorted(folder.glob("*.json")):
        counts = {what: count for what, count in json.loads(path.read_text()).items() if what != "start and end"}
        total = sum(counts.values())
        shares[path.stem] = {what: count / total for what, count in counts.items()}
    return shares
