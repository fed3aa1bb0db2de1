"""Serves files by their digest to whoever holds the installation's key."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import socketserver
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inril_core.blobs.protocol import NONCE_BYTES, PROTOCOL, BlobRefused, is_signed, read_frame, signature
from inril_core.errors import ConfigError
from inril_core.wire import BadFrame, encode

MAX_CLIENTS = 16
QUESTION_TIMEOUT_S = 10.0  # for a whole question, from hello or the answer before
SEND_TIMEOUT_S = 30.0  # without a byte being taken
STOP_TIMEOUT_S = 5.0


class BlobServer:
    """A TCP server in threads of its own. A client that takes bytes slowly delays nobody but itself.

    Args:
        key: of the installation.
        host: address to listen at, and to be announced: one that the other host can reach. The default is heard on
            this machine only.
        clock: monotonic, s.
        wall_ns: this host's system clock, which clients compare with theirs.

    Raises:
        ConfigError: the address is not one of this host, or stands for all of them.
    """

    def __init__(
        self,
        key: bytes,
        host: str = "127.0.0.1",
        clock: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._paths: dict[str, Path] = {}
        fix = "set INRIL_HOST to the address of this host that the other one reaches"
        if host in ("", "0.0.0.0", "::"):
            raise ConfigError(f"blob_host = {host!r}: others cannot connect to it; {fix}")
        try:
            self._server = _Server((host, 0), key, self.path, clock, wall_ns)
        except (OSError, UnicodeError) as error:
            raise ConfigError(f"blob_host = {host!r}: {getattr(error, 'strerror', None) or error}; {fix}") from error
        self.address = f"{host}:{self._server.server_address[1]}"
        """HOST:PORT, to be announced beside each digest."""
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="blobs", daemon=True)
        self._thread.start()

    def put(self, digest: bytes, path: Path) -> None:
        """Serve ``path``, whose content MUST NOT change any more; a client may keep it by a hard link."""
        self._paths[digest.hex()] = path.absolute()

    def remove(self, digest: bytes) -> None:
        """Serve it no longer, but to those who are getting it already."""
        self._paths.pop(digest.hex(), None)

    def path(self, digest: str) -> Path | None:
        """The file of a digest in hex."""
        return self._paths.get(digest)

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(STOP_TIMEOUT_S)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = MAX_CLIENTS

    def __init__(
        self,
        place: tuple[str, int],
        key: bytes,
        path: Callable[[str], Path | None],
        clock: Callable[[], float],
        wall_ns: Callable[[], int],
    ) -> None:
        self.key, self.path, self.clock, self.wall_ns = key, path, clock, wall_ns
        self.places = threading.BoundedSemaphore(MAX_CLIENTS)
        super().__init__(place, _Connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is its own affair."""


class _Connection(socketserver.BaseRequestHandler):
    server: _Server
    request: socket.socket

    def handle(self) -> None:
        """Answer questions until the client hangs up or asks what must not be answered."""
        if not self.server.places.acquire(blocking=False):
            with contextlib.suppress(OSError):
                self._say({"type": "busy"})
            return
        try:
            self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._nonce = secrets.token_hex(NONCE_BYTES)
            self._say({"type": "hello", "protocol": PROTOCOL, "nonce": self._nonce})
            while (question := self._question()) is not None:
                self._answer(question)
        except (BadFrame, BlobRefused) as error:
            self._refuse(str(error))
        except OSError:
            pass  # the client is gone, or too slow; it asks again for what it lacks
        finally:
            self.server.places.release()

    def _question(self) -> dict[str, Any] | None:
        deadline_s = self.server.clock() + QUESTION_TIMEOUT_S

        def wait() -> None:
            left_s = deadline_s - self.server.clock()
            if left_s <= 0.0:
                raise TimeoutError("no question in time")
            self.request.settimeout(left_s)

        return read_frame(self.request, wait)

    def _answer(self, question: dict[str, Any]) -> None:
        came_ns = self.server.wall_ns()
        kind, blob, offset, theirs = (question.get(name) for name in ("type", "blob", "offset", "nonce"))
        if not (isinstance(theirs, str) and len(theirs) == 2 * NONCE_BYTES):
            raise BlobRefused("the question has no nonce")
        nonces = (self._nonce, theirs)
        if not is_signed(self.server.key, question, nonces):
            raise BlobRefused("signed with another key; both hosts need the same key")
        if kind not in ("locate", "send") or not isinstance(blob, str) or type(offset) is not int:
            raise BlobRefused("not a question of this protocol; use one inril version on both hosts")
        path = self.server.path(blob)
        if path is None:
            raise BlobRefused(f"{blob[:12]}... is not served here")
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise BlobRefused(f"{path}: {error.strerror}") from error
        with open(fd, "rb", buffering=0) as file:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode) or not 0 <= offset <= found.st_size:
                raise BlobRefused(f"offset = {offset}: must be 0 to {found.st_size}, in a regular file")
            answer = {
                "type": kind,
                "blob": blob,
                "offset": offset,
                "size_bytes": found.st_size,
                "path": str(path),
                "device": found.st_dev,
                "inode": found.st_ino,
                "came_ns": came_ns,
                "said_ns": self.server.wall_ns(),
            }
            self._say({**answer, "mac": signature(self.server.key, answer, nonces)})
            if kind == "send" and offset < found.st_size:
                sent = self.request.sendfile(file, offset, found.st_size - offset)
                if sent < found.st_size - offset:
                    raise BlobRefused(f"{path}: has become shorter")  # hangs up: the client must not wait

    def _say(self, frame: dict[str, Any]) -> None:
        self.request.settimeout(SEND_TIMEOUT_S)
        self.request.sendall(encode(frame))

    def _refuse(self, message: str) -> None:
        with contextlib.suppress(OSError):
            self._say({"type": "error", "message": message[:500]})
