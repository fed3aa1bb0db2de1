"""Serving finished episodes: what is listed, and when it may be announced."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from inril_core.data.finalise import SUFFIX
from inril_core.data.index import EpisodeIndex, IndexEntry
from inril_core.data.said import Said


@dataclass(frozen=True)
class Announcement:
    """A listed episode with all that was said of it."""

    entry: IndexEntry
    said: Said
    line: int
    """Number of the list's newest line that says something of it."""


class EpisodeStore:
    """Follows the list of a run's episodes, in order.

    Args:
        folder: of the finished episodes.
        label_timeout_s: an unlabelled episode is announced this long (monotonic) after it was listed; until then it
            holds back those after it, so that the list has no gaps.
        serve: called with the SHA-256 and the file of each episode before it is announced.
    """

    def __init__(
        self,
        folder: Path,
        label_timeout_s: float = 10.0,
        serve: Callable[[bytes, Path], None] = lambda digest, path: None,
    ) -> None:
        self.folder = folder
        self._index = EpisodeIndex(folder)
        self._serve = serve
        self._label_timeout_ns = int(label_timeout_s * 1e9)
        self._seen_ns: list[int] = []
        self._announced: list[Announcement] = []

    def poll(self, now_ns: int) -> list[Announcement]:
        """What is to be announced now: newly ready episodes, and those of which something new was said.

        Raises:
            OSError: the list is there and cannot be read.
        """
        self._index.refresh()
        self._seen_ns += [now_ns] * (len(self._index.entries) - len(self._seen_ns))
        news = self._revised()
        while len(self._announced) < len(self._index.entries):
            position = len(self._announced)
            announcement = self._announcement(self._index.entries[position])
            waits = announcement.said.success is None and self._offered(announcement.entry)
            if waits and now_ns - self._seen_ns[position] < self._label_timeout_ns:
                break
            self._announced.append(announcement)
            self._serve(bytes.fromhex(announcement.entry.sha256), self.path(announcement.entry.episode_id))
            if self._offered(announcement.entry):
                news.append(announcement)
        return news

    @property
    def problems(self) -> list[str]:
        """Lines of the list that are left out because they are not sound, with file, line and reason."""
        return self._index.problems

    @property
    def total(self) -> int:
        """Length of the part of the list that is announced."""
        return len(self._announced)

    def listed(self, first_index: int, limit: int) -> list[Announcement]:
        """Announced episodes with an index of `first_index` or more, at most `limit`; without those that have no
        whole step or were dropped."""
        begin = bisect_left(self._announced, first_index, key=lambda announced: announced.entry.index)
        found = (a for a in self._announced[begin:] if self._offered(a.entry))
        return list(islice(found, limit))

    def revised(self, after_line: int, limit: int) -> list[Announcement]:
        """Announced episodes of which a line behind `after_line` says something, at most `limit`, in the order of
        these lines; also those that were dropped."""
        found = (a for a in self._announced if a.line > after_line and a.entry.steps > 0)
        return sorted(found, key=lambda announced: announced.line)[:limit]

    def entries(self) -> list[IndexEntry]:
        """Everything listed that has a whole step and was not dropped, announced or not."""
        self._index.refresh()
        return [entry for entry in self._index.entries if self._offered(entry)]

    def path(self, episode_id: str) -> Path:
        """The episode's file."""
        return self.folder / f"{episode_id}{SUFFIX}"

    def _offered(self, entry: IndexEntry) -> bool:
        return entry.steps > 0 and not self._index.dropped(entry.episode_id)

    def _announcement(self, entry: IndexEntry) -> Announcement:
        return Announcement(entry, self._index.said(entry), self._index.newest_line(entry.episode_id))

    def _revised(self) -> list[Announcement]:
        news = []
        for position, announced in enumerate(self._announced):
            if self._index.newest_line(announced.entry.episode_id) > announced.line:
                self._announced[position] = now = self._announcement(announced.entry)
                if now.said != announced.said and now.entry.steps > 0:
                    news.append(now)
        return news
