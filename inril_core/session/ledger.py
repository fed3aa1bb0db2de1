"""The append-only record of finished episodes, from which a restarted session goes on."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from inril_core.errors import ConfigError
from inril_core.session.plan import Segment


@dataclass(frozen=True)
class EpisodeResult:
    """One finished episode.

    version_n: policy version that acted at its end (-1: none). late_ticks: closed at their deadline
    instead of by an answer. valid: false where a fault or a crash ended it; it is done again.
    """

    segment_index: int
    segment: str
    index: int
    episode_id: str
    purpose: str
    seed: int
    steps: int
    success: bool
    terminated: bool
    source: str
    reason: str
    version_n: int
    late_ticks: int
    duration_s: float
    ended_unix_s: float
    valid: bool


@dataclass(frozen=True)
class Progress:
    """How far a segment is."""

    episodes: int
    steps: int
    seconds: float
    successes: int

    def done(self, segment: Segment) -> bool:
        """The segment's amount is reached."""
        reached = {"episodes": self.episodes, "steps": self.steps, "seconds": self.seconds}
        return reached[segment.unit] >= segment.amount


class Ledger:
    """Episodes of a run on disk, one JSON line each, flushed and synced before it counts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.results: list[EpisodeResult] = []
        self._progress: dict[int, Progress] = {}
        for result in read_ledger(path):
            self._count(result)

    def append(self, result: EpisodeResult) -> None:
        """Write a result down."""
        line = (json.dumps(asdict(result)) + "\n").encode()
        with self._path.open("ab") as file:
            if file.tell() > 0 and not _ends_with_newline(self._path):
                file.write(b"\n")  # a line torn by a crash stays alone, unreadable and uncounted
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self._count(result)

    def _count(self, result: EpisodeResult) -> None:
        self.results.append(result)
        if result.valid:
            so_far = self.progress(result.segment_index)
            self._progress[result.segment_index] = Progress(
                so_far.episodes + 1,
                so_far.steps + result.steps,
                so_far.seconds + result.duration_s,
                so_far.successes + result.success,
            )

    def progress(self, segment_index: int) -> Progress:
        """What counts of a segment so far."""
        return self._progress.get(segment_index, Progress(0, 0, 0.0, 0))

    def eta_s(self, segment: Segment, segment_index: int) -> float:
        """Time to the end of a segment at its pace so far [s]; NaN before its first episode."""
        progress = self.progress(segment_index)
        reached = {"episodes": progress.episodes, "steps": progress.steps, "seconds": progress.seconds}[segment.unit]
        if reached <= 0 or progress.seconds <= 0:
            return math.nan
        first = next(r for r in self.results if r.segment_index == segment_index and r.valid)
        last = self.results[-1]
        elapsed_s = max(last.ended_unix_s - first.ended_unix_s + first.duration_s, 1e-6)
        return max(segment.amount - reached, 0) / (reached / elapsed_s)

    def attempts(self, segment_index: int) -> int:
        """Episodes of a segment that were begun and ended, valid or not: makes new ids unique."""
        return sum(r.segment_index == segment_index for r in self.results)

    def check_plan(self, plan: Sequence[Segment]) -> None:
        """The plan may grow, but what is on disk must be of it.

        Raises:
            ConfigError: an episode on disk belongs to another plan.
        """
        for result in self.results:
            if result.segment_index >= len(plan) or plan[result.segment_index].name != result.segment:
                planned = [segment.name for segment in plan]
                raise ConfigError(
                    f"{self._path}: holds episodes of {result.segment} as segment {result.segment_index}, "
                    f"the plan is {planned}; use the plan it was begun with, or a new run_dir"
                )


def read_ledger(path: Path) -> list[EpisodeResult]:
    """The results of a run; torn lines are left out."""
    if not path.exists():
        return []
    results = []
    for line in path.read_text(errors="replace").splitlines():
        try:
            results.append(EpisodeResult(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return results


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
