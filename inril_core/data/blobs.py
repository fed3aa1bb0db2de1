"""Blobs of bytes: read one by its digest in bounded pieces, and pull it so that a break loses nothing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from inril_core.errors import InrilError
from inril_core.files import sync_folder

MAX_READ_BYTES = 1 << 20
MAX_BLOB_BYTES = 2 << 30

ReadBlob = Callable[[str, int, int], tuple[int, bytes]]
"""(sha256 hex, offset, length) to (size of the whole blob, bytes from offset on)."""


class BlobRefused(InrilError):
    """A request for bytes that cannot be met; the message says why."""


class BlobCorrupt(InrilError):
    """What was pulled is not what was announced; it was thrown away."""


class BlobShelf:
    """Files by digest, for serving."""

    def __init__(self) -> None:
        self._paths: dict[str, Path] = {}

    def put(self, sha256: str, path: Path) -> None:
        """Serve `path`, which MUST NOT change any more, as `sha256` (hex)."""
        self._paths[sha256] = path

    def read(self, sha256: str, offset: int, length: int) -> tuple[int, bytes]:
        """Size of the whole blob, and up to `length` bytes from `offset`; none at its end.

        Raises:
            BlobRefused: unknown digest, a file that is gone, or numbers out of bounds.
        """
        path = self._paths.get(sha256)
        if path is None:
            raise BlobRefused(f"sha256 {sha256[:12]}... is not served here")
        if not 1 <= length <= MAX_READ_BYTES:
            raise BlobRefused(f"length = {length}: must be 1 to {MAX_READ_BYTES}")
        try:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                if not 0 <= offset <= size:
                    raise BlobRefused(f"offset = {offset}: must be 0 to {size}")
                file.seek(offset)
                return size, file.read(length)
        except OSError as error:
            raise BlobRefused(f"{path}: {error.strerror or error}") from error


class BlobPull:
    """Pulls one blob into a file, piece by piece; goes on where an earlier attempt stopped.

    sha256: hex, as announced. path: where the blob shall be; `path` + `.part` holds what has come so far.

    Raises:
        BlobRefused: the announced size is not 1 to `max_bytes`.
    """

    def __init__(self, sha256: str, size_bytes: int, path: Path, max_bytes: int = MAX_BLOB_BYTES) -> None:
        if not 1 <= size_bytes <= max_bytes:
            raise BlobRefused(f"{path.name}: announced with {size_bytes} bytes; 1 to {max_bytes} are pulled")
        self.sha256, self.size_bytes, self.path = sha256, size_bytes, path
        self._part = path.with_name(path.name + ".part")
        self._have = self._part.stat().st_size if self._part.exists() else 0
        if self._have > size_bytes:
            self._discard()

    def next_request(self) -> tuple[int, int] | None:
        """(offset, length) to ask for now; None when all has come and `finish` is due."""
        missing = self.size_bytes - self._have
        return (self._have, min(missing, MAX_READ_BYTES)) if missing else None

    def accept(self, offset: int, size_bytes: int, data: bytes) -> None:
        """Take the answer to a request; an answer to another request is ignored.

        Raises:
            BlobCorrupt: another size than announced, or an empty or too long answer. OSError: the disk is
            full.
        """
        request = self.next_request()
        if request is None or offset != request[0]:
            return
        if size_bytes != self.size_bytes or not 1 <= len(data) <= request[1]:
            self._discard()
            raise BlobCorrupt(
                f"{self.path.name}: {len(data)} bytes of {size_bytes} came, "
                f"{request[1]} of {self.size_bytes} were asked for"
            )
        with open(self._part, "ab") as file:
            file.write(data)
        self._have += len(data)

    def finish(self) -> Path:
        """Check the digest and put the blob in place.

        Raises:
            BlobCorrupt: the digest is another; the next attempt starts anew.
        """
        with open(self._part, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
            if found == self.sha256:
                os.fsync(file.fileno())
        if found != self.sha256:
            self._discard()
            raise BlobCorrupt(f"{self.path.name}: sha256 {found[:12]}..., announced {self.sha256[:12]}...")
        os.replace(self._part, self.path)
        sync_folder(self.path.parent)
        return self.path

    def _discard(self) -> None:
        self._part.unlink(missing_ok=True)
        self._have = 0


def pull_blob(read: ReadBlob, sha256: str, size_bytes: int, path: Path, max_bytes: int = MAX_BLOB_BYTES) -> Path:
    """Pull a whole blob through `read`, which may raise to break off; call again to go on.

    Raises:
        BlobRefused, BlobCorrupt, OSError: as `BlobPull`. Whatever `read` raises.
    """
    pull = BlobPull(sha256, size_bytes, path, max_bytes)
    while (request := pull.next_request()) is not None:
        size, data = read(sha256, *request)
        pull.accept(request[0], size, data)
    return pull.finish()
