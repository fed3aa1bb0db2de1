"""What a run directory holds, read leniently: a cut short or damaged run has a report too."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from inril_core.data.episode import Episode, InvalidEpisode, check_episode_id
from inril_core.data.reader import read_episode
from inril_core.errors import InrilError
from inril_core.evaluation.intervals import SuccessRate, success_rate
from inril_core.evaluation.shadow import GATE_LOG_NAME, Judged
from inril_core.files import Lines, read_sound_lines
from inril_core.run import RunPaths
from inril_core.session.ledger import EpisodeResult, read_ledger
from inril_core.session.plan import parse_plan
from inril_core.weights.log import LOG_NAME, ActingLine, OfferLine, read_weights_log

T = TypeVar("T")

DEMOS_RUN = "demos"
"""Folder below a run that may hold the run in which its demonstrations were recorded."""


@dataclass(frozen=True)
class SegmentRecord:
    """The episodes of one segment of a session's plan."""

    name: str
    purpose: str
    results: tuple[EpisodeResult, ...]
    """Every attempt, oldest first; `valid` ones count, the others were ended by a fault and done again."""

    @property
    def valid(self) -> list[EpisodeResult]:
        """Episodes that count."""
        return [r for r in self.results if r.valid]

    @property
    def real_time(self) -> bool:
        """Measured in seconds, as only a segment at real time is."""
        return self.name.endswith(":seconds")

    @property
    def rate(self) -> SuccessRate | None:
        """Success of the episodes that count; None without any."""
        valid = self.valid
        return success_rate(sum(r.success for r in valid), len(valid)) if valid else None

    @property
    def steps(self) -> int:
        """Control steps of the episodes that count."""
        return sum(r.steps for r in self.valid)

    @property
    def late_ticks(self) -> int:
        """Ticks closed at their deadline, in all attempts."""
        return sum(r.late_ticks for r in self.results)

    @property
    def wall_s(self) -> float:
        """From the first episode's begin to the last one's end."""
        begin = min(r.ended_unix_s - r.duration_s for r in self.results)
        return max(0.0, max(r.ended_unix_s for r in self.results) - begin)


@dataclass(frozen=True)
class OfferRecord:
    """One pack of weights that came to the policy."""

    n: int
    accepted: bool
    reason: str
    push_to_acting_ms: float | None = None
    """None until it acted."""


@dataclass
class RunRecord:
    """Everything a report is made of."""

    root: Path
    run_id: str = ""
    segments: list[SegmentRecord] = field(default_factory=list)
    offers: list[OfferRecord] = field(default_factory=list)
    judged: list[Judged] = field(default_factory=list)
    """What the learner's gate said of each version, in order; empty without a gate."""
    metrics: list[dict[str, float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What was missing or unreadable, in plain words."""

    def of(self, purpose: str) -> list[SegmentRecord]:
        """Segments of a purpose that have an episode that counts, in order."""
        return [s for s in self.segments if s.purpose == purpose and s.valid]

    @property
    def wall_s(self) -> float:
        """Time spent in the segments, without the pauses between the processes that ran them."""
        return sum(s.wall_s for s in self.segments)


def read_run(root: Path) -> RunRecord:
    """Read what is there; never raises for missing or damaged files."""
    paths = RunPaths(root)
    record = RunRecord(root, run_id=_run_id(root))
    record.segments = _segments(paths.session, record.notes)
    record.segments = _segments(RunPaths(root / DEMOS_RUN).session, record.notes) + record.segments
    if not record.segments:
        record.notes.append("session.jsonl holds no episode: the session has not finished one yet.")
    record.offers = _offers(paths.weights / LOG_NAME, record.notes)
    gate_log = paths.learner / GATE_LOG_NAME
    record.judged = _noted(read_sound_lines(gate_log, Judged), gate_log, record.notes)
    record.metrics = _metrics(paths.learner / "metrics.jsonl", record.notes)
    return record


def find_episode(root: Path, episode_id: str, images: bool = False) -> Episode | str:
    """The recorded episode of a run, or why it cannot be had."""
    try:
        name = f"{check_episode_id(episode_id)}.mcap"
    except InvalidEpisode as error:
        return str(error)
    for run in (root, root / DEMOS_RUN):
        path = RunPaths(run).episodes / name
        if path.is_file():
            try:
                return read_episode(path, images=images)
            except InrilError as error:
                return str(error)
    return f"episode {episode_id} is not in episodes/"


def number(value: Any) -> float | None:
    """A finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def _run_id(root: Path) -> str:
    try:
        content = json.loads((root / "run.json").read_text())
        run_id = content["run_id"]
    except (OSError, ValueError, KeyError, TypeError):
        return root.name
    return run_id if isinstance(run_id, str) else root.name


def _segments(path: Path, notes: list[str]) -> list[SegmentRecord]:
    grouped: dict[tuple[int, str, str], list[EpisodeResult]] = {}
    for result in _noted(read_ledger(path), path, notes):
        planned = parse_plan(result.segment)[0]
        grouped.setdefault((result.segment_index, planned.purpose, planned.unit), []).append(result)
    return [
        SegmentRecord(members[-1].segment, purpose, tuple(members))
        for (_, purpose, _), members in sorted(grouped.items(), key=lambda item: item[0])
    ]


def _noted(lines: Lines[T], path: Path, notes: list[str]) -> list[T]:
    """The sound lines; the others are counted in a note, which quotes the first."""
    if lines.problems:
        first = lines.problems[0].removeprefix(f"{path.parent}{os.sep}")
        notes.append(f"{path.name}: {len(lines.problems)} unreadable line(s) left out; the first: {first}.")
    return lines.values


def _offers(path: Path, notes: list[str]) -> list[OfferRecord]:
    """Packs in the order they came. A later line says when an accepted one began to act."""
    lines = _noted(read_weights_log(path), path, notes)
    acting: dict[tuple[str, int], float] = {}
    for line in lines:
        if isinstance(line, ActingLine):
            acting.setdefault((line.run_id, line.n), line.push_to_acting_ms)
    return [
        OfferRecord(line.n, line.accepted, line.reason, acting.get((line.run_id, line.n)) if line.accepted else None)
        for line in lines
        if isinstance(line, OfferLine)
    ]


def _metrics(path: Path, notes: list[str]) -> list[dict[str, float]]:
    """Groups of updates in order; of a group logged twice, by a learner that resumed, the newer counts."""
    groups: dict[float, dict[str, float]] = {}
    for line in _noted(read_sound_lines(path, dict[str, Any]), path, notes):
        group = dict(_numbers(line))
        if "updates" in group:
            groups[group["updates"]] = group
    return [groups[update] for update in sorted(groups)]


def _numbers(line: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in line.items():
        finite = number(value)
        if finite is not None:
            yield name, finite
