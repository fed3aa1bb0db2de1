"""The append-only record of finished episodes, from which a restarted session goes on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import pydantic
from pydantic import Field, StringConstraints

from inril_core.errors import ConfigError
from inril_core.files import Lines, append_line, read_sound_lines
from inril_core.session.plan import PURPOSES, Segment

_Count = Annotated[int, Field(ge=0, lt=2**63)]
_Seconds = Annotated[float, Field(ge=0.0, le=2.0**64)]


@pydantic.dataclasses.dataclass(frozen=True, config={"extra": "forbid", "allow_inf_nan": False})
class EpisodeResult:
    """One finished episode."""

    segment_index: _Count
    segment: str
    index: _Count
    episode_id: str
    purpose: Annotated[str, StringConstraints(pattern=f"^({'|'.join(PURPOSES)})$")]
    seed: Annotated[int, Field(ge=0, lt=2**64)]
    steps: _Count
    success: bool
    terminated: bool
    source: str
    reason: str
    version_n: Annotated[int, Field(ge=-1, lt=2**63)]
    """Policy version that acted at its end; -1: none."""
    late_ticks: _Count
    """Ticks closed at their deadline instead of by an answer."""
    duration_s: _Seconds
    ended_unix_s: _Seconds
    valid: bool
    """False where a fault or a crash ended it; it is done again."""


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
    """Episodes of a run on disk, one JSON line each, flushed and synced before it counts.

    A line that is not sound is left out and named in `problems`; its episode is done again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.results: list[EpisodeResult] = []
        self._progress: dict[int, Progress] = {}
        found = read_ledger(path)
        self.problems = found.problems
        for result in found.values:
            self._count(result)

    def append(self, result: EpisodeResult) -> None:
        """Write a result down.

        Raises:
            OSError: the disk is full or broken; the result does not count.
        """
        append_line(self._path, asdict(result))
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
        """Episodes of a segment that were begun and ended, valid or not: makes new ids unique.

        A line that cannot be read may have been of this segment, and counts.
        """
        return sum(r.segment_index == segment_index for r in self.results) + len(self.problems)

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


def read_ledger(path: Path) -> Lines[EpisodeResult]:
    """The results of a run, and which lines are left out because they are not sound."""
    return read_sound_lines(path, EpisodeResult)
