"""Pulling a pack that is too large for its announcement, while the node goes on answering."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from inril_common.calls import Calls
from inril_msgs.srv import ReadBlob

from inril_core.data.blobs import BlobCorrupt, BlobPull, BlobRefused
from inril_core.weights.signed_pack import MAX_PACK_BYTES

SERVICE = "learner/read_blob"
ATTEMPTS = 3


class WeightsPull:
    """One pack on its way. A piece that fails is asked for again, up to ATTEMPTS times in a row.

    Exactly one of `on_done` (the bytes) and `on_failure` (why) follows `start`, unless `cancel` comes first.
    `poll` of the node's Calls ends the waits.
    """

    def __init__(
        self,
        calls: Calls,
        folder: Path,
        timeout_s: float,
        on_done: Callable[[bytes], None],
        on_failure: Callable[[str], None],
    ) -> None:
        self._calls = calls
        self._folder = folder
        self._timeout_s = timeout_s
        self._on_done = on_done
        self._on_failure = on_failure
        self._failures = 0
        self._cancelled = False

    def start(self, sha256: bytes, size_bytes: int) -> None:
        """Ask for the first piece that is missing; what an earlier attempt got is kept."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"{sha256.hex()[:16]}.incoming"
            self._pull = BlobPull(sha256.hex(), size_bytes, path, MAX_PACK_BYTES)
        except (BlobRefused, OSError) as error:
            self._on_failure(str(error))
            return
        self._sha256 = sha256
        self._next()

    def cancel(self) -> None:
        """Nothing follows any more."""
        self._cancelled = True

    def _next(self) -> None:
        asked = self._pull.next_request()
        if asked is None:
            self._finish()
            return
        offset, length = asked
        request = ReadBlob.Request(sha256=np.frombuffer(self._sha256, np.uint8), offset=offset, length=length)
        self._calls.call(
            ReadBlob,
            SERVICE,
            request,
            time.monotonic_ns(),
            self._timeout_s,
            lambda reply: self._replied(offset, reply),
            self._failed,
        )

    def _replied(self, offset: int, reply: ReadBlob.Response) -> None:
        if self._cancelled:
            return
        if not reply.success:
            self._failed(reply.message)
            return
        try:
            self._pull.accept(offset, reply.size_bytes, reply.data.tobytes())
        except (BlobCorrupt, OSError) as error:
            self._failed(str(error))
            return
        self._failures = 0
        self._next()

    def _failed(self, reason: str) -> None:
        if self._cancelled:
            return
        self._failures += 1
        if self._failures >= ATTEMPTS:
            self._on_failure(f"{SERVICE}: {reason} ({ATTEMPTS} times)")
        else:
            self._next()

    def _finish(self) -> None:
        try:
            path = self._pull.finish()
            data = path.read_bytes()
            path.unlink()
        except (BlobCorrupt, OSError) as error:
            self._on_failure(str(error))
            return
        self._on_done(data)
