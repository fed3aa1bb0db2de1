"""Writing a running episode so that whatever kills the process costs nothing that was acknowledged.

Every message is one unchunked MCAP record, handed to the kernel before the call returns: it survives the
death of the process. It does not survive a power cut: files are synced to the disk once, when the episode is
finished, because a sync for each message would cost the control rate (`finalise`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import IO, Protocol, cast

from mcap.writer import IndexType, Writer

from inril_core.contract import Contract
from inril_core.data.episode import check_episode_id
from inril_core.data.schemas import EXECUTED_ACTION, IMAGE_TYPE, OBSERVATION, TOPICS, MessageSchema
from inril_core.errors import InrilError

IDENTITY = "inril.episode"
"""Name of the MCAP metadata record that says what episode this is."""

CAMERA_BPS = 3_000_000
"""Bytes per second that are allowed for a camera at full rate: twice what 640x480 at 30 Hz was measured to need
(docs/results/recording.md)."""
STATE_BPS = 600_000
"""The same for the arm's states, at 1 kHz."""


class RecordingFailed(InrilError):
    """An episode cannot be opened or written; what was written before is intact."""


class RecordFile(Protocol):
    """What the writer needs of a file: it MUST NOT buffer."""

    def write(self, data: bytes) -> int:
        """Append all of `data`."""

    def tell(self) -> int:
        """Length so far."""

    def truncate(self, length: int) -> None:
        """Cut back to `length`."""

    def close(self) -> None:
        """Close; may be called again."""


class AppendFile:
    """An unbuffered new file. `write` returns when the kernel has all of it."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        self._length = 0

    def write(self, data: bytes) -> int:
        """Append all of `data`.

        Raises:
            OSError: the disk is full or broken; part of `data` may be in the file.
        """
        rest = memoryview(data)
        while rest:
            count = os.write(self._fd, rest)
            self._length += count
            rest = rest[count:]
        return len(data)

    def tell(self) -> int:
        """Length so far, in bytes."""
        return self._length

    def truncate(self, length: int) -> None:
        """Cut back to `length` bytes."""
        os.ftruncate(self._fd, length)
        self._length = length

    def close(self) -> None:
        """Close; may be called again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class EpisodeWriter:
    """One running episode, one file.

    path: must not exist. metadata: what is known when the episode begins (see `episode_metadata`).
    schemas: by type name (see `recorded_schemas`). streams: topics and types of what comes at a rate of its own.
    last_step_on_disk: all steps up to it can be read back whole: observation, executed action, and the
    observation after it; -1: none. An episode of T steps reaches T - 1 with its closing observation.

    Raises:
        RecordingFailed: the file exists or cannot be written.
    """

    def __init__(
        self,
        path: Path,
        episode_id: str,
        metadata: Mapping[str, str],
        schemas: Mapping[str, MessageSchema],
        open_file: Callable[[Path], RecordFile] = AppendFile,
        streams: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.path = path
        self.episode_id = check_episode_id(episode_id)
        self.last_step_on_disk = -1
        self._observed: set[int] = set()
        self._executed: set[int] = set()
        try:
            self._file = open_file(path)
        except OSError as error:
            raise RecordingFailed(f"{path}: cannot be created ({error.strerror or error})") from error
        self._writer = Writer(
            cast("IO[bytes]", self._file), index_types=IndexType.NONE, use_chunking=False, enable_crcs=False
        )
        self._good_length = 0
        self._channels: dict[str, int] = {}
        try:
            self._write_head({**metadata, "episode_id": episode_id}, schemas, streams)
        except OSError as error:
            path.unlink(missing_ok=True)  # nothing of the episode is in it
            self._fail(error)

    @property
    def size_bytes(self) -> int:
        """Length of the file."""
        return self._good_length

    def write(self, topic: str, data: bytes, log_time_ns: int, publish_time_ns: int, step: int | None = None) -> None:
        """Append one message and hand it to the kernel.

        data: CDR as it came over DDS. step: of an Observation or ExecutedAction.

        Raises:
            RecordingFailed: the disk is full or broken, or the episode is closed. The file is cut back to its
            last
                whole message and closed.
        """
        if topic not in self._channels:
            raise RecordingFailed(f"{self.path}: closed, or {topic} is not recorded")
        try:
            self._writer.add_message(self._channels[topic], log_time_ns, data, publish_time_ns)
        except OSError as error:
            self._fail(error)
        self._good_length = self._file.tell()
        if step is not None:
            self._note(topic, step)

    def close(self) -> None:
        """Close the file. It stays without an end record: `finalise` makes the finished recording."""
        self._channels.clear()
        self._file.close()

    def _write_head(
        self, metadata: Mapping[str, str], schemas: Mapping[str, MessageSchema], streams: Mapping[str, str]
    ) -> None:
        self._writer.start(profile="ros2", library="inril")
        known: dict[str, int] = {}
        for topic, type_name in {**TOPICS, **streams}.items():
            if type_name not in known:
                text = schemas[type_name].text.encode()
                known[type_name] = self._writer.register_schema(type_name, "ros2msg", text)
            self._channels[topic] = self._writer.register_channel(topic, "cdr", known[type_name])
        image_schema = schemas[IMAGE_TYPE]
        self._writer.register_schema(IMAGE_TYPE, "ros2msg", image_schema.text.encode())
        self._writer.add_metadata(IDENTITY, dict(metadata))
        self._good_length = self._file.tell()

    def _note(self, topic: str, step: int) -> None:
        if topic == OBSERVATION:
            self._observed.add(step)
        elif topic == EXECUTED_ACTION:
            self._executed.add(step)
        following = self.last_step_on_disk + 1
        while following in self._executed and {following, following + 1} <= self._observed:
            self._executed.discard(following)
            self._observed.discard(following)
            self.last_step_on_disk = following
            following += 1

    def _fail(self, error: OSError) -> None:
        with suppress(OSError):  # the reader stops at a torn record anyway
            self._file.truncate(self._good_length)
        self.close()
        raise RecordingFailed(
            f"{self.path}: cannot be written ({error.strerror or error}); the episode ends at step "
            f"{self.last_step_on_disk}. Free space or give another run_dir"
        ) from error


def episode_metadata(
    contract: Contract, run_id: str, purpose: str, seed: int, explore: bool, max_steps: int, versions: str
) -> dict[str, str]:
    """What an episode's file says of itself from its first byte on.

    versions: JSON object of package versions, for people.
    """
    return {
        "schema_version": "1",
        "run_id": run_id,
        "task": contract.task,
        "purpose": purpose,
        "seed": str(seed),
        "explore": "true" if explore else "false",
        "max_steps": str(max_steps),
        "contract": contract.text,
        "interface_digest": contract.interface_digest,
        "deployment_digest": contract.deployment_digest,
        "images": ",".join(image.name for image in contract.images if image.due(purpose)),
        "versions": versions,
    }


def estimate_episode_bytes(contract: Contract, purpose: str, max_steps: int, full_rate: bool = False) -> int:
    """Disk an episode needs at most: the raw file and the finished one, which exist together for a while.

    full_rate: each image of each camera is recorded too.

    A step has one message of each topic, whatever the rate of arm and tracker (`sensor_track`); some thirty parts
    are allowed for.
    """
    message_bytes = 6144 + 8 * (contract.state_size + 4 * contract.action.size)
    image_bytes = sum(3 * i.width_px * i.height_px + 256 for i in contract.images if i.due(purpose))
    raw_bytes = 64 * 1024 + (max_steps + 1) * (message_bytes + image_bytes)
    if full_rate:
        cameras = len({image.camera for image in contract.images})
        raw_bytes += round((max_steps + 1) / contract.control_rate_hz * (cameras * CAMERA_BPS + STATE_BPS))
    return 2 * raw_bytes + (max_steps + 1) * image_bytes
