"""Pulls finished episodes from the store, one after the other, while the node goes on training."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path

from inril_common.blob_request import BlobRequest
from inril_common.calls import Calls
from inril_msgs.msg import EpisodeReady
from inril_msgs.srv import ListEpisodes

LIST_SERVICE = "store/list_episodes"
READ_SERVICE = "store/read_blob"
LIST_LIMIT = 500
RETRY_NS = 200_000_000


class EpisodePull:
    """Follows the store's list from its beginning and pulls what is wanted, in the list's order.

    Nothing here waits: each reply leads to the next request, `step` starts what is due.

    Args:
        wanted: whether an announced episode shall be pulled.
        on_episode: gets each pulled file and its announcement; the file is its to remove. False: it is pulled and given
            again later, before any that follow.
        on_trouble: gets the reason when a request fails; the next `step` tries again.
    """

    def __init__(
        self,
        calls: Calls,
        folder: Path,
        timeout_s: float,
        wanted: Callable[[EpisodeReady], bool],
        on_episode: Callable[[Path, EpisodeReady], bool],
        on_trouble: Callable[[str], None],
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._calls, self._folder, self._timeout_s = calls, folder, timeout_s
        self._wanted, self._on_episode, self._on_trouble = wanted, on_episode, on_trouble
        self._next_index = 0
        self._queue: deque[EpisodeReady] = deque()
        self._busy = False
        self._look = True
        self._not_before_ns = 0

    def look(self) -> None:
        """The list may have grown: ask for it at the next `step`."""
        self._look = True

    @property
    def pending(self) -> int:
        """Episodes known and not yet pulled."""
        return len(self._queue)

    def step(self, now_ns: int) -> None:
        """Send the next request, unless one is under way. `now_ns` is monotonic."""
        if self._busy or now_ns < self._not_before_ns:
            return
        if self._queue:
            self._read(now_ns)
        elif self._look:
            self._look = False
            request = ListEpisodes.Request(first_index=self._next_index, limit=LIST_LIMIT)
            self._send(request, now_ns)

    def _listed(self, reply: ListEpisodes.Response) -> None:
        for ready in reply.episodes:
            self._next_index = max(self._next_index, ready.index + 1)
            if self._wanted(ready):
                self._queue.append(ready)
        self._look = self._look or len(reply.episodes) == LIST_LIMIT

    def _read(self, now_ns: int) -> None:
        ready = self._queue[0]
        sha256 = bytes(ready.sha256)

        def came(path: Path) -> None:
            self._busy = False
            if self._on_episode(path, self._queue[0]):
                self._queue.popleft()
                self.step(now_ns)  # what follows need not wait for the next tick
            else:
                self._not_before_ns = now_ns + RETRY_NS

        def failed(reason: str) -> None:
            self._busy = False
            self._look = True
            self._troubled(f"episode {ready.episode_id}: {reason}", now_ns)

        self._busy = True
        request = BlobRequest(self._calls, READ_SERVICE, self._timeout_s, 1, came, failed)
        request.start(sha256, ready.size_bytes, self._folder / f"{sha256.hex()[:32]}.mcap")

    def _troubled(self, reason: str, now_ns: int) -> None:
        self._not_before_ns = now_ns + RETRY_NS
        self._on_trouble(reason)

    def _send(self, request: ListEpisodes.Request, now_ns: int) -> None:
        def replied(reply: ListEpisodes.Response) -> None:
            self._busy = False
            self._listed(reply)
            self.step(now_ns)

        def failed(reason: str) -> None:
            self._busy = False
            self._look = True
            self._troubled(reason, now_ns)

        self._busy = True
        self._calls.call(ListEpisodes, LIST_SERVICE, request, now_ns, self._timeout_s, replied, failed)
