"""Pulling one blob through a ReadBlob service, while the node goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from inril_msgs.srv import ReadBlob

from inril_common.calls import Calls
from inril_core.data.blobs import MAX_BLOB_BYTES, BlobCorrupt, BlobPull, BlobRefused


class BlobRequest:
    """One blob on its way into a file. What an earlier request got is kept and not asked for again.

    Exactly one of ``on_done`` (the file) and ``on_failure`` (why) follows `start`, unless `cancel` comes first. `poll`
    of the node's `Calls` ends the waits.

    Args:
        service: name of the ReadBlob service.
        timeout_s: for each piece.
        attempts: so often in a row a piece is asked for.
    """

    def __init__(
        self,
        calls: Calls,
        service: str,
        timeout_s: float,
        attempts: int,
        on_done: Callable[[Path], None],
        on_failure: Callable[[str], None],
    ) -> None:
        self._calls, self._service, self._timeout_s, self._attempts = calls, service, timeout_s, attempts
        self._on_done, self._on_failure = on_done, on_failure
        self._failures = 0
        self._cancelled = False

    def start(self, sha256: bytes, size_bytes: int, path: Path, max_bytes: int = MAX_BLOB_BYTES) -> None:
        """Ask for the first piece that is missing. ``path``: where the blob shall be."""
        self._sha256 = np.frombuffer(sha256, np.uint8)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._pull = BlobPull(sha256.hex(), size_bytes, path, max_bytes)
        except (BlobRefused, OSError) as error:
            self._on_failure(str(error))
            return
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
        request = ReadBlob.Request(sha256=self._sha256, offset=offset, length=length)
        self._calls.call(
            ReadBlob,
            self._service,
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
            self._failed(f"{self._service}: {reply.message}")
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
        if self._failures < self._attempts:
            self._next()
            return
        times = f" ({self._attempts} times)" if self._attempts > 1 else ""
        self._on_failure(f"{reason}{times}")

    def _finish(self) -> None:
        try:
            path = self._pull.finish()
        except (BlobCorrupt, OSError) as error:
            self._on_failure(str(error))
            return
        self._on_done(path)
