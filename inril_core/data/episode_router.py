"""Which message belongs to which episode: without ROS.

DDS keeps the order within a topic, not between topics, so a message may come before the BEGIN of its episode
and after its END. Those that come early wait; an episode is closed when everything that it promised is there,
or at a time-out. Over 400 lines: every order in which the messages of an episode may come is handled in one place.
"""

from __future__ import annotations

import shutil
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from inril_core.data.episode import InvalidEpisode, check_episode_id
from inril_core.data.episode_writer import EpisodeWriter, RecordingFailed
from inril_core.data.fields import FieldReader
from inril_core.data.finalise import SUFFIX
from inril_core.data.schemas import (
    CELL_TRUTH,
    EPISODE_EVENT,
    EVENT_BEGIN,
    EVENT_DISCARD,
    EVENT_END,
    EVENT_LABEL,
    OBSERVATION,
    POLICY_ACTION,
    READ_FIELDS,
    SENSOR_TOPICS,
    TARGET,
    TELEOP_ACTION,
    TOPICS,
    MessageSchema,
)
from inril_core.data.sensor_track import Sample, SensorTrack, header_stamp_ns
from inril_core.vocabulary import PURPOSES, Label, Purpose

WAITING_MESSAGES = 2000
REMEMBERED_TICKS = 4096
REMEMBERED_EPISODES = 4096
STREAMS_END_BYTES = 1 << 30
"""Length of a raw file from which on streams are left out: finishing it takes several times as much memory, and
readers refuse what is larger than `MAX_EPISODE_BYTES`."""


@dataclass(frozen=True)
class RouterSettings:
    """How an episode is closed and when none is begun. Times are monotonic."""

    purposes: tuple[str, ...] = PURPOSES
    """What is recorded."""
    linger_s: float = 0.05
    """After all that an episode promised is there, the wait for answers that are still on their way."""
    close_timeout_s: float = 2.0
    """After its last observation, its END or the next BEGIN, the wait for the rest."""
    idle_timeout_s: float = 30.0
    """Without any message for this long an episode is over."""
    min_free_bytes: int = 256 << 20
    """Kept free besides what an episode needs."""


@dataclass(frozen=True)
class LateLabel:
    """A label for an episode that is no longer open."""

    episode_id: str
    success: bool | None
    by: str
    stamp_ns: int


@dataclass(frozen=True)
class LateDiscard:
    """A person takes an episode out that is no longer open."""

    episode_id: str
    by: str
    stamp_ns: int


@dataclass(frozen=True)
class _Waiting:
    topic: str
    data: bytes
    message: Any
    """Its `READ_FIELDS`."""
    stamp_ns: int
    """Of its header."""
    log_time_ns: int


@dataclass
class _Open:
    writer: EpisodeWriter
    heard_ns: int
    last_step: int | None = None
    """Of the closing observation."""
    ended: bool = False
    closing_ns: int | None = None
    """Since when the rest is awaited."""
    whole_ns: int | None = None
    """Since when no step is missing."""
    answers: Counter[str] = field(default_factory=Counter)
    """Messages that come with a step without making it."""

    @property
    def whole(self) -> bool:
        """Its END, its closing observation and all steps before that are written."""
        steps = self.last_step
        return self.ended and steps is not None and self.writer.last_step_on_disk >= steps - 1

    @property
    def answered(self) -> bool:
        """Who answered some ticks has answered all."""
        steps = self.last_step
        return steps is not None and all(count >= steps for count in self.answers.values())


@dataclass(frozen=True)
class _Refusal:
    episode_id: str
    reason: str
    since_ns: int
    permanent: bool
    """Trying again changes nothing: it stands until an episode that can be recorded begins."""


class EpisodeRouter:
    """Routes messages to the episodes that are open, and opens and closes them.

    folder: of the raw files. schemas: by type name. streams: topics and types of which each message is written to the
    running episode (`full_rate_topics`). describe: from an EpisodeEvent BEGIN and its purpose to
    the file's metadata. needed_bytes: from purpose and max_steps to the disk an episode needs. known: whether
    an episode_id was recorded before.
    """

    def __init__(
        self,
        folder: Path,
        schemas: Mapping[str, MessageSchema],
        settings: RouterSettings,
        describe: Callable[[Any, str], Mapping[str, str]],
        needed_bytes: Callable[[str, int], int] = lambda purpose, max_steps: 0,
        known: Callable[[str], bool] = lambda episode_id: False,
        free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
        streams: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.settings = settings
        self.episode_id = ""
        self.last_step_on_disk = -1
        self.unrecorded = 0
        self.words: deque[LateLabel | LateDiscard] = deque()
        """What people said of episodes that are no longer open."""
        self._folder = folder
        self._schemas = schemas
        self._describe, self._needed_bytes, self._known, self._free_bytes = (
            describe,
            needed_bytes,
            known,
            free_bytes,
        )
        self._readers = {topic: FieldReader(schemas[TOPICS[topic]], names) for topic, names in READ_FIELDS.items()}
        self._streams = dict(streams)
        self._streamed: dict[str, Sample] = {}
        """Of each stream the newest message before an episode begins: what holds at its first observation."""
        self.streams_cut = 0
        """Messages of streams that were left out, because their episode is too long for one file."""
        self._tracks = {topic: SensorTrack() for topic in SENSOR_TOPICS if topic not in streams}
        self._open: dict[str, _Open] = {}
        self._over: dict[str, None] = {}  # closed, refused or not to be recorded
        self._owners: dict[Any, str] = {}  # (boot_id, k), and k for devices that know no boot, to episode_id
        self._waiting: dict[Any, list[_Waiting]] = {}
        self._waiting_count = 0
        self._closed: list[Path] = []
        self._refusal: _Refusal | None = None

    @property
    def refusal(self) -> str:
        """Why the running episode is not, or no longer, recorded; empty if it is.

        It is empty again when that episode is over, unless its id was refused: the next attempt would be refused too.
        """
        return "" if self._refusal is None else self._refusal.reason

    @property
    def recording(self) -> bool:
        """Whether an episode is open."""
        return bool(self._open)

    def handle(self, topic: str, data: bytes, log_time_ns: int, now_ns: int) -> None:
        """Take a message as it came over DDS.

        log_time_ns: ROS time of receipt. now_ns: monotonic.

        Raises:
            ValueError: it is cut short or no such message.
        """
        try:
            sent_ns = header_stamp_ns(data)
            if topic in self._streams:
                self._write_stream(topic, Sample(sent_ns, log_time_ns, data), now_ns)
                return
            if topic in self._tracks:
                self._tracks[topic].hear(Sample(sent_ns, log_time_ns, data))
                self._write_samples(topic, self._tracks[topic].take(), now_ns)
                return
            message = self._readers[topic](data)
        except ValueError as error:
            raise ValueError(f"{topic}: {error}") from error
        waiting = _Waiting(topic, data, message, sent_ns, log_time_ns)
        if topic == EPISODE_EVENT and message.event == EVENT_BEGIN:
            self._begin(waiting, now_ns)
        else:
            self._route(waiting, now_ns)

    def poll(self, now_ns: int) -> list[Path]:
        """Close what is due and return the raw files that were closed since the last call."""
        for episode_id, episode in list(self._open.items()):
            reason = self._over_because(episode_id, episode, now_ns)
            if reason:
                self._close(episode_id)
        refusal = self._refusal
        timeout_ns = self.settings.idle_timeout_s * 1e9
        if refusal is not None and not refusal.permanent and now_ns - refusal.since_ns >= timeout_ns:
            self._refusal = None
        closed, self._closed = self._closed, []
        return closed

    def room_for(self, purpose: str, max_steps: int) -> str:
        """Why an episode does not fit on the disk and what to do; empty if it fits."""
        try:
            free = self._free_bytes(self._folder)
        except OSError as error:
            return f"{self._folder}: {error.strerror or error}; give a run_dir that can be written"
        needed = self._needed_bytes(purpose, max_steps) + self.settings.min_free_bytes
        if free >= needed:
            return ""
        return (
            f"{self._folder}: {free >> 20} MiB free, an episode needs {needed >> 20} MiB "
            "(min_free_bytes included); free space or give another run_dir"
        )

    def close_all(self) -> list[Path]:
        """Close whatever is open, at shutdown."""
        for episode_id in list(self._open):
            self._close(episode_id)
        closed, self._closed = self._closed, []
        return closed

    def _begin(self, begin: _Waiting, now_ns: int) -> None:
        event = begin.message
        episode_id = str(event.episode_id)
        if episode_id in self._open:
            return
        for other in self._open.values():  # a new episode ends the one before
            other.closing_ns = now_ns if other.closing_ns is None else other.closing_ns
        try:
            purpose = Purpose.of(event.purpose).word
        except ValueError:
            purpose = ""
        if purpose not in self.settings.purposes:
            self._forget(episode_id)
            return
        try:
            check_episode_id(episode_id)
            self._open_file(event, episode_id, purpose, now_ns)
        except InvalidEpisode as error:
            remedy = "session_node makes it of the run's id: start the graph again with a run_dir of such characters"
            self._refuse(episode_id, f"{error}; {remedy}", now_ns, permanent=True)
            return
        except RecordingFailed as error:
            self._refuse(episode_id, str(error), now_ns)
            self._forget(episode_id)
            return
        self._refusal, self.episode_id, self.last_step_on_disk = None, episode_id, -1
        self._write(episode_id, begin, now_ns)
        self._release(episode_id, now_ns)
        for topic, sample in self._streamed.items():
            self._write_samples(topic, [(episode_id, sample)], now_ns)
        self._streamed.clear()

    def _open_file(self, event: Any, episode_id: str, purpose: str, now_ns: int) -> None:
        if episode_id in self._over or self._known(episode_id):
            raise RecordingFailed(f"episode {episode_id} was recorded before; give each episode an id of its own")
        refusal = self.room_for(purpose, event.max_steps)
        if refusal:
            raise RecordingFailed(refusal)
        path = self._folder / f"{episode_id}{SUFFIX}"
        described = self._describe(event, purpose)
        writer = EpisodeWriter(path, episode_id, described, self._schemas, streams=self._streams)
        self._open[episode_id] = _Open(writer, now_ns)

    def _route(self, waiting: _Waiting, now_ns: int) -> None:
        key, owner = self._owner(waiting)
        if owner in self._open:
            self._write(owner, waiting, now_ns)
        elif owner in self._over or (waiting.topic == EPISODE_EVENT and self._known(owner)):
            self._late(waiting)
        else:
            self._wait(key, waiting)

    def _owner(self, waiting: _Waiting) -> tuple[Any, str]:
        """What the message is waited for by, and the episode it belongs to ("" while that is not known)."""
        topic, message = waiting.topic, waiting.message
        if topic == POLICY_ACTION:
            key: Any = (message.boot_id, message.k)
            return key, self._owners.get(key, "")
        if topic == TELEOP_ACTION:
            if message.synchronous:
                # k counts within a boot that the device does not name, so an episode that is over proves
                # nothing.
                owner = self._owners.get(message.k, "")
                return message.k, owner if owner in self._open else ""
            return "", next((i for i in reversed(self._open) if not self._open[i].ended), "")
        episode_id = message.reset_id if topic == CELL_TRUTH else message.episode_id
        return episode_id, episode_id

    def _write(self, episode_id: str, waiting: _Waiting, now_ns: int) -> None:
        episode, message = self._open[episode_id], waiting.message
        step = getattr(message, "step", None)
        try:
            episode.writer.write(waiting.topic, waiting.data, waiting.log_time_ns, waiting.stamp_ns, step)
        except RecordingFailed as error:
            self._refuse(episode_id, str(error), now_ns)
            self._close(episode_id)
            return
        episode.heard_ns = now_ns
        if episode_id == self.episode_id:
            self.last_step_on_disk = episode.writer.last_step_on_disk
        if waiting.topic in (POLICY_ACTION, TELEOP_ACTION, TARGET, CELL_TRUTH):
            episode.answers[waiting.topic] += 1
        elif waiting.topic == OBSERVATION:
            self._observe(episode_id, episode, waiting, now_ns)
        elif waiting.topic == EPISODE_EVENT and message.event == EVENT_END:
            episode.ended = True
            episode.closing_ns = now_ns if episode.closing_ns is None else episode.closing_ns
        if episode.whole_ns is None and episode.whole:
            episode.whole_ns = now_ns

    def _write_samples(self, topic: str, samples: list[tuple[str, Sample]], now_ns: int) -> None:
        for episode_id, sample in samples:
            episode = self._open.get(episode_id)
            if episode is None:
                continue
            try:
                episode.writer.write(topic, sample.data, sample.log_time_ns, sample.stamp_ns)
            except RecordingFailed as error:
                self._refuse(episode_id, str(error), now_ns)
                self._close(episode_id)

    def _write_stream(self, topic: str, sample: Sample, now_ns: int) -> None:
        running = next((i for i in reversed(self._open) if not self._open[i].ended), "")
        if not running:
            self._streamed[topic] = sample
        elif self._open[running].writer.size_bytes > STREAMS_END_BYTES:
            self.streams_cut += 1  # its steps are still recorded
        else:
            self._write_samples(topic, [(running, sample)], now_ns)

    def _observe(self, episode_id: str, episode: _Open, waiting: _Waiting, now_ns: int) -> None:
        message = waiting.message
        if message.last:
            episode.last_step = message.step
            episode.closing_ns = now_ns if episode.closing_ns is None else episode.closing_ns
        for topic, track in self._tracks.items():
            track.want(episode_id, waiting.stamp_ns)
            self._write_samples(topic, track.take(), now_ns)
        for key in ((message.boot_id, message.k), message.k):
            self._owners.pop(key, None)  # to the end: the oldest is forgotten first
            self._owners[key] = episode_id
            self._release(key, now_ns)
        while len(self._owners) > REMEMBERED_TICKS:
            del self._owners[next(iter(self._owners))]

    def _wait(self, key: Any, waiting: _Waiting) -> None:
        self._waiting.setdefault(key, []).append(waiting)
        self._waiting_count += 1
        while self._waiting_count > WAITING_MESSAGES:
            # What waits longest belongs to nothing that is recorded: an idle cell, a reset that no episode
            # followed.
            oldest = next(iter(self._waiting))
            self._waiting[oldest].pop(0)
            self._waiting_count -= 1
            self.unrecorded += 1
            if not self._waiting[oldest]:
                del self._waiting[oldest]

    def _release(self, key: Any, now_ns: int) -> None:
        released = self._waiting.pop(key, [])
        self._waiting_count -= len(released)
        for waiting in released:
            self._route(waiting, now_ns)

    def _late(self, waiting: _Waiting) -> None:
        message = waiting.message
        if waiting.topic != EPISODE_EVENT:
            self.unrecorded += 1
        elif message.event == EVENT_LABEL and message.label in set(Label):
            success = Label(message.label).success
            self.words.append(LateLabel(message.episode_id, success, message.by, waiting.stamp_ns))
        elif message.event == EVENT_DISCARD:
            self.words.append(LateDiscard(message.episode_id, message.by, waiting.stamp_ns))
        elif self._refusal is not None and self._refusal.episode_id == message.episode_id:
            self._refusal = None  # the episode that was not recorded is over

    def _refuse(self, episode_id: str, reason: str, now_ns: int, permanent: bool = False) -> None:
        self._refusal = _Refusal(episode_id, reason, now_ns, permanent)

    def _over_because(self, episode_id: str, episode: _Open, now_ns: int) -> str:
        settings = self.settings
        whole_ns = episode.whole_ns
        if whole_ns is not None:
            awaited = any(track.awaited_by(episode_id) for track in self._tracks.values())
            if (episode.answered and not awaited) or now_ns - whole_ns >= settings.linger_s * 1e9:
                return "whole"
        if episode.closing_ns is not None and now_ns - episode.closing_ns >= settings.close_timeout_s * 1e9:
            return "the rest did not come"
        return "nothing came" if now_ns - episode.heard_ns >= settings.idle_timeout_s * 1e9 else ""

    def _close(self, episode_id: str) -> None:
        episode = self._open.pop(episode_id)
        for topic, track in self._tracks.items():
            for _, sample in track.close(episode_id):
                with suppress(RecordingFailed):  # what is lost is one sample of an episode that is cut anyway
                    episode.writer.write(topic, sample.data, sample.log_time_ns, sample.stamp_ns)
        episode.writer.close()
        self._closed.append(episode.writer.path)
        self._forget(episode_id)

    def _forget(self, episode_id: str) -> None:
        self._over[episode_id] = None
        self._waiting_count -= len(self._waiting.pop(episode_id, []))
        while len(self._over) > REMEMBERED_EPISODES:
            del self._over[next(iter(self._over))]
