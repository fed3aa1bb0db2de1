"""Pulling a pack that is too large for its announcement, while the node goes on answering."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from inril_common.blob_request import BlobRequest
from inril_common.calls import Calls

from inril_core.weights.signed_pack import MAX_PACK_BYTES

SERVICE = "learner/read_blob"
ATTEMPTS = 3


class WeightsPull:
    """One pack on its way.

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
        self._folder = folder
        self._on_done, self._on_failure = on_done, on_failure
        self._request = BlobRequest(calls, SERVICE, timeout_s, ATTEMPTS, self._came, on_failure)

    def start(self, sha256: bytes, size_bytes: int) -> None:
        """Ask for the first piece that is missing; what an earlier attempt got is kept."""
        self._request.start(sha256, size_bytes, self._folder / f"{sha256.hex()[:16]}.incoming", MAX_PACK_BYTES)

    def cancel(self) -> None:
        """Nothing follows any more."""
        self._request.cancel()

    def _came(self, path: Path) -> None:
        try:
            data = path.read_bytes()
            path.unlink()
        except OSError as error:
            self._on_failure(str(error))
            return
        self._on_done(data)
