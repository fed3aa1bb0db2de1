"""Reading MCAP files that may be cut short, damaged or hostile: bounded in memory, and never a guess."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO

import zstandard
from mcap.exceptions import McapError
from mcap.records import Channel, Chunk, Footer, McapRecord, Message, Metadata, Schema
from mcap.stream_reader import StreamReader, breakup_chunk

from inril_core.errors import InrilError

MAX_CHUNK_BYTES = 64 << 20
MAX_SCHEMA_BYTES = 256 << 10

_DAMAGE = (McapError, struct.error, zstandard.ZstdError, ValueError, OverflowError, MemoryError)


class EpisodeUnreadable(InrilError):
    """A file that is no episode, or not safely one; the message says why."""


@dataclass
class Recording:
    """The records of a file, in file order."""

    metadata: dict[str, dict[str, str]] = field(default_factory=dict)
    schemas: dict[int, Schema] = field(default_factory=dict)
    channels: dict[int, Channel] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    finished: bool = False
    """The file has chunks, as only a finished recording does."""
    closed: bool = False
    """Its footer is there."""


def read_recording(data: bytes, max_bytes: int) -> Recording:
    """Take a file apart.

    A file without chunks is one whose recorder may have died: what comes before a torn or unreadable record
    is returned. A file with chunks was closed once, so there damage is an error.

    Raises:
        EpisodeUnreadable: not MCAP, damaged, or larger than `max_bytes` once unpacked.
    """
    recording = Recording()
    try:
        for record in _records(data, recording, max_bytes):
            if isinstance(record, Message):
                recording.messages.append(record)
            elif isinstance(record, Metadata):
                recording.metadata[record.name] = record.metadata
            elif isinstance(record, Channel):
                recording.channels[record.id] = record
            elif isinstance(record, Schema):
                recording.schemas[record.id] = record
            elif isinstance(record, Footer):
                recording.closed = True
    except _DAMAGE as error:
        if recording.finished or not recording.channels:
            raise EpisodeUnreadable(f"not a readable MCAP file: {type(error).__name__} {error}".rstrip()) from error
    if recording.finished and not recording.closed:
        raise EpisodeUnreadable("a finished recording without its end: the file is cut short")
    return recording


def _records(data: bytes, recording: Recording, max_bytes: int) -> Iterator[McapRecord]:
    unpacked = 0
    reader = StreamReader(BytesIO(data), emit_chunks=True, record_size_limit=len(data))
    for record in reader.records:
        if not isinstance(record, Chunk):
            yield record
            continue
        recording.finished = True
        size = record.uncompressed_size
        if record.compression == "zstd":
            # The frame states its own size, which the decompressor would allocate unasked.
            size = max(size, zstandard.frame_content_size(record.data))
        elif record.compression:
            raise EpisodeUnreadable(f"chunk compression {record.compression[:20]!r}: only zstd is read")
        unpacked += size
        if size > MAX_CHUNK_BYTES or unpacked > max_bytes:
            raise EpisodeUnreadable(f"unpacks to {unpacked} bytes or more; at most {max_bytes} are read")
        yield from breakup_chunk(record, validate_crc=True)
