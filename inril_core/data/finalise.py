"""From the raw file of a running episode to a finished, listed recording, in steps that may be killed
anywhere.

Order: rewrite in memory, to a temporary file, sync, rename, list (with the digest), remove the raw file. What is
announced is what is listed. Rewriting the same raw file gives the same bytes, so doing it all again gives
exactly one copy.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcap.records import Channel
from mcap.writer import CompressionType, Writer

from inril_core.data.audit import audit
from inril_core.data.container import EpisodeUnreadable, Recording, read_recording
from inril_core.data.episode_writer import IDENTITY
from inril_core.data.handovers import corrections
from inril_core.data.index import EpisodeIndex, IndexEntry
from inril_core.data.reader import (
    MAX_EPISODE_BYTES,
    EpisodeEmpty,
    assemble,
    decode_topics,
    identity_of,
    load_file,
    named_images,
    stamp_ns,
)
from inril_core.data.schemas import EPISODE_EVENT, EVENT_DISCARD, IMAGE_TOPIC, IMAGE_TYPE, OBSERVATION
from inril_core.errors import InrilError
from inril_core.files import AtomicFile, sync_folder

RESULT = "inril.result"
"""Name of the MCAP metadata record that says what became of the episode."""
SUFFIX = ".mcap"
STAGES = ("rewritten", "renamed", "listed", "removed")

OnStage = Callable[[str], None]


class EpisodeConflict(InrilError):
    """The same episode_id with other content; what is listed stays, the raw file stays too."""


@dataclass(frozen=True)
class Recovery:
    """What became of one raw file."""

    path: Path
    entry: IndexEntry | None
    """None: it is not listed, because of `problem`."""
    problem: str = ""
    refused: bool = False
    """Trying again will not help, a person must look at it."""


def finalise(raw_path: Path, episodes: Path, index: EpisodeIndex, on_stage: OnStage = lambda stage: None) -> IndexEntry:
    """Finish one episode; may be repeated after a crash at any point.

    raw_path: closed by its writer, or left by one that died. episodes: folder of finished ones.
    on_stage: called after each of `STAGES`.

    Raises:
        EpisodeUnreadable: the raw file is no episode; it is left alone.
        EpisodeConflict: the episode is listed already with other content; the raw file is left alone.
        OSError: the disk is full or broken; nothing is lost, try again.
    """
    recording = read_recording(load_file(raw_path), MAX_EPISODE_BYTES)
    facts = _facts(recording, str(raw_path))
    marks = facts.pop("corrections")
    final = episodes / f"{facts['episode_id']}{SUFFIX}"
    with AtomicFile(final) as file:
        data = _rewrite(recording, {**facts, "corrections": marks})
        facts["sha256"], facts["size_bytes"] = hashlib.sha256(data).hexdigest(), len(data)
        on_stage("rewritten")
        listed = index.find(str(facts["episode_id"]))
        if listed is not None and listed.sha256 != facts["sha256"]:
            raise EpisodeConflict(
                f"{raw_path}: episode {listed.episode_id} is listed with sha256 {listed.sha256[:12]}..., "
                f"this file gives {str(facts['sha256'])[:12]}...; move the raw file away to keep both"
            )
        file.commit(data)
    on_stage("renamed")
    if listed is None:
        _drop_if_discarded(recording, str(facts["episode_id"]), index)
    entry = listed if listed is not None else index.add(**facts)
    on_stage("listed")
    raw_path.unlink()
    sync_folder(raw_path.parent)
    on_stage("removed")
    return entry


def recover(raw: Path, episodes: Path, index: EpisodeIndex) -> list[Recovery]:
    """Finish every raw file that an earlier process left, oldest first. Call it before recording begins."""
    remove_drafts(episodes)
    return [recover_one(path, episodes, index) for path in raw_files(raw)]


def remove_drafts(episodes: Path) -> None:
    """Remove what a killed `finalise` was writing."""
    for draft in episodes.glob("*.tmp"):
        draft.unlink()


def raw_files(raw: Path) -> list[Path]:
    """Raw files in a folder, oldest first."""
    return sorted(raw.glob(f"*{SUFFIX}"), key=lambda path: (path.stat().st_mtime_ns, path.name))


def recover_one(path: Path, episodes: Path, index: EpisodeIndex) -> Recovery:
    """`finalise` that reports instead of raising.

    A file that is no episode, since nothing was ever written to it or the disk lost it, is renamed to
    `.unreadable`.
    """
    try:
        return Recovery(path, finalise(path, episodes, index))
    except EpisodeUnreadable as error:
        aside = path.with_suffix(".unreadable")
        path.rename(aside)
        return Recovery(path, None, f"{error}; kept as {aside.name}", refused=True)
    except EpisodeConflict as error:
        return Recovery(path, None, str(error), refused=True)
    except (InrilError, OSError) as error:
        return Recovery(path, None, f"{path}: {error}")


_RESULT_KEYS = ("steps", "complete", "success", "by", "corrections")
"""``corrections``: a JSON list of [before_step, first_step, end_step], see `inril_core.data.handovers`."""


def _facts(recording: Recording, name: str) -> dict[str, Any]:
    identity = identity_of(recording)
    facts: dict[str, Any] = {key: identity[key] for key in ("episode_id", "run_id", "purpose")}
    facts["problems"] = audit(recording).problems
    try:
        episode = assemble(recording, "", name, images=False)
    except EpisodeEmpty:
        return {**facts, "steps": 0, "complete": False, "success": None, "by": "", "corrections": "[]"}
    return {
        **facts,
        "steps": episode.steps,
        "complete": episode.complete,
        "success": episode.success,
        "by": episode.outcome_source,
        "corrections": json.dumps(corrections(episode.source, episode.stamps_ns)),
    }


def _drop_if_discarded(recording: Recording, episode_id: str, index: EpisodeIndex) -> None:
    """A person took it out while it was recorded."""
    for _, _, event in decode_topics(recording, (EPISODE_EVENT,)):
        if event.event == EVENT_DISCARD and not index.dropped(episode_id):
            index.drop(episode_id, event.by, stamp_ns(event.header), before_listing=True)


def _rewrite(recording: Recording, facts: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    writer = Writer(file, compression=CompressionType.ZSTD)
    writer.start(profile="ros2", library="inril")
    writer.add_metadata(IDENTITY, recording.metadata[IDENTITY])
    writer.add_metadata(
        RESULT,
        {key: "" if facts[key] is None else str(facts[key]) for key in _RESULT_KEYS}
        | {"problems": json.dumps(facts["problems"])},
    )
    _copy(recording, writer)
    writer.finish()
    return file.getvalue()


def _copy(recording: Recording, writer: Writer) -> None:
    schemas = {s.id: writer.register_schema(s.name, s.encoding, s.data) for s in recording.schemas.values()}
    channels = {c.id: _register(writer, c, schemas[c.schema_id]) for c in recording.channels.values()}
    names = [name for name in recording.metadata[IDENTITY]["images"].split(",") if name]
    image_schema = next((schemas[s.id] for s in recording.schemas.values() if s.name == IMAGE_TYPE), None)
    image_channels = {}
    if names and image_schema is not None:
        image_channels = {name: writer.register_channel(IMAGE_TOPIC + name, "cdr", image_schema) for name in names}
    observations = {}
    if image_channels:
        observations = {id(record): message for _, record, message in decode_topics(recording, (OBSERVATION,))}
    for record in recording.messages:
        writer.add_message(
            channels[record.channel_id], record.log_time, record.data, record.publish_time, record.sequence
        )
        observation = observations.get(id(record))
        if observation is not None:
            for name, image in named_images(observation, names):
                writer.add_message(image_channels[name], record.log_time, image_cdr(image), record.publish_time)


def _register(writer: Writer, channel: Channel, schema_id: int) -> int:
    return writer.register_channel(channel.topic, channel.message_encoding, schema_id, channel.metadata)


def image_cdr(image: Any) -> bytes:
    """A decoded sensor_msgs/Image as little-endian CDR."""
    stamp = image.header.stamp
    out = bytearray(b"\x00\x01\x00\x00" + struct.pack("<iI", stamp.sec, stamp.nanosec))

    def align() -> None:
        out.extend(b"\x00" * (-len(out) % 4))  # the 4-byte head keeps the alignment

    def string(text: str) -> None:
        align()
        encoded = text.encode() + b"\x00"
        out.extend(struct.pack("<I", len(encoded)) + encoded)

    string(image.header.frame_id)
    align()
    out.extend(struct.pack("<II", image.height, image.width))
    string(image.encoding)
    out.extend(struct.pack("<B", image.is_bigendian))
    align()
    out.extend(struct.pack("<II", image.step, len(image.data)) + bytes(image.data))
    return bytes(out)
