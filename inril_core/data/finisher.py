"""Finishing episodes beside the recording of the next: one thread, one file at a time, nothing given up."""

from __future__ import annotations

import queue
import threading
from pathlib import Path

from inril_core.data.episode_router import LateDiscard, LateLabel
from inril_core.data.finalise import Recovery, raw_files, recover_one, remove_drafts
from inril_core.data.index import Annotation, Drop, EpisodeIndex

RETRY_S = 5.0
MAX_BACKLOG = 64


class Finisher:
    """Finishes raw files and appends what people say of finished ones, in the order given.

    raw, episodes: folders. index: of `episodes`. What an earlier process left in `raw` comes first.
    What fails, for instance on a full disk, is tried again every 5 s.
    """

    def __init__(self, raw: Path, episodes: Path, index: EpisodeIndex) -> None:
        self._episodes, self._index = episodes, index
        self._work: queue.Queue[Path | LateLabel | LateDiscard | None] = queue.Queue()
        self._again: list[Path] = []
        self._done: queue.SimpleQueue[Recovery | Annotation | Drop | str] = queue.SimpleQueue()
        remove_drafts(episodes)
        for path in raw_files(raw):
            self._work.put(path)
        self._thread = threading.Thread(target=self._run, name="finisher", daemon=True)
        self._thread.start()

    @property
    def backlog(self) -> int:
        """Raw files and people's words that are not done yet."""
        return self._work.unfinished_tasks

    @property
    def keeps_up(self) -> bool:
        """Whether another episode may be added to the backlog."""
        return self.backlog < MAX_BACKLOG

    def submit(self, work: Path | LateLabel | LateDiscard) -> None:
        """Finish a raw file, which its writer has closed, or append what a person said of a finished one."""
        self._work.put(work)

    def results(self) -> list[Recovery | Annotation | Drop | str]:
        """What was done since the last call; text is a person's word that could not be appended."""
        done = []
        while not self._done.empty():
            done.append(self._done.get())
        return done

    def stop(self, timeout_s: float) -> bool:
        """Finish what is queued and end; return whether that was done in time. The rest waits for the next
        start."""
        self._work.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            try:
                work = self._work.get(timeout=RETRY_S)
            except queue.Empty:
                again, self._again = self._again, []
                for path in again:
                    self._finish(path)
                continue
            if work is None:
                self._work.task_done()
                return
            if not isinstance(work, Path):
                self._append(work)
                self._work.task_done()
            else:
                self._finish(work)

    def _finish(self, path: Path) -> None:
        recovery = recover_one(path, self._episodes, self._index)
        self._done.put(recovery)
        if recovery.entry is None and path.exists() and not recovery.refused:
            self._again.append(path)  # and stays unfinished
        else:
            self._work.task_done()

    def _append(self, word: LateLabel | LateDiscard) -> None:
        try:
            if isinstance(word, LateLabel):
                self._done.put(self._index.annotate(word.episode_id, word.success, word.by, word.stamp_ns))
            else:
                self._done.put(self._index.drop(word.episode_id, word.by, word.stamp_ns))
        except (KeyError, OSError) as error:
            what, again = "label", "label it again"
            if isinstance(word, LateDiscard):
                what, again = "discarding", f"use `inril data drop RUN {word.episode_id}`"
            self._done.put(f"{what} of episode {word.episode_id} by {word.by!r} is lost: {error!r}; {again}")
