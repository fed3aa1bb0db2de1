"""The append-only list of finished episodes: `episodes.jsonl`, one line a fact, synced before it counts."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, with_config

from inril_core.data.episode import EPISODE_ID, Episode
from inril_core.data.said import Said, SaidStretch
from inril_core.files import append_line, lock_file, parse_line
from inril_core.vocabulary import MARKS, PURPOSES, Mark

INDEX_NAME = "episodes.jsonl"
_LOCK_WAIT_S = 10.0

_Id = Annotated[str, StringConstraints(pattern=f"^{EPISODE_ID.pattern}$")]
_Count = Annotated[int, Field(ge=0, lt=2**63)]


@with_config(extra="forbid")
@dataclass(frozen=True)
class IndexEntry:
    """A finished episode."""

    episode_id: _Id
    run_id: str
    purpose: Annotated[str, StringConstraints(pattern=f"^({'|'.join(PURPOSES)})$")]
    steps: Annotated[int, Field(ge=0, lt=2**31)]
    """0: no step was whole."""
    complete: bool
    success: bool | None
    """None: nobody said."""
    by: str
    """Who said so."""
    sha256: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
    """Of the file, hex."""
    size_bytes: _Count
    problems: tuple[str, ...] = ()
    """What its audit found wrong at its end; empty for a good episode."""
    index: _Count = 0
    """Its place in the list, from 0, by the lines before it (not stored). A line that cannot be read leaves a gap."""
    kind: Literal["episode"] = "episode"


@with_config(extra="forbid")
@dataclass(frozen=True)
class Annotation:
    """A later label."""

    episode_id: _Id
    number: _Count
    """Counts an episode's annotations, of any kind, from 1."""
    success: bool | None
    by: str
    stamp_ns: int
    kind: Literal["annotation"] = "annotation"


@with_config(extra="forbid")
@dataclass(frozen=True)
class Drop:
    """Somebody left an episode out of all training to come, or took it in again."""

    episode_id: _Id
    dropped: bool
    """True: left out. False: taken in again."""
    by: str
    stamp_ns: int
    kind: Literal["drop"] = "drop"


@with_config(extra="forbid")
@dataclass(frozen=True)
class Stretch:
    """A later mark or reward of consecutive steps."""

    episode_id: _Id
    number: _Count
    """Counts an episode's annotations, of any kind, from 1."""
    first_step: _Count
    last_step: _Count
    """Included, as `first_step` is."""
    mark: Annotated[str, StringConstraints(pattern=f"^({'|'.join(MARKS)})$")] | None
    """A word of `Mark`; ``none`` takes marks back. None: the stretch gives a reward."""
    reward: Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)] | None
    by: str
    stamp_ns: int
    kind: Literal["stretch"] = "stretch"


Fact = IndexEntry | Annotation | Stretch | Drop
_FACT: Any = Annotated[Fact, Field(discriminator="kind")]


class EpisodeIndex:
    """Reads the list, also while another process appends to it, and appends, while a lock keeps other writers out.

    A last line without its end is one that a dying writer left: it does not count. Another line that is not sound is
    left out and named in `problems`; the episode it stood for keeps its file, which `unlisted_files` finds.
    Methods may be called from several threads.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / INDEX_NAME
        self.entries: list[IndexEntry] = []
        self.annotations: dict[str, list[Annotation]] = {}
        self.stretches: dict[str, list[Stretch]] = {}
        self.problems: list[str] = []
        self._drops: dict[str, Drop] = {}
        self._by_id: dict[str, IndexEntry] = {}
        self._newest_line: dict[str, int] = {}
        self._writers = 0
        self._next_index = 0
        self._read_bytes = 0
        self._line = 0
        self._lock = threading.RLock()
        self.refresh()

    def refresh(self) -> bool:
        """Take in what was appended since; return whether anything was.

        Raises:
            OSError: the file is there and cannot be read.
        """
        with self._lock:
            try:
                with open(self.path, "rb") as file:
                    file.seek(self._read_bytes)
                    added = file.read()
            except FileNotFoundError:
                return False
            whole = added[: added.rfind(b"\n") + 1]
            for line in whole.split(b"\n")[:-1]:
                self._line += 1
                try:
                    fact = parse_line(line, _FACT)
                    self._take(fact)
                    self._newest_line[fact.episode_id] = self._line
                except ValueError as error:
                    self.problems.append(f"{self.path}, line {self._line}: {error}; the line is left out")
                    self._next_index += 1  # it may have been an episode, whose index is never used again
            self._read_bytes += len(whole)
            return bool(whole)

    def find(self, episode_id: str) -> IndexEntry | None:
        """The episode's entry, if it is listed."""
        with self._lock:
            return self._by_id.get(episode_id)

    def newest_line(self, episode_id: str) -> int:
        """Number, from 1, of the newest line that says something of an episode; 0: none does."""
        with self._lock:
            return self._newest_line.get(episode_id, 0)

    def label(self, entry: IndexEntry) -> tuple[bool | None, str]:
        """Success and who said so, by the newest annotation."""
        with self._lock:
            annotations = self.annotations.get(entry.episode_id)
            return (annotations[-1].success, annotations[-1].by) if annotations else (entry.success, entry.by)

    def said(self, entry: IndexEntry) -> Said:
        """All that was said of a listed episode."""
        with self._lock:
            stretches = tuple(
                SaidStretch(s.first_step, s.last_step, None if s.mark is None else MARKS[s.mark], s.reward)
                for s in self.stretches.get(entry.episode_id, ())
            )
            return Said(entry.steps, *self.label(entry), self.dropped(entry.episode_id), stretches)

    def annotated(self, entry: IndexEntry, episode: Episode) -> Episode:
        """A listed recording with all that was said of it since: of each thing the newest."""
        return self.said(entry).on(episode)

    def dropped(self, episode_id: str) -> bool:
        """Whether the newest decision of a person is to leave the episode out."""
        with self._lock:
            drop = self._drops.get(episode_id)
            return drop is not None and drop.dropped

    def add(self, **facts: Any) -> IndexEntry:
        """Append an episode; takes the fields of `IndexEntry` but ``index`` and ``kind``.

        Raises:
            OSError: the disk is full or broken; nothing was listed.
        """
        with self._writing():
            self._append(IndexEntry(**facts))
            return self.entries[-1]

    def annotate(self, episode_id: str, success: bool | None, by: str, stamp_ns: int) -> Annotation:
        """Append a label.

        Raises:
            KeyError: no such episode. OSError: as for `add`.
        """
        with self._writing():
            self._must_list(episode_id)
            annotation = Annotation(episode_id, self._next_number(episode_id), success, by, stamp_ns)
            self._append(annotation)
            return annotation

    def mark(
        self,
        episode_id: str,
        steps: tuple[int, int],
        by: str,
        stamp_ns: int,
        mark: Mark | None = None,
        reward: float | None = None,
    ) -> Stretch:
        """Append a mark, or a reward, of the steps from the first to the last of ``steps``.

        Raises:
            KeyError: no such episode. ValueError: it has no such steps, or not one of mark and reward is given.
            OSError: as for `add`.
        """
        with self._writing():
            self._must_list(episode_id)
            first, last, length = *steps, self._by_id[episode_id].steps
            if not 0 <= first <= last < length:
                raise ValueError(f"steps {first} to {last}: {episode_id} has steps 0 to {length - 1}")
            if (mark is None) == (reward is None):
                raise ValueError("give a mark or a reward")
            if reward is not None and not abs(reward) <= 1e6:
                raise ValueError(f"reward = {reward}: must be within -1e6 and 1e6")
            word = None if mark is None else mark.word
            number = self._next_number(episode_id)
            stretch = Stretch(episode_id, number, first, last, word, reward, by, stamp_ns)
            self._append(stretch)
            return stretch

    def take_over(self, other: EpisodeIndex, entry: IndexEntry) -> IndexEntry:
        """Append an episode of another list, with all that was said of it there.

        Raises:
            OSError: as for `add`.
        """
        with self._writing():
            facts = {name: value for name, value in asdict(entry).items() if name not in ("index", "kind")}
            added = self.add(**facts)
            said = [*other.annotations.get(entry.episode_id, ()), *other.stretches.get(entry.episode_id, ())]
            for annotation in sorted(said, key=lambda fact: fact.number):
                self._append(annotation)
            if other.dropped(entry.episode_id):
                self._append(other._drops[entry.episode_id])
            return added

    def drop(self, episode_id: str, by: str, stamp_ns: int, dropped: bool = True, before_listing: bool = False) -> Drop:
        """Append that an episode is left out of training, or taken in again. Its file stays.

        before_listing: it is listed next, so that nobody ever sees it listed and not dropped.

        Raises:
            KeyError: no such episode. OSError: as for `add`.
        """
        with self._writing():
            if not before_listing:
                self._must_list(episode_id)
            drop = Drop(episode_id, dropped, by, stamp_ns)
            self._append(drop)
            return drop

    def unlisted_files(self, suffix: str) -> list[Path]:
        """Files with this suffix beside the list that it does not name: copied there, or listed by a damaged line."""
        with self._lock:
            return sorted(path for path in self.path.parent.glob(f"*{suffix}") if path.stem not in self._by_id)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Keep other processes from appending, and take in what they have appended."""
        with self._lock:
            if self._writers:
                yield
                return
            with open(self.path, "ab") as file:
                lock_file(file, _LOCK_WAIT_S)
                self._writers += 1
                try:
                    self.refresh()
                    yield
                finally:
                    self._writers -= 1

    def _must_list(self, episode_id: str) -> None:
        if episode_id not in self._by_id:
            raise KeyError(episode_id)

    def _next_number(self, episode_id: str) -> int:
        said = [*self.annotations.get(episode_id, ()), *self.stretches.get(episode_id, ())]
        return max((annotation.number for annotation in said), default=0) + 1

    def _append(self, fact: Fact) -> None:
        append_line(self.path, {name: value for name, value in asdict(fact).items() if name != "index"})
        self.refresh()

    def _take(self, fact: Fact) -> None:
        if isinstance(fact, Annotation):
            self.annotations.setdefault(fact.episode_id, []).append(fact)
        elif isinstance(fact, Stretch):
            self.stretches.setdefault(fact.episode_id, []).append(fact)
        elif isinstance(fact, Drop):
            self._drops[fact.episode_id] = fact
        elif fact.episode_id in self._by_id:
            raise ValueError(f"episode {fact.episode_id} is listed already")
        else:
            entry = dataclasses.replace(fact, index=self._next_index)
            self.entries.append(entry)
            self._by_id[entry.episode_id] = entry
            self._next_index += 1
