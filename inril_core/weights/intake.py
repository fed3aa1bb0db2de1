"""From an offer of weights to a version that waits for its boundary, in a thread of its own."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from inril_core.blobs import Blob, BlobCorrupt, BlobLost, BlobRefused, pull_blob
from inril_core.weights.acting import ActingPolicy, Unkept, Version
from inril_core.weights.offer import Offer
from inril_core.weights.refusal import Refusal, WeightsRefused
from inril_core.weights.signed_pack import Hashed

STOP_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Announced:
    """An offer that may be worth pulling."""

    offer: Offer
    address: str
    """HOST:PORT of the blob server that has the pack."""
    published_ns: int
    """Wall clock of the learner."""


@dataclass(frozen=True)
class Decided:
    """What became of an offer."""

    announced: Announced
    refusal: WeightsRefused | None
    """None: accepted."""


@dataclass(frozen=True)
class Noted:
    """The disk says which version acts, or cannot be written."""

    version: Version | None
    problem: str = ""


class Intake:
    """Pulls, checks and keeps one pack after the other, always the newest that was announced.

    A pull that gets on is not broken off by a newer offer, or pushes that come faster than they can be pulled would
    never act; it is given up where the newer one waits and it fails.

    Args:
        folder: where packs are put together.
        key: of the installation.
        timeout_s: without a byte, after which a connection counts as lost.
        on_news: called, in another thread, when `news` has something.
    """

    def __init__(
        self, acting: ActingPolicy, folder: Path, key: bytes, timeout_s: float, on_news: Callable[[], None]
    ) -> None:
        self._acting, self._folder, self._key, self._timeout_s = acting, folder, key, timeout_s
        self._on_news = on_news
        self._news: queue.SimpleQueue[Decided | Noted] = queue.SimpleQueue()
        self._wanted: Announced | None = None
        self._under_way: Announced | None = None
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._notes = ThreadPoolExecutor(1, "weights-notes")
        self._note: Future[None] | None = None
        self._trials = ThreadPoolExecutor(1, "weights-trial")
        self._thread = threading.Thread(target=self._work, name="weights-intake", daemon=True)
        self._thread.start()

    def want(self, announced: Announced) -> None:
        """Take these weights next; an older offer that still waits is forgotten."""
        with self._changed:
            if self._under_way is not None and self._under_way.offer == announced.offer:
                return
            if self._wanted is not None and announced.offer.n < self._wanted.offer.n:
                return
            self._wanted = announced
            self._changed.notify()

    def note_active(self) -> None:
        """Have the disk say which version acts, soon."""
        if self._note is None or self._note.done():
            self._note = self._notes.submit(self._write_note)

    def news(self) -> list[Decided | Noted]:
        """What has happened since the last call, in order."""
        found = []
        while not self._news.empty():
            found.append(self._news.get())
        return found

    def close(self) -> None:
        """Stop, in bounded time; what has come of a pack is kept for the next start."""
        with self._changed:
            self._stop.set()
            self._changed.notify()
        self._thread.join(STOP_TIMEOUT_S)
        self._notes.shutdown(wait=False)
        self._trials.shutdown(wait=False)
        if self._note is not None:
            with contextlib.suppress(TimeoutError):
                self._note.result(STOP_TIMEOUT_S)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._under_way = None
                self._changed.wait_for(lambda: self._wanted is not None or self._stop.is_set())
                announced, self._wanted = self._wanted, None
                self._under_way = announced
            if announced is None or self._stop.is_set():
                return
            decided = self._take(announced)
            if decided is not None and not self._stop.is_set():
                self._tell(decided)

    def _take(self, announced: Announced) -> Decided | None:
        """What became of an offer; None: nothing, the bytes did not come and a newer one is there."""
        try:
            self._pull_and_check(announced)
        except WeightsRefused as error:
            if error.reason is Refusal.PULL_FAILED:
                if self._superseded():
                    return None
                self._acting.note_refusal(announced.offer.n, error)
            return Decided(announced, error)
        except Exception as error:  # whatever it is, the thread must live for the next offer
            text = f"n = {announced.offer.n}: {type(error).__name__}: {error}"
            return Decided(announced, self._refused(announced.offer, Refusal.TRIAL_FAILED, text))
        return Decided(announced, None)

    def _superseded(self) -> bool:
        return self._wanted is not None

    def _pull_and_check(self, announced: Announced) -> None:
        offer = announced.offer
        path = self._folder / f"{offer.digest.hex()[:32]}.pack"
        memory = self._acting.memory_for(offer)
        try:
            self._clear(path.name)
            trial = self._trials.submit(self._acting.trial)
            pull_blob(
                Blob(offer.digest, offer.size_bytes, blake3),
                announced.address,
                self._key,
                path,
                self._timeout_s,
                memory,
                stop=self._stop,
                superseded=self._superseded,
            )
        except (BlobLost, BlobRefused, BlobCorrupt) as error:
            raise WeightsRefused(Refusal.PULL_FAILED, f"n = {offer.n}: {error}") from error
        except OSError as error:
            text = f"n = {offer.n}: cannot be written to disk ({error}); free some space"
            raise self._refused(offer, Refusal.NOT_KEPT, text) from error
        try:
            pack = Hashed(memory, offer.digest)
            self._acting.take(pack, path, offer, announced.published_ns, trial.result())
        except WeightsRefused:
            path.unlink(missing_ok=True)
            raise
        except Unkept as error:
            self._tell(Noted(None, str(error)))
        except Exception:
            path.unlink(missing_ok=True)
            raise

    def _clear(self, name: str) -> None:
        """Remove what came of other packs: nobody offers them any more."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in self._folder.iterdir():
            if path.name not in (name, f"{name}.part"):
                path.unlink(missing_ok=True)

    def _refused(self, offer: Offer, reason: Refusal, text: str) -> WeightsRefused:
        error = WeightsRefused(reason, text)
        self._acting.note_refusal(offer.n, error)
        return error

    def _write_note(self) -> None:
        try:
            version = self._acting.note_active()
        except OSError as error:
            self._tell(Noted(None, error.strerror or str(error)))
            return
        if version is not None:
            self._tell(Noted(version))

    def _tell(self, news: Decided | Noted) -> None:
        self._news.put(news)
        self._on_news()
