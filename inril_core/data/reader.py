"""The one reader of episodes: for running, torn, recovered and finished files alike."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mcap.records import Message

from inril_core.data.container import MAX_SCHEMA_BYTES, EpisodeUnreadable, Recording, read_recording
from inril_core.data.episode import Episode, InvalidEpisode, check_episode_id, stack_aux
from inril_core.data.episode_writer import IDENTITY
from inril_core.data.measured import Measured, measured_at
from inril_core.data.schemas import (
    CELL_TRUTH,
    COMPRESSED_TYPE,
    EPISODE_EVENT,
    EVENT_END,
    EVENT_LABEL,
    EXECUTED_ACTION,
    OBSERVATION,
    PART_POSES,
    POLICY_ACTION,
    ROBOT_STATE,
    SENSOR_TOPICS,
    TOPICS,
    Decoder,
    MessageSchema,
    decoder_for,
)
from inril_core.outcome import Said, success_of
from inril_core.vocabulary import PURPOSES, Label

MAX_EPISODE_BYTES = 2 << 30
_JOINED = (OBSERVATION, EXECUTED_ACTION, POLICY_ACTION, CELL_TRUTH, EPISODE_EVENT)


class EpisodeEmpty(EpisodeUnreadable):
    """A sound file in which no step is whole."""


def read_episode(
    path: str | Path, images: bool = True, max_bytes: int = MAX_EPISODE_BYTES, measured: bool = False
) -> Episode:
    """Read an episode file, finished or left by a recorder that died.

    Topics are joined by (boot_id, k); repeated messages count once. The episode is cut at the first step that
    is not whole and then marked incomplete.
    images: decode them too; without, `Episode.images` is empty. measured: also what arm and tracker measured, in
    `Episode.measured`.

    Raises:
        EpisodeUnreadable: missing, damaged, of other types, or not finite; the message says where.
        EpisodeEmpty: nothing wrong, but no whole step.
    """
    return parse_episode(load_file(Path(path), max_bytes), str(path), images, max_bytes, measured)


def load_file(path: Path, max_bytes: int = MAX_EPISODE_BYTES) -> bytes:
    """The bytes of a file that is not too large.

    Raises:
        EpisodeUnreadable: it cannot be read or is larger than `max_bytes`.
    """
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise EpisodeUnreadable(f"{path}: {size} bytes; at most {max_bytes} are read")
        return path.read_bytes()
    except OSError as error:
        raise EpisodeUnreadable(f"{path}: {error.strerror or error}") from error


def parse_episode(
    data: bytes, name: str, images: bool = True, max_bytes: int = MAX_EPISODE_BYTES, measured: bool = False
) -> Episode:
    """`read_episode` on bytes; `name` is for messages."""
    try:
        recording = read_recording(data, max_bytes)
    except EpisodeUnreadable as error:
        raise EpisodeUnreadable(f"{name}: {error}") from error
    return assemble(recording, hashlib.sha256(data).hexdigest(), name, images, measured)


def assemble(recording: Recording, sha256: str, name: str, images: bool = True, measured: bool = False) -> Episode:
    """`read_episode` on the records of a file."""
    try:
        return _assemble(recording, sha256, images, measured)
    except EpisodeEmpty as error:
        raise EpisodeEmpty(f"{name}: {error}") from error
    except (EpisodeUnreadable, InvalidEpisode) as error:
        raise EpisodeUnreadable(f"{name}: {error}") from error
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise EpisodeUnreadable(f"{name}: its definitions are not inril's ({type(error).__name__} {error})") from error


@dataclass
class _Joined:
    """Decoded messages. Of repeated ones the first counts."""

    observations: dict[tuple[str, int], Any] = field(default_factory=dict)
    executed: dict[tuple[str, int], Any] = field(default_factory=dict)
    answers: dict[tuple[str, int], Any] = field(default_factory=dict)
    truths: list[Any] = field(default_factory=list)
    events: list[Any] = field(default_factory=list)


def _assemble(recording: Recording, sha256: str, images: bool, measured: bool) -> Episode:
    identity = identity_of(recording)
    joined = _join(recording, identity["episode_id"])
    ticks, whole = _whole_steps(joined)
    observations = [joined.observations[tick] for tick in ticks]
    executed = [joined.executed[tick] for tick in ticks[:-1]]
    answers = [joined.answers.get(tick) for tick in ticks[:-1]]
    outcome = observations[-1].outcome
    actions = _rows([e.executed for e in executed], np.float32, "ExecutedAction.executed")
    stamps = np.array([stamp_ns(o.header) for o in observations], np.int64)
    qpos, cell_success = _truth_at(joined.truths, stamps)
    said = success_of(outcome, _labels(joined.events), cell_success)
    pixels, image_steps = _images(observations, _names(identity["images"])) if images else ({}, {})
    return Episode(
        episode_id=identity["episode_id"],
        run_id=identity["run_id"],
        task=identity["task"],
        purpose=identity["purpose"],
        seed=int(identity["seed"]),
        explore=identity["explore"] == "true",
        contract_text=identity["contract"],
        interface_digest=identity["interface_digest"],
        deployment_digest=identity["deployment_digest"],
        observations=_rows([o.state for o in observations], np.float32, "Observation.state"),
        actions=actions,
        proposed=_rows([e.proposed for e in executed], np.float32, "ExecutedAction.proposed"),
        raw=_raw(answers, actions.shape[1]),
        log_prob=np.array([np.nan if a is None else a.log_prob for a in answers], np.float32),
        aux=_aux(answers),
        chunk_index=np.array([-1 if a is None else a.chunk_index for a in answers], np.int32),
        source=np.array([e.source for e in executed], np.uint8),
        policy_run_ids=tuple((a or e).run_id for a, e in zip(answers, executed, strict=True)),
        policy_n=np.array([(a or e).n for a, e in zip(answers, executed, strict=True)], np.int64),
        limits=tuple(tuple(e.limits) for e in executed),
        stamps_ns=stamps,
        tool_pose=np.array([_pose(o.tool_pose) for o in observations], np.float64),
        link_age_s=_rows([o.link_age_s for o in observations], np.float32, "Observation.link_age_s"),
        success=said.success,
        terminated=bool(outcome.terminated),
        truncated=bool(outcome.truncated),
        outcome_source=said.by,
        outcome_reason=said.reason,
        complete=whole and bool(observations[-1].last),
        qpos=qpos,
        measured=_measured(recording, stamps) if measured else None,
        images=pixels,
        image_steps=image_steps,
        sha256=sha256,
    )


def identity_of(recording: Recording) -> dict[str, str]:
    """What the file says of itself.

    Raises:
        EpisodeUnreadable: a key is missing or has no meaning.
    """
    identity = recording.metadata.get(IDENTITY)
    if identity is None:
        raise EpisodeUnreadable(f"no metadata record {IDENTITY!r}: not an episode")
    keys = "episode_id run_id task purpose seed explore contract interface_digest deployment_digest images"
    missing = [key for key in keys.split() if key not in identity]
    if missing:
        raise EpisodeUnreadable(f"metadata {IDENTITY}: {missing} are missing")
    if identity.get("schema_version") != "1":
        raise EpisodeUnreadable(f"schema_version = {identity.get('schema_version')!r}: this reader knows '1'")
    try:
        check_episode_id(identity["episode_id"])
    except InvalidEpisode as error:
        raise EpisodeUnreadable(str(error)) from error
    if identity["purpose"] not in PURPOSES or not identity["seed"].isdecimal() or len(identity["seed"]) > 20:
        raise EpisodeUnreadable(f"metadata: purpose {identity['purpose']!r} or seed {identity['seed'][:30]!r} is none")
    return identity


def decode_topics(recording: Recording, topics: Iterable[str]) -> Iterable[tuple[str, Message, Any]]:
    """(topic, record, decoded message) in file order, for the topics asked for.

    Raises:
        EpisodeUnreadable: a channel of another type or encoding, or bytes that do not fit the definition.
    """
    decoders = {
        channel.id: (channel.topic, _decoder(recording, channel.id))
        for channel in recording.channels.values()
        if channel.topic in topics
    }
    for record in recording.messages:
        if record.channel_id not in decoders:
            continue
        topic, decode = decoders[record.channel_id]
        try:
            message = decode(record.data)
        except Exception as error:  # the decoder raises whatever the bytes make it stumble over
            raise EpisodeUnreadable(f"{topic}: a message cannot be decoded ({type(error).__name__} {error})") from error
        yield topic, record, message


def _decoder(recording: Recording, channel_id: int) -> Decoder:
    channel = recording.channels[channel_id]
    schema = recording.schemas.get(channel.schema_id)
    wanted = TOPICS.get(channel.topic, COMPRESSED_TYPE)
    if schema is None or schema.name != wanted or channel.message_encoding != "cdr":
        found = None if schema is None else schema.name
        raise EpisodeUnreadable(
            f"{channel.topic}: type {found!r} as {channel.message_encoding!r}, not {wanted!r} as 'cdr'"
        )
    if len(schema.data) > MAX_SCHEMA_BYTES:
        raise EpisodeUnreadable(f"{channel.topic}: a definition of {len(schema.data)} bytes")
    try:
        return decoder_for(MessageSchema(schema.name, schema.data.decode()))
    except Exception as error:  # as above
        raise EpisodeUnreadable(f"{channel.topic}: the definition of {wanted} is not one ({error})") from error


def _join(recording: Recording, episode_id: str) -> _Joined:
    joined = _Joined()
    for topic, _, message in decode_topics(recording, _JOINED):
        if topic == CELL_TRUTH:
            if message.reset_id == episode_id:
                joined.truths.append(message)
        elif topic == POLICY_ACTION:
            joined.answers.setdefault((message.boot_id, message.k), message)
        elif message.episode_id != episode_id:
            continue
        elif topic == OBSERVATION:
            joined.observations.setdefault((message.boot_id, message.k), message)
        elif topic == EXECUTED_ACTION:
            joined.executed.setdefault((message.boot_id, message.k), message)
        else:
            joined.events.append(message)
    return joined


def _whole_steps(joined: _Joined) -> tuple[list[tuple[str, int]], bool]:
    """Ticks of the steps 0, 1, ... that are whole, and whether that is all there is."""
    by_step: dict[int, tuple[str, int]] = {}
    for tick, observation in joined.observations.items():
        by_step.setdefault(observation.step, tick)
    ticks: list[tuple[str, int]] = []
    for step in range(len(by_step)):
        tick = by_step.get(step, ("", -1))
        if step not in by_step or tick[0] != by_step[0][0]:
            break
        ticks.append(tick)
        if tick not in joined.executed:
            break
    if len(ticks) < 2:
        raise EpisodeEmpty("no whole step: an observation, its action and the observation after it")
    return ticks, len(ticks) == len(by_step)


def _labels(events: Sequence[Any]) -> list[Said]:
    """What was said of the episode's success, oldest first."""
    labels = set(Label)
    return [
        Said(Label(event.label).success, event.by, event.reason)
        for event in events
        if event.event in (EVENT_END, EVENT_LABEL) and event.label in labels
    ]


def _truth_at(truths: Sequence[Any], stamps: np.ndarray) -> tuple[np.ndarray | None, bool | None]:
    """The simulator's state at, or last before, each stamp, and whether it saw success at the end."""
    if not truths:
        return None, None
    ordered = sorted(truths, key=lambda truth: stamp_ns(truth.header))
    times = np.array([stamp_ns(truth.header) for truth in ordered], np.int64)
    states = _rows([truth.qpos for truth in ordered], np.float64, "CellTruth.qpos")
    found = np.searchsorted(times, stamps, side="right") - 1
    qpos = np.where((found >= 0)[:, None], states[found], np.nan)
    return qpos, bool(ordered[found[-1]].success) if found[-1] >= 0 else None


def _measured(recording: Recording, stamps: np.ndarray) -> Measured | None:
    messages: dict[str, list[Any]] = {topic: [] for topic in SENSOR_TOPICS}
    for topic, _, message in decode_topics(recording, SENSOR_TOPICS):
        messages[topic].append(message)
    return measured_at(stamps, messages[ROBOT_STATE], messages[PART_POSES], lambda message: stamp_ns(message.header))


def _aux(answers: Sequence[Any]) -> np.ndarray | None:
    try:
        return stack_aux([np.asarray(() if a is None else a.aux, np.float32) for a in answers])
    except InvalidEpisode as error:
        raise EpisodeUnreadable(f"PolicyAction: {error}") from error


def _raw(answers: Sequence[Any], size: int) -> np.ndarray:
    raw = np.full((len(answers), size), np.nan, np.float32)
    for row, answer in zip(raw, answers, strict=True):
        if answer is not None and len(answer.raw):
            if len(answer.raw) != size:
                raise EpisodeUnreadable(f"PolicyAction.raw of k = {answer.k} has {len(answer.raw)} numbers, not {size}")
            row[:] = answer.raw
    return raw


def _images(observations: Sequence[Any], names: Sequence[str]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    pixels: dict[str, list[np.ndarray]] = defaultdict(list)
    steps: dict[str, list[int]] = defaultdict(list)
    for step, observation in enumerate(observations):
        for name, image in named_images(observation, names):
            pixels[name].append(_pixels(image, name, step))
            steps[name].append(step)
    try:
        stacked = {name: np.stack(frames) for name, frames in pixels.items()}
    except ValueError as error:
        raise EpisodeUnreadable(f"images change their size within the episode ({error})") from error
    return stacked, {name: np.array(indices, np.int32) for name, indices in steps.items()}


def named_images(observation: Any, names: Sequence[str]) -> list[tuple[str, Any]]:
    """(name, image) of an Observation that carries all its due images; one without an image that is due
    carries a list that cannot be told apart, so it counts as having none."""
    if len(observation.images) != len(names):
        return []
    return [(name, image) for name, image in zip(names, observation.images, strict=True) if len(image.data)]


def _pixels(image: Any, name: str, step: int) -> np.ndarray:
    if image.encoding not in ("rgb8", "bgr8") or len(image.data) != 3 * image.height * image.width:
        raise EpisodeUnreadable(
            f"image {name} of step {step}: {image.encoding[:20]!r} {image.width}x{image.height} in "
            f"{len(image.data)} bytes; rgb8 or bgr8 without padding is read"
        )
    pixels = np.frombuffer(image.data, np.uint8).reshape(image.height, image.width, 3)
    return pixels if image.encoding == "rgb8" else pixels[:, :, ::-1]


def _rows(values: Sequence[Any], dtype: type, name: str) -> np.ndarray:
    sizes = {len(row) for row in values}
    if len(sizes) != 1:
        raise EpisodeUnreadable(f"{name} has {sorted(sizes)} numbers in different steps")
    return np.array(values, dtype).reshape(len(values), sizes.pop())


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _pose(pose: Any) -> tuple[float, ...]:
    p, q = pose.position, pose.orientation
    return (p.x, p.y, p.z, q.x, q.y, q.z, q.w)


def stamp_ns(header: Any) -> int:
    """Nanoseconds of a header's stamp."""
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)
