"""The append-only record of finished episodes, from which a restarted session goes on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints, with_config

from inril_core.errors import ConfigError
from inril_core.files import Lines, append_line, read_sound_lines
from inril_core.session.plan import PURPOSES, Segment, parse_plan


def _planned(segment: str) -> str:
    try:
        parse_plan(segment)
    except ConfigError as error:
        raise ValueError(str(error)) from error
    return segment


_Count = Annotated[int, Field(ge=0, le=2**64)]
_Seconds = Annotated[float, Field(ge=0.0, le=2.0**64)]


@with_config(extra="forbid", allow_inf_nan=False)
@dataclass(frozen=True)
class EpisodeResult:
    """One finished episode."""

    segment_index: _Count
    """Position of its segment in the plan, from 0."""
    segment: Annotated[str, AfterValidator(_planned)]
    """PURPOSE:AMOUNT:UNIT of that segment when the episode ended."""
    index: _Count
    """Number of the episode within its segment, from 0, counting those that count."""
    episode_id: Annotated[str, Field(min_length=1)]
    purpose: Annotated[str, StringConstraints(pattern=f"^({'|'.join(PURPOSES)})$")]
    seed: _Count
    steps: _Count
    success: bool
    terminated: bool
    source: str
    """Who ended it: cell, episode_length, session, fault, or a person's name."""
    reason: str
    version_n: Annotated[int, Field(ge=-1, le=2**64)]
    """Policy version that acted at its end; -1: none."""
    late_ticks: _Count
    """Ticks that closed at their deadline instead of by an answer."""
    duration_s: _Seconds
    ended_unix_s: _Seconds
    valid: bool
    """False where a fault, a crash or a person took it out; it is done again."""


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

    A later line of the same episode replaces the earlier one: a label given afterwards, or an episode taken back.
    Lines that are no results are left out and named in `problems`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        found = read_ledger(path)
        self.problems = found.problems
        self._results = {result.episode_id: result for result in found.values}
        self._progress: dict[int, Progress] = {}

    @property
    def results(self) -> list[EpisodeResult]:
        """The newest word on each episode, in the order in which they ended."""
        return list(self._results.values())

    def __len__(self) -> int:
        """Number of episodes, valid or not."""
        return len(self._results)

    def find(self, episode_id: str) -> EpisodeResult | None:
        """An episode's result, if it is known."""
        return self._results.get(episode_id)

    def append(self, result: EpisodeResult) -> None:
        """Write a result down; of a known episode it is the new word.

        Raises:
            OSError: the disk is full or broken; nothing was counted.
        """
        append_line(self._path, asdict(result))
        self._results[result.episode_id] = result
        self._progress.pop(result.segment_index, None)

    def progress(self, segment_index: int) -> Progress:
        """What counts of a segment so far."""
        known = self._progress.get(segment_index)
        if known is None:
            counted = [r for r in self._results.values() if r.segment_index == segment_index and r.valid]
            known = self._progress[segment_index] = Progress(
                len(counted),
                sum(r.steps for r in counted),
                sum(r.duration_s for r in counted),
                sum(r.success for r in counted),
            )
        return known

    def eta_s(self, segment: Segment, segment_index: int) -> float:
        """Time to the end of a segment at its pace so far [s]; NaN before its first episode."""
        progress = self.progress(segment_index)
        reached = {"episodes": progress.episodes, "steps": progress.steps, "seconds": progress.seconds}[segment.unit]
        if reached <= 0 or progress.seconds <= 0:
            return math.nan
        first = next(r for r in self._results.values() if r.segment_index == segment_index and r.valid)
        last = next(reversed(self._results.values()))
        elapsed_s = max(last.ended_unix_s - first.ended_unix_s + first.duration_s, 1e-6)
        return max(segment.amount - reached, 0) / (reached / elapsed_s)

    def attempts(self, segment_index: int) -> int:
        """Episodes of a segment that were begun and ended, valid or not: makes new ids unique.

        A line that cannot be read may have been one of them, and counts.
        """
        return sum(r.segment_index == segment_index for r in self._results.values()) + len(self.problems)

    def check_plan(self, plan: Sequence[Segment]) -> None:
        """What is on disk must be of this plan. It may have more segments, and the newest segment that was begun may
        have another amount: the session then goes on with it, or is done with it.

        Raises:
            ConfigError: an episode on disk belongs to another plan; names the remedy.
        """
        newest = max((r.segment_index for r in self._results.values()), default=0)
        for result in self._results.values():
            begun = parse_plan(result.segment)[0]
            index = result.segment_index
            planned = plan[index] if index < len(plan) else None
            if planned == begun:
                continue
            names = ",".join(segment.name for segment in plan)
            where = f"{self._path}: holds episodes of {begun.name} as segment {index}, the plan is {names}"
            if planned is None or (planned.purpose, planned.unit) != (begun.purpose, begun.unit):
                raise ConfigError(f"{where}; use the plan it was begun with, or a new run_dir")
            if index < newest and not _amount_was(self._results.values(), index, planned.amount):
                raise ConfigError(
                    f"{where}; a later segment has begun, so {begun.name} keeps its amount: add a segment at the end "
                    "of the plan, or use a new run_dir"
                )


def _amount_was(results: Iterable[EpisodeResult], index: int, amount: int) -> bool:
    """Whether the segment's newest episode already had this amount: it was changed while nothing had come after."""
    newest = [r for r in results if r.segment_index == index][-1]
    return parse_plan(newest.segment)[0].amount == amount


def read_ledger(path: Path) -> Lines[EpisodeResult]:
    """The newest word on each episode in the order in which they ended, and what is wrong with the lines left out."""
    found = read_sound_lines(path, EpisodeResult)
    return Lines(list({result.episode_id: result for result in found.values}.values()), found.problems)
