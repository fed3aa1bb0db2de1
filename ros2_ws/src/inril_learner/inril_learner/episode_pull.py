"""Pulls finished episodes from the store, one after the other, while the node goes on training."""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from inril_common.calls import Calls
from inril_msgs.msg import EpisodeReady
from inril_msgs.srv import ListEpisodes

from inril_core.blobs import Blob, ClockOffset, pull_blob
from inril_core.data.said import Said, SaidStretch
from inril_core.errors import InrilError
from inril_core.vocabulary import Label, Mark

LIST_SERVICE = "store/list_episodes"
LIST_LIMIT = 500
RETRY_NS = 200_000_000


class EpisodePull:
    """Follows the store's list from its beginning and pulls what is wanted, in the list's order; what people said of an
    episode since it was listed makes it come again.

    Nothing here waits: a thread pulls, and `step` starts what is due and takes what has come.

    Args:
        key: of the installation.
        timeout_s: for an answer of the store, and without a byte of an episode.
        wanted: whether an announced episode shall be pulled.
        on_episode: gets each pulled file and its announcement; the file is its to remove, and MUST NOT be written to.
            False: it is pulled and given again later, before any that follow.
        on_trouble: gets the reason when a request fails; a later `step` tries again.
    """

    def __init__(
        self,
        calls: Calls,
        folder: Path,
        key: bytes,
        timeout_s: float,
        wanted: Callable[[EpisodeReady], bool],
        on_episode: Callable[[Path, EpisodeReady], bool],
        on_trouble: Callable[[str], None],
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._calls, self._folder, self._key, self._timeout_s = calls, folder, key, timeout_s
        self._wanted, self._on_episode, self._on_trouble = wanted, on_episode, on_trouble
        self._next_index = self._after_line = 0
        self._address = ""
        self._queue: deque[EpisodeReady] = deque()
        self._asking = False
        self._look = True
        self._not_before_ns = 0
        self._stop = threading.Event()
        self.clock: ClockOffset | None = None
        """Newest comparison of the store's clock with this host's."""
        self._worker = ThreadPoolExecutor(1, "episode-pull")
        self._coming: Future[Path] | None = None

    def look(self) -> None:
        """The list may have grown: ask for it at the next `step`."""
        self._look = True

    @property
    def pending(self) -> int:
        """Episodes known and not yet pulled."""
        return len(self._queue)

    def step(self, now_ns: int) -> None:
        """Take what has come, and start what is due. `now_ns` is monotonic."""
        if self._coming is not None and self._coming.done():
            coming, self._coming = self._coming, None
            self._came(coming, now_ns)
        if self._asking or self._coming is not None or now_ns < self._not_before_ns:
            return
        if self._look:  # first, because a store that was started again has another address
            self._ask(now_ns)
        elif self._queue:
            self._coming = self._worker.submit(self._pull, self._queue[0], self._address)

    def close(self) -> None:
        """Pull nothing more; what has come of an episode is kept for the next start."""
        self._stop.set()
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _pull(self, ready: EpisodeReady, address: str) -> Path:
        digest = bytes(ready.sha256)
        path = self._folder / f"{digest.hex()[:32]}.mcap"
        blob = Blob(digest, ready.size_bytes, hashlib.sha256)
        pull_blob(blob, address, self._key, path, self._timeout_s, stop=self._stop, on_clock=self._compared)
        return path

    def _compared(self, offset: ClockOffset) -> None:
        self.clock = offset

    def _came(self, coming: Future[Path], now_ns: int) -> None:
        ready = self._queue[0]
        try:
            path = coming.result()
        except (InrilError, OSError) as error:
            self._look = True
            self._troubled(f"episode {ready.episode_id}: {error}", now_ns)
            return
        if self._on_episode(path, ready):
            self._queue.popleft()
        else:
            self._not_before_ns = now_ns + RETRY_NS

    def _ask(self, now_ns: int) -> None:
        def replied(reply: ListEpisodes.Response) -> None:
            self._asking = False
            self._listed(reply)
            self.step(now_ns)

        def failed(reason: str) -> None:
            self._asking = False
            self._look = True
            self._troubled(reason, now_ns)

        self._look, self._asking = False, True
        request = ListEpisodes.Request(first_index=self._next_index, after_line=self._after_line, limit=LIST_LIMIT)
        self._calls.call(ListEpisodes, LIST_SERVICE, request, now_ns, self._timeout_s, replied, failed)

    def _listed(self, reply: ListEpisodes.Response) -> None:
        self._address = reply.address
        for ready in reply.episodes:
            self._next_index = max(self._next_index, ready.index + 1)
            if self._wanted(ready):
                self._queue.append(ready)
        for ready in reply.revised:
            self._after_line = max(self._after_line, ready.line)
            queued = any(known.episode_id == ready.episode_id and known.line == ready.line for known in self._queue)
            # those from _next_index on come in their turn, but for those that were dropped: they are listed here alone
            comes_later = ready.index >= self._next_index and not ready.left_out
            if not comes_later and not queued and self._wanted(ready):
                self._queue.append(ready)
        self._look = self._look or LIST_LIMIT in (len(reply.episodes), len(reply.revised))

    def _troubled(self, reason: str, now_ns: int) -> None:
        self._not_before_ns = now_ns + RETRY_NS
        self._on_trouble(reason)


def said_of(ready: EpisodeReady) -> Said:
    """What people said of an announced episode."""
    stretches = tuple(
        SaidStretch(s.first_step, s.last_step, None, float(s.reward))
        if s.gives_reward
        else SaidStretch(s.first_step, s.last_step, Mark(s.mark))
        for s in ready.stretches
    )
    success = Label(ready.label).success if ready.label in set(Label) else None
    return Said(ready.steps, success, ready.by, ready.left_out, stretches)
