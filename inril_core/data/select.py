"""Which episodes of a run are meant: by purpose, success, length, person, human share, date or name."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from inril_core.data.episode import SOURCE_HUMAN, Episode
from inril_core.data.finalise import SUFFIX
from inril_core.data.index import EpisodeIndex, IndexEntry
from inril_core.data.reader import read_episode
from inril_core.errors import ConfigError, InrilError
from inril_core.vocabulary import outcome_word


@dataclass(frozen=True)
class Selection:
    """Conditions that an episode must all meet. None and empty: no condition."""

    purposes: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    """Of `OUTCOMES`, by the newest label."""
    by: str = ""
    """Who said so; ``*`` and ``?`` stand for any letters."""
    ids: tuple[str, ...] = ()
    """Patterns of episode ids, of which one must fit."""
    min_steps: int = 1
    max_steps: int | None = None
    complete: bool = False
    """Only episodes of which nothing is missing: no step, and no image; the audit found nothing."""
    human_share: tuple[float, float] = (0.0, 1.0)
    """Least and greatest share of steps in which a human was in control."""
    since: datetime | None = None
    """Of the first observation's stamp: Unix time on a real arm; a simulated clock begins at 1970."""
    until: datetime | None = None
    dropped: bool = False
    """Take also what a person left out."""

    def wants(self, index: EpisodeIndex, entry: IndexEntry) -> bool:
        """Whether the list lets an episode through."""
        success, by = index.label(entry)
        return (
            entry.steps >= max(1, self.min_steps)
            and (self.max_steps is None or entry.steps <= self.max_steps)
            and (not self.purposes or entry.purpose in self.purposes)
            and (not self.outcomes or outcome_word(success) in self.outcomes)
            and (not self.by or fnmatch.fnmatchcase(by, self.by))
            and (not self.ids or any(fnmatch.fnmatchcase(entry.episode_id, pattern) for pattern in self.ids))
            and (not self.complete or (entry.complete and not entry.problems))
            and (self.dropped or not index.dropped(entry.episode_id))
        )

    def takes(self, episode: Episode) -> bool:
        """Whether a recording that the list let through is meant."""
        share = float((episode.source == SOURCE_HUMAN).mean())
        begun = datetime.fromtimestamp(int(episode.stamps_ns[0]) / 1e9, UTC)
        return (
            self.human_share[0] <= share <= self.human_share[1]
            and (self.since is None or begun >= self.since)
            and (self.until is None or begun <= self.until)
        )


def listed(index: EpisodeIndex, selection: Selection) -> list[IndexEntry]:
    """Entries that the list lets through."""
    return [entry for entry in index.entries if selection.wants(index, entry)]


def selected(
    index: EpisodeIndex,
    selection: Selection,
    images: bool = True,
    on_progress: Callable[[int, int, str], None] = lambda done, total, name: None,
) -> Iterator[tuple[IndexEntry, Episode]]:
    """The episodes that are meant, with their newest annotations, one at a time.

    on_progress: called with episodes done, episodes in all, and the id of the one that begins.

    Raises:
        ConfigError: a file cannot be read, or has changed since it was listed.
    """
    entries = listed(index, selection)
    for done, entry in enumerate(entries):
        on_progress(done, len(entries), entry.episode_id)
        path = episode_path(index, entry.episode_id)
        try:
            episode = read_episode(path, images=images)
        except InrilError as error:
            raise ConfigError(f"{error}; leave it out with `inril data drop RUN {entry.episode_id}`") from error
        if episode.sha256 != entry.sha256:
            raise ConfigError(
                f"{path}: has changed since it was listed; restore it, or leave it out with "
                f"`inril data drop RUN {entry.episode_id}`"
            )
        if selection.takes(episode):
            yield entry, index.annotated(entry, episode)
    on_progress(len(entries), len(entries), "")


def episode_path(index: EpisodeIndex, episode_id: str) -> Path:
    """The file of a listed episode."""
    return index.path.parent / f"{episode_id}{SUFFIX}"
