"""The append-only list of finished episodes: `episodes.jsonl`, one line a fact, synced before it counts."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from inril_core.errors import InrilError

INDEX_NAME = "episodes.jsonl"


class IndexDamaged(InrilError):
    """A line of the list that is not the last is no fact; names file and line."""


@dataclass(frozen=True)
class IndexEntry:
    """A finished episode. `index` counts from 0; `steps` 0 means that no step was whole; `success` None:
    nobody said."""

    index: int
    episode_id: str
    run_id: str
    purpose: str
    steps: int
    complete: bool
    success: bool | None
    by: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Annotation:
    """A later label. `number` counts an episode's annotations from 1."""

    episode_id: str
    number: int
    success: bool | None
    by: str
    stamp_ns: int


class EpisodeIndex:
    """Reads the list, also while another process appends to it, and appends if it is the one that records.

    A last line without its end is one that a dying writer left: it does not count.
    Methods may be called from several threads.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / INDEX_NAME
        self.entries: list[IndexEntry] = []
        self.annotations: dict[str, list[Annotation]] = {}
        self._by_id: dict[str, IndexEntry] = {}
        self._read_bytes = 0
        self._line = 0
        self._lock = threading.RLock()
        self.refresh()

    def refresh(self) -> bool:
        """Take in what was appended since; return whether anything was.

        Raises:
            IndexDamaged: a finished line is not one of inril's.
        """
        with self._lock:
            try:
                with open(self.path, "rb") as file:
                    file.seek(self._read_bytes)
                    added = file.read()
            except FileNotFoundError:
                return False
            whole = added[: added.rfind(b"\n") + 1]
            for line in whole.splitlines():
                self._line += 1
                self._take(line)
            self._read_bytes += len(whole)
            return bool(whole)

    def find(self, episode_id: str) -> IndexEntry | None:
        """The episode's entry, if it is listed."""
        with self._lock:
            return self._by_id.get(episode_id)

    def label(self, entry: IndexEntry) -> tuple[bool | None, str]:
        """Success and who said so, by the newest annotation."""
        with self._lock:
            annotations = self.annotations.get(entry.episode_id)
            return (annotations[-1].success, annotations[-1].by) if annotations else (entry.success, entry.by)

    def add(self, **facts: Any) -> IndexEntry:
        """Append an episode; takes the fields of `IndexEntry` but `index`.

        Raises:
            OSError: the disk is full or broken; nothing was listed.
        """
        with self._lock:
            self.refresh()
            entry = IndexEntry(index=len(self.entries), **facts)
            self._append({"kind": "episode", **asdict(entry)})
            return entry

    def annotate(self, episode_id: str, success: bool | None, by: str, stamp_ns: int) -> Annotation:
        """Append a label.

        Raises:
            KeyError: no such episode. OSError: as for `add`.
        """
        with self._lock:
            self.refresh()
            if episode_id not in self._by_id:
                raise KeyError(episode_id)
            number = len(self.annotations.get(episode_id, [])) + 1
            annotation = Annotation(episode_id, number, success, by, stamp_ns)
            self._append({"kind": "annotation", **asdict(annotation)})
            return annotation

    def _append(self, fact: dict[str, Any]) -> None:
        line = json.dumps(fact, separators=(",", ":")).encode() + b"\n"
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.ftruncate(fd, self._read_bytes)  # a torn last line of an earlier writer
            os.lseek(fd, self._read_bytes, os.SEEK_SET)
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(fd, rest) :]
            os.fsync(fd)
            if self._read_bytes == 0:
                sync_folder(self.path.parent)
        except OSError:
            os.ftruncate(fd, self._read_bytes)
            raise
        finally:
            os.close(fd)
        self.refresh()

    def _take(self, line: bytes) -> None:
        try:
            fact = json.loads(line)
            kind = fact.pop("kind")
            if kind == "episode":
                entry = IndexEntry(**fact)
                if entry.index != len(self.entries) or entry.episode_id in self._by_id:
                    raise ValueError(f"index {entry.index} or episode {entry.episode_id} is out of order")
                self.entries.append(entry)
                self._by_id[entry.episode_id] = entry
            elif kind == "annotation":
                annotation = Annotation(**fact)
                self.annotations.setdefault(annotation.episode_id, []).append(annotation)
            else:
                raise ValueError(f"kind {kind!r}")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise IndexDamaged(f"{self.path}, line {self._line}: {error}; restore the file from a copy") from error


def sync_folder(folder: Path) -> None:
    """Make creations, renames and removals in a folder last."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
