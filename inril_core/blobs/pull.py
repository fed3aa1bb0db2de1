"""Pulls a blob into a file, and into memory where it is needed there: resumable, bounded in time, checked."""

from __future__ import annotations

import errno
import os
import secrets
import socket
import stat
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inril_core.backoff import wait_s
from inril_core.blobs.protocol import (
    MAX_BLOB_BYTES,
    NONCE_BYTES,
    PROTOCOL,
    Blob,
    BlobCorrupt,
    BlobLost,
    BlobRefused,
    Broken,
    ClockOffset,
    ClocksDiffer,
    is_signed,
    read_frame,
    signature,
)
from inril_core.wire import BadFrame, encode, split_address

CHUNK_BYTES = 1 << 20
AHEAD_CHUNKS = 4  # received and not yet hashed and written
FAILURES = 5  # connections in a row that bring nothing, after which the pull gives up
RETRY_MIN_S, RETRY_MAX_S = 0.1, 2.0
MIN_RATE_BPS = 250_000  # bytes/s; a pull that is slower as a whole is given up
MAX_CLOCK_OFFSET_S = 0.1  # between the system clocks of two hosts; stamps of the one are compared on the other
POLL_S = 0.5  # how often a wait looks whether it was stopped
DISK_RESERVE_BYTES = 16 << 20  # what else may be written meanwhile


def pull_blob(
    blob: Blob,
    address: str,
    key: bytes,
    path: Path,
    timeout_s: float = 10.0,
    memory: NDArray[np.uint8] | None = None,
    stop: threading.Event | None = None,
    superseded: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
    wall_ns: Callable[[], int] = time.time_ns,
    on_clock: Callable[[ClockOffset], None] = lambda offset: None,
) -> None:
    """Pull ``blob`` from the server at ``address`` into ``path``; call again to go on where it broke off.

    What has come lies in ``path`` + ``.part`` until all is there and the digest is right. From a server on the same
    file system the file is taken by a hard link, so ``path`` MUST NOT be written to. Nothing is synced to disk.

    Args:
        key: of the installation; the server must have it too.
        timeout_s: without a byte, after which a connection counts as lost.
        memory: uint8[size_bytes]; the digest is then of these very bytes.
        stop: set by another thread, ends the pull soon.
        superseded: whether there is something better to pull; then a lost connection ends the pull.
        clock: monotonic, s.
        wall_ns: this host's system clock.
        on_clock: called with each comparison with the server's clock, also in the thread of this call.

    Raises:
        ClocksDiffer: from the server's clock, by more than `MAX_CLOCK_OFFSET_S` for sure; no byte was pulled.
        BlobRefused: the announced size is not 1 to `MAX_BLOB_BYTES`, or the server does not serve it, or has
            another key.
        BlobLost: the server is not there, has no place, or is silent or too slow; or ``stop`` was set.
        BlobCorrupt: other bytes than announced; a later pull starts anew.
        OSError: the disk is full or broken.
    """
    if not 1 <= blob.size_bytes <= MAX_BLOB_BYTES:
        raise BlobRefused(f"announced with {blob.size_bytes} bytes; 1 to {MAX_BLOB_BYTES} are pulled")
    if memory is not None and memory.shape != (blob.size_bytes,):
        raise ValueError(f"memory{list(memory.shape)}: must be [{blob.size_bytes}]")
    path.parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(1, "blob") as helper:
        stop = stop or threading.Event()
        pull = _Pull(blob, address, key, path, timeout_s, memory, stop, clock, helper, wall_ns, on_clock)
        pull.run(superseded)


class _Pull:
    def __init__(
        self,
        blob: Blob,
        address: str,
        key: bytes,
        path: Path,
        timeout_s: float,
        memory: NDArray[np.uint8] | None,
        stop: threading.Event,
        clock: Callable[[], float],
        helper: ThreadPoolExecutor,
        wall_ns: Callable[[], int],
        on_clock: Callable[[ClockOffset], None],
    ) -> None:
        self._blob, self._address, self._key, self._path = blob, address, key, path
        self._timeout_s, self._stop, self._clock = timeout_s, stop, clock
        self._wall_ns, self._on_clock = wall_ns, on_clock
        self._helper = helper  # hashes and writes, in order, while the next bytes come
        self._part = path.with_name(path.name + ".part")
        ring = min(blob.size_bytes, (AHEAD_CHUNKS + 1) * CHUNK_BYTES)
        self._whole = memory is not None
        self._memory = (np.empty(ring, np.uint8) if memory is None else memory).data
        self._have = 0
        self._hash = blob.new_hash()
        self._disk_failed = False
        self._work: deque[Future[None]] = deque()

    def run(self, superseded: Callable[[], bool]) -> None:
        """See `pull_blob`."""
        ends_s = self._clock() + self._timeout_s + self._blob.size_bytes / MIN_RATE_BPS
        failures = 0
        self._take_part()
        while self._have < self._blob.size_bytes:
            before = self._have
            try:
                self._converse(ends_s)
            except (Broken, BadFrame) as error:
                self._drain()
                failures = 1 if self._have > before else failures + 1
                given_up = self._clock() > ends_s or self._stop.is_set() or superseded()
                if failures >= FAILURES or given_up:
                    times = f" ({failures} times)" if failures > 1 else ""
                    raise BlobLost(f"{self._address}: {error}{times}") from error
                self._stop.wait(wait_s(failures - 1, RETRY_MIN_S, RETRY_MAX_S))
        self._finish()

    def _converse(self, ends_s: float) -> None:
        """One connection: until all bytes are here, or an error that another connection may not have."""
        try:
            place = split_address(self._address)
        except ValueError as error:
            raise BlobRefused(str(error)) from error
        if self._stop.is_set():
            raise Broken("stopped")
        try:
            opened = socket.create_connection(place, min(self._timeout_s, max(POLL_S, ends_s - self._clock())))
        except OSError as error:
            raise Broken(_no_connection(error)) from error
        with opened as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            talk = _Talk(connection, self._key, self._timeout_s, ends_s, self._stop, self._clock)
            talk.greet()
            if self._have == 0 and self._link(self._ask(talk, "locate", 0)):
                self._take_part()
            if self._have < self._blob.size_bytes:
                self._check_room()
                self._ask(talk, "send", self._have)
                self._stream(talk)

    def _ask(self, talk: _Talk, kind: str, offset: int) -> dict[str, Any]:
        """The server's answer, if the clocks agree."""
        asked_ns = self._wall_ns()
        answer = talk.ask(kind, self._blob, offset)
        heard_ns = self._wall_ns()
        came_ns, said_ns = (_time_ns(answer, name) for name in ("came_ns", "said_ns"))
        clock = ClockOffset.of(asked_ns, came_ns, said_ns, heard_ns)
        self._on_clock(clock)
        if clock.least_s > MAX_CLOCK_OFFSET_S:
            side = "ahead of" if clock.offset_s > 0 else "behind"
            raise ClocksDiffer(
                f"{self._address}: that host's clock is {abs(clock.offset_s):.3f} s (to {clock.error_s:.3f} s) {side} "
                f"this one's, and {MAX_CLOCK_OFFSET_S} s are allowed; synchronise both hosts by NTP (chrony: "
                "`chronyc tracking` says the offset), nothing is pulled until then"
            )
        return answer

    def _link(self, found: dict[str, Any]) -> bool:
        """Have the server's file itself as the part, where it is on this file system."""
        source = Path(str(found.get("path")))
        try:
            if self._is_that(source, found):
                self._part.unlink(missing_ok=True)
                os.link(source, self._part, follow_symlinks=False)
                if self._is_that(self._part, found):
                    return True
                self._part.unlink()
        except (OSError, ValueError):  # another file system, or another host: the bytes are sent
            pass
        return False

    def _is_that(self, path: Path, found: dict[str, Any]) -> bool:
        there = os.stat(path, follow_symlinks=False)
        named = (found.get("device"), found.get("inode"), self._blob.size_bytes)
        return stat.S_ISREG(there.st_mode) and (there.st_dev, there.st_ino, there.st_size) == named

    def _take_part(self) -> None:
        """Take in what an earlier attempt, or the link, has brought."""
        try:
            fd = os.open(self._part, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        except OSError:
            self._discard()
            return
        try:
            found = os.fstat(fd)
            whole = found.st_size == self._blob.size_bytes
            if found.st_size > self._blob.size_bytes or (found.st_nlink > 1 and not whole):
                self._discard()  # a linked file belongs to the server and must not be appended to
                return
            while self._have < found.st_size:
                view = self._next_view()[: found.st_size - self._have]
                count = os.preadv(fd, [view], self._have)
                if count == 0:
                    break
                self._hand_over(view[:count], fd=-1)
            self._drain()
        finally:
            os.close(fd)

    def _check_room(self) -> None:
        room = os.statvfs(self._path.parent)
        missing = self._blob.size_bytes - self._have
        if room.f_bavail * room.f_frsize < missing + DISK_RESERVE_BYTES:
            text = f"{missing >> 20} MB are to be pulled; free some space"
            raise OSError(errno.ENOSPC, f"No space left on device: {text}", str(self._path.parent))

    def _stream(self, talk: _Talk) -> None:
        fd = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            while self._have < self._blob.size_bytes:
                view, count = self._next_view(), 0
                try:
                    while count < len(view):
                        count += talk.receive(view[count:])
                finally:
                    if count:
                        self._hand_over(view[:count], fd)
            self._drain()
        finally:
            for work in self._work:
                work.exception()  # waits: it writes to this file
            os.close(fd)

    def _next_view(self) -> memoryview:
        """Where the next bytes go, a chunk at most."""
        missing = self._blob.size_bytes - self._have
        if self._whole:
            return self._memory[self._have : self._have + min(CHUNK_BYTES, missing)]
        start = (self._have // CHUNK_BYTES * CHUNK_BYTES) % len(self._memory)
        begin = start + self._have % CHUNK_BYTES
        return self._memory[begin : min(start + CHUNK_BYTES, begin + missing, len(self._memory))]

    def _hand_over(self, view: memoryview, fd: int) -> None:
        """Have bytes hashed, and written unless ``fd`` is -1, by the helper."""
        offset, self._have = self._have, self._have + len(view)
        self._work.append(self._helper.submit(self._absorb, view, offset, fd))
        while len(self._work) >= AHEAD_CHUNKS:
            self._work.popleft().result()

    def _absorb(self, view: memoryview, offset: int, fd: int) -> None:
        self._hash.update(view)
        if fd < 0 or self._disk_failed:  # what follows a failure would leave a hole in front of it
            return
        try:
            done = 0
            while done < len(view):
                done += os.pwrite(fd, view[done:], offset + done)
        except OSError:
            self._disk_failed = True
            raise

    def _drain(self) -> None:
        while self._work:
            self._work.popleft().result()

    def _finish(self) -> None:
        found = self._hash.digest()
        if found != self._blob.digest:
            self._discard()
            raise BlobCorrupt(f"digest {found.hex()[:12]}..., announced {self._blob.digest.hex()[:12]}...")
        os.replace(self._part, self._path)

    def _discard(self) -> None:
        self._part.unlink(missing_ok=True)
        self._have, self._hash = 0, self._blob.new_hash()


class _Talk:
    """The client's side of a connection."""

    def __init__(
        self,
        connection: socket.socket,
        key: bytes,
        timeout_s: float,
        ends_s: float,
        stop: threading.Event,
        clock: Callable[[], float],
    ) -> None:
        self._connection, self._key, self._timeout_s = connection, key, timeout_s
        self._ends_s, self._stop, self._clock = ends_s, stop, clock
        self._heard_s = clock()
        self._nonces = ("", secrets.token_hex(NONCE_BYTES))

    def greet(self) -> None:
        """Hear the server's greeting."""
        hello = self._frame()
        if hello.get("protocol") != PROTOCOL or not isinstance(hello.get("nonce"), str):
            raise BlobRefused(f"greets with {str(hello)[:120]}; use one inril version on both hosts")
        self._nonces = (hello["nonce"], self._nonces[1])

    def ask(self, kind: str, blob: Blob, offset: int) -> dict[str, Any]:
        """Ask a question; the server's answer, whose mac and size are right."""
        question = {"type": kind, "blob": blob.digest.hex(), "offset": offset}
        question |= {"nonce": self._nonces[1], "mac": signature(self._key, question, self._nonces)}
        try:
            self._connection.settimeout(self._timeout_s)
            self._connection.sendall(encode(question))
        except OSError as error:
            raise Broken(str(error)) from error
        answer = self._frame()
        if not is_signed(self._key, answer, self._nonces):
            raise BlobRefused("the server does not have this installation's key; both hosts need the same key")
        if any(answer.get(name) != question[name] for name in ("type", "blob", "offset")):
            raise BlobRefused(f"the server answers another question: {str(answer)[:120]}")
        if answer.get("size_bytes") != blob.size_bytes:
            raise BlobCorrupt(f"the server has {answer.get('size_bytes')!r:.20} bytes, {blob.size_bytes} are announced")
        return answer

    def receive(self, view: memoryview) -> int:
        """Fill the beginning of ``view``; how many bytes."""
        while True:
            self._wait()
            try:
                count = self._connection.recv_into(view)
            except TimeoutError:
                continue
            except OSError as error:
                raise Broken(error.strerror or str(error)) from error
            if not count:
                raise Broken("hung up")
            self._heard_s = self._clock()
            return count

    def _frame(self) -> dict[str, Any]:
        try:
            frame = read_frame(self._connection, self._wait)
        except OSError as error:
            raise Broken(error.strerror or str(error)) from error
        if frame is None:
            raise Broken("hung up")
        if frame.get("type") == "busy":
            raise Broken("serves as many others as it can")
        if frame.get("type") == "error":
            raise BlobRefused(f"the server says: {str(frame.get('message'))[:300]}")
        self._heard_s = self._clock()
        return frame

    def _wait(self) -> None:
        """Before each receive: how long it may take, or that it took too long."""
        now_s = self._clock()
        if self._stop.is_set():
            raise Broken("stopped")
        if now_s > self._ends_s:
            raise Broken(f"fewer than {MIN_RATE_BPS} bytes a second come")
        if now_s > self._heard_s + self._timeout_s:
            raise Broken(f"silent for {self._timeout_s:g} s")
        self._connection.settimeout(POLL_S)


def _no_connection(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there; if it is another host, start that host's graph with INRIL_HOST=ITS_ADDRESS"
    return error.strerror or str(error)


def _time_ns(answer: dict[str, Any], name: str) -> int:
    time_ns = answer.get(name)
    if type(time_ns) is int and 0 <= time_ns < 1 << 63:
        return time_ns
    raise BlobRefused(f"the server answers with {name} = {time_ns!r:.40}; use one inril version on both hosts")
