"""What a blob server and its clients say to each other, in the frames of `inril_core.wire`.

    server  {"type": "hello", "protocol": ..., "nonce": S}
    client  {"type": "locate" or "send", "blob": digest in hex, "offset": first byte wanted, "nonce": C, "mac": ...}
    server  {"type": ..., "size_bytes": ..., "path": ..., "device": ..., "inode": ..., "came_ns": ..., "said_ns": ...,
            "mac": ...}; to ``send`` followed by the bytes from the offset to the end, outside frames
    or      {"type": "error", "message": ...}, or {"type": "busy"} at once, and the end

A mac is HMAC-SHA256 by the installation's key over both nonces and everything else in its frame: each side knows that
the other holds the key, and an old conversation is of no use. The bytes are not secret. The server's two times, of its
system clock, let the client compare the clocks as NTP does (RFC 5905, section 8).
"""

from __future__ import annotations

import hmac
import json
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from inril_core.errors import InrilError
from inril_core.wire import BadFrame, Decoder

PROTOCOL = "inril-blobs-2"
MAX_BLOB_BYTES = 2 << 30
NONCE_BYTES = 16


class BlobRefused(InrilError):
    """A blob that is not served, or not to be pulled; the message says why."""


class BlobLost(InrilError):
    """The connection gave no more bytes; what has come is kept, and a later pull goes on from there."""


class ClocksDiffer(BlobLost):
    """The clocks of the two hosts differ by more than may be; a later pull looks again."""


class Broken(Exception):
    """This connection gives no more; another one may."""


class BlobCorrupt(InrilError):
    """What came is not what was announced; it was thrown away."""


@dataclass(frozen=True)
class ClockOffset:
    """How far the server's system clock is ahead of this host's."""

    offset_s: float
    error_s: float
    """Largest error of the offset: half of the time that question and answer were under way."""

    @classmethod
    def of(cls, asked_ns: int, came_ns: int, said_ns: int, heard_ns: int) -> ClockOffset:
        """From four times: the client's when it asked and when it heard, the server's in between."""
        offset_ns = (came_ns - asked_ns + said_ns - heard_ns) / 2
        way_ns = (heard_ns - asked_ns) - (said_ns - came_ns)
        return cls(offset_ns * 1e-9, max(way_ns, 0) / 2 * 1e-9)

    @property
    def least_s(self) -> float:
        """Smallest amount by which the clocks can differ."""
        return max(abs(self.offset_s) - self.error_s, 0.0)


class Hash(Protocol):
    """What `hashlib` and `blake3` give."""

    def update(self, data: Any, /) -> Any:
        """Take in more bytes."""

    def digest(self) -> bytes:
        """Of everything so far."""


@dataclass(frozen=True)
class Blob:
    """Bytes as they are announced."""

    digest: bytes
    size_bytes: int
    new_hash: Callable[[], Hash]
    """Makes the hash that the digest is of."""


def signature(key: bytes, frame: Mapping[str, Any], nonces: tuple[str, str]) -> str:
    """The mac of a frame, in hex. nonces: the server's and the client's."""
    signed = {name: value for name, value in frame.items() if name not in ("mac", "nonce", "shape")}
    text = json.dumps([PROTOCOL, *nonces, signed], sort_keys=True)
    return hmac.digest(key, text.encode(), "sha256").hex()


def is_signed(key: bytes, frame: Mapping[str, Any], nonces: tuple[str, str]) -> bool:
    """Whether a frame carries the mac that it must have."""
    mac = frame.get("mac")
    try:
        return isinstance(mac, str) and mac.isascii() and hmac.compare_digest(mac, signature(key, frame, nonces))
    except (ValueError, RecursionError):  # it can be read and not be written: nested too deeply
        return False


def read_frame(connection: socket.socket, wait: Callable[[], None]) -> dict[str, Any] | None:
    """The next frame's header, and not one byte more; None: hung up before it began.

    wait: called before each receive; sets how long it may take, or raises to give up.

    Raises:
        BadFrame: these bytes are no frame, or the connection ended within one. OSError: as the connection.
    """
    decoder = Decoder()
    while (frame := decoder.next()) is None:
        wait()
        try:
            data = connection.recv(decoder.missing_bytes)
        except TimeoutError:
            continue
        if not data:
            if decoder.begun:
                raise BadFrame("the connection ended within a frame")
            return None
        decoder.feed(data)
    return frame[0]
