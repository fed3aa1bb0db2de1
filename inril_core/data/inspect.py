"""What a run's recordings hold, in numbers, and whether every file is what it should be."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from inril_core.contract import contract_from_text
from inril_core.data.audit import Audit, audit
from inril_core.data.container import Recording, read_recording
from inril_core.data.episode import Episode
from inril_core.data.finalise import SUFFIX, raw_files
from inril_core.data.index import EpisodeIndex, IndexEntry
from inril_core.data.manage import open_run_index
from inril_core.data.reader import MAX_EPISODE_BYTES, assemble, load_file
from inril_core.data.select import episode_path
from inril_core.errors import InrilError
from inril_core.run import RunPaths
from inril_core.vocabulary import Source, outcome_word

OnProgress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Verified:
    """One file."""

    episode_id: str
    audit: Audit | None
    """None: it cannot be read."""
    problems: tuple[str, ...]
    """Empty: it is good."""


def verify_run(run_dir: Path, on_progress: OnProgress = lambda done, total, name: None) -> Iterator[Verified]:
    """Look at every listed file, one at a time: digest, records, steps, rates, gaps, numbers, definitions. Files that
    the list does not name and lines of it that are not sound come last, under their own names.

    Raises:
        ConfigError: it is no run folder, or its list cannot be read.
    """
    index = open_run_index(run_dir)
    entries = list(index.entries)
    for done, entry in enumerate(entries):
        on_progress(done, len(entries), entry.episode_id)
        yield _verify(index, entry)
    on_progress(len(entries), len(entries), "")
    for path in index.unlisted_files(SUFFIX):
        yield Verified(path.name, None, ("is not in the run's list; list it with `inril data add`, or remove it",))
    for problem in index.problems:
        yield Verified(index.path.name, None, (problem,))
    raw = RunPaths(index.path.parent.parent).raw
    for path in raw_files(raw) if raw.is_dir() else ():
        yield Verified(path.name, None, ("is not finished; a graph that is started in this folder finishes it",))


def _verify(index: EpisodeIndex, entry: IndexEntry) -> Verified:
    path = episode_path(index, entry.episode_id)
    problems: list[str] = []
    try:
        data = load_file(path)
        recording = read_recording(data, MAX_EPISODE_BYTES)
    except InrilError as error:
        return Verified(entry.episode_id, None, (str(error),))
    digest = hashlib.sha256(data).hexdigest()
    if digest != entry.sha256:
        problems.append(f"sha256 is {digest[:12]}..., listed with {entry.sha256[:12]}...: it has changed")
    found = audit(recording)
    problems += found.problems
    if entry.steps:
        problems += _content(recording, entry, str(path))
    return Verified(entry.episode_id, found, tuple(problems))


def _content(recording: Recording, entry: IndexEntry, name: str) -> list[str]:
    try:
        episode = assemble(recording, entry.sha256, name, images=True)
    except InrilError as error:
        return [str(error)]
    problems = []
    if episode.steps != entry.steps:
        problems.append(f"{episode.steps} steps can be read, {entry.steps} are listed")
    missing = np.isnan(episode.raw)
    partly = missing.any(1) & ~missing.all(1)
    if partly.any():
        problems.append(f"PolicyAction.raw is NaN in part at step {int(np.argmax(partly))}")
    try:
        contract = contract_from_text(episode.contract_text)
    except InrilError:
        return problems
    widths = (episode.observations.shape[1], episode.actions.shape[1])
    if widths != (contract.state_size, contract.action_size):
        problems.append(f"observations of {widths[0]} and actions of {widths[1]} numbers do not fit its contract")
    return problems


@dataclass
class RunInfo:
    """A run's episodes in numbers. Dropped ones are counted apart."""

    run_dir: str
    tasks: dict[str, int] = field(default_factory=dict)
    """Episodes by task."""
    interfaces: dict[str, int] = field(default_factory=dict)
    """Episodes by the first twelve digits of their interface's digest."""
    purposes: dict[str, int] = field(default_factory=dict)
    outcomes: dict[str, int] = field(default_factory=dict)
    """Episodes by success, failure and unlabelled, by the newest label."""
    labelled_by: dict[str, int] = field(default_factory=dict)
    episodes: int = 0
    dropped: int = 0
    incomplete: int = 0
    steps: int = 0
    steps_by_source: dict[str, int] = field(default_factory=dict)
    interventions: int = 0
    """Times that a human took over from the policy."""
    duration_s: float = 0.0
    rate_hz: float | None = None
    """Of all stamps: steps by duration."""
    shortest_steps: int = 0
    longest_steps: int = 0
    size_bytes: int = 0
    images: dict[str, int] = field(default_factory=dict)
    """Images by name."""
    policies: dict[str, int] = field(default_factory=dict)
    """Steps by policy version."""
    problems: list[str] = field(default_factory=list)
    """Files that cannot be read; they are not counted."""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def describe_run(run_dir: Path, on_progress: OnProgress = lambda done, total, name: None) -> RunInfo:
    """Count what is in a run, reading one file at a time.

    Raises:
        ConfigError: it is no run folder, or its list cannot be read.
    """
    index = open_run_index(run_dir)
    info = RunInfo(str(run_dir), problems=list(index.problems))
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    lengths: list[int] = []
    for done, entry in enumerate(index.entries):
        on_progress(done, len(index.entries), entry.episode_id)
        if index.dropped(entry.episode_id):
            info.dropped += 1
            continue
        info.incomplete += not entry.complete
        try:
            data = load_file(episode_path(index, entry.episode_id))
            recording = read_recording(data, MAX_EPISODE_BYTES)
            episode = assemble(recording, entry.sha256, entry.episode_id, images=True)
        except InrilError as error:
            info.problems.append(str(error))
            continue
        _count(info, counts, index, entry, episode)
        lengths.append(episode.steps)
    on_progress(len(index.entries), len(index.entries), "")
    for name, counter in counts.items():
        setattr(info, name, dict(counter.most_common()))
    info.shortest_steps, info.longest_steps = (min(lengths), max(lengths)) if lengths else (0, 0)
    info.rate_hz = info.steps / info.duration_s if info.duration_s > 0.0 else None
    return info


def _count(
    info: RunInfo, counts: dict[str, Counter[str]], index: EpisodeIndex, entry: IndexEntry, episode: Episode
) -> None:
    success, by = index.label(entry)
    counts["tasks"][episode.task] += 1
    counts["interfaces"][episode.interface_digest[:12]] += 1
    counts["purposes"][entry.purpose] += 1
    counts["outcomes"][outcome_word(success)] += 1
    counts["labelled_by"][by or "nobody"] += 1
    for source in Source:
        if (taken := int((episode.source == source).sum())) > 0:
            counts["steps_by_source"][source.word] += taken
    for name, pixels in episode.images.items():
        counts["images"][name] += len(pixels)
    for run_id, n in zip(episode.policy_run_ids, episode.policy_n.tolist(), strict=True):
        if n >= 0:
            counts["policies"][f"{run_id}/{n}"] += 1
    moving = episode.source[episode.source != Source.HOLD]
    info.interventions += int(((moving[:-1] == Source.POLICY) & (moving[1:] == Source.HUMAN)).sum())
    info.episodes += 1
    info.steps += episode.steps
    info.duration_s += float(episode.stamps_ns[-1] - episode.stamps_ns[0]) / 1e9
    info.size_bytes += entry.size_bytes
