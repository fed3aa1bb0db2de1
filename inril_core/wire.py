"""Frames between a server and its clients: a JSON header and raw numbers; nothing in them is ever executed.

A frame, integers little-endian:

    4   magic ``INR1``
    4   size of the header, bytes
    4   size of the body, bytes
    ..  header: a JSON object, UTF-8
    ..  body: float32, little-endian, row by row; as many as the header's ``shape`` says, none without
"""

import json
import math
import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from inril_core.errors import InrilError

Array = npt.NDArray[np.float32]
MAGIC = b"INR1"
PROTOCOL = 1
MAX_HEADER_BYTES = 1 << 16
MAX_BODY_BYTES = 64 << 20
_HEAD = struct.Struct("<4sII")


class BadFrame(InrilError):
    """Bytes that are no frame, or one that is too large; what follows them cannot be understood either."""


def encode(header: dict[str, Any], numbers: Array | None = None) -> bytes:
    """A frame; ``shape`` is added to the header.

    Raises:
        BadFrame: it would be too large, or the header is not JSON (NaN is not).
    """
    body = b""
    if numbers is not None:
        header = {**header, "shape": list(numbers.shape)}
        body = np.ascontiguousarray(numbers, dtype="<f4").tobytes()
    try:
        text = json.dumps(header, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise BadFrame(f"header is not JSON: {error}") from error
    _check_sizes(len(text), len(body))
    return _HEAD.pack(MAGIC, len(text), len(body)) + text + body


class Decoder:
    """Cuts a stream of bytes into frames; holds at most one frame and what came after it."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> None:
        """Take in what was received."""
        self._bytes += data

    @property
    def begun(self) -> bool:
        """Whether a part of a frame is here and its rest is not."""
        return bool(self._bytes)

    @property
    def missing_bytes(self) -> int:
        """How many more bytes are needed to go on; whoever reads no more than these reads nothing that follows.

        Raises:
            BadFrame: these bytes begin no frame.
        """
        have = len(self._bytes)
        if have < _HEAD.size:
            return _HEAD.size - have
        magic, header_bytes, body_bytes = _HEAD.unpack_from(self._bytes)
        if magic != MAGIC:
            raise BadFrame(f"begins with {bytes(self._bytes[:4])!r}, not with {MAGIC!r}")
        _check_sizes(header_bytes, body_bytes)
        return max(0, _HEAD.size + int(header_bytes) + int(body_bytes) - have)

    def next(self) -> tuple[dict[str, Any], Array] | None:
        """The next whole frame: header and numbers in its ``shape`` (empty without); None: more bytes are needed.

        Raises:
            BadFrame: these bytes are none.
        """
        if len(self._bytes) < _HEAD.size:
            if not MAGIC.startswith(bytes(self._bytes[: len(MAGIC)])):
                raise BadFrame(f"begins with {bytes(self._bytes[:4])!r}, not with {MAGIC!r}")
            return None
        magic, header_bytes, body_bytes = _HEAD.unpack_from(self._bytes)
        if magic != MAGIC:
            raise BadFrame(f"begins with {magic!r}, not with {MAGIC!r}")
        _check_sizes(header_bytes, body_bytes)
        end = _HEAD.size + header_bytes + body_bytes
        if len(self._bytes) < end:
            return None
        frame = bytes(self._bytes[_HEAD.size : end])
        del self._bytes[:end]
        return _parse(frame[:header_bytes], frame[header_bytes:])


def _check_sizes(header_bytes: int, body_bytes: int) -> None:
    if header_bytes > MAX_HEADER_BYTES or body_bytes > MAX_BODY_BYTES:
        raise BadFrame(
            f"header of {header_bytes} and body of {body_bytes} bytes: at most {MAX_HEADER_BYTES} and {MAX_BODY_BYTES}"
        )


def _parse(text: bytes, body: bytes) -> tuple[dict[str, Any], Array]:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadFrame(f"header is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise BadFrame(f"header is a {type(header).__name__}, not an object")
    shape = header.get("shape", [0])
    sound = isinstance(shape, list) and len(shape) <= 4 and all(type(n) is int and n >= 0 for n in shape)
    # beside a 0 the other axes count as well: NumPy raises on an empty array whose axes are too large
    if not sound or 4 * math.prod(shape) != len(body) or 4 * math.prod(n or 1 for n in shape) > MAX_BODY_BYTES:
        raise BadFrame(f"shape {str(shape)[:80]} does not fit a body of {len(body)} bytes")
    return header, np.frombuffer(body, "<f4").astype(np.float32).reshape(shape)


def split_address(address: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``.

    Raises:
        ValueError: it is none.
    """
    host, _, port = address.rpartition(":")
    try:
        named = bool(host.encode("idna"))  # as the resolver will; it raises on names like "a..b"
    except UnicodeError:
        named = False
    if not named or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"address {address!r}: must be HOST:PORT, e.g. 127.0.0.1:7777")
    return host, int(port)
