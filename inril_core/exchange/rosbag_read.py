"""Reads a rosbag2 (MCAP or sqlite3) as one episode: a clock topic gives the steps, others give the columns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from inril_core.errors import ConfigError, missing_package
from inril_core.exchange.foreign import Foreign
from inril_core.exchange.plain import pixels_of

MAX_AGE_S = 0.5
"""A column whose newest message is older than this at a step is missing there."""
_COLOURS = {
    "rgb8": (3, slice(None)),
    "bgr8": (3, slice(None, None, -1)),
    "rgba8": (4, slice(0, 3)),
    "bgra8": (4, slice(2, None, -1)),
}


def is_rosbag(path: Path) -> bool:
    """Whether a folder or file is a rosbag2."""
    if path.is_dir():
        return (path / "metadata.yaml").is_file() or any(path.glob("*.db3")) or any(path.glob("*.mcap"))
    return path.suffix in (".db3", ".mcap")


def read_rosbag(path: Path, topics: Mapping[str, str], clock: str, images: tuple[str, ...] = ()) -> Foreign:
    """The episode in a bag.

    topics: column to ``TOPIC:FIELD.FIELD``; a message or array of numbers becomes several. clock: the topic whose
    messages are the steps. images: topics of ``Image`` or ``CompressedImage``.

    At each step counts the newest message whose stamp (of its header, else of its receipt) is not later. Steps before
    every topic was heard are left out.

    Raises:
        ConfigError: rosbags is not installed, no bag, a topic or field is not there, or one is missing for a while.
    """
    reader_class, typestore = _library()
    wanted = {column: _split(column, text) for column, text in topics.items()}
    needed = {topic for topic, _ in wanted.values()} | set(images) | {clock}
    try:
        with reader_class([path], default_typestore=typestore) as reader:
            there = {connection.topic: connection.msgtype for connection in reader.connections}
            missing = sorted(needed - there.keys())
            if missing:
                listed = ", ".join(f"{topic} ({kind})" for topic, kind in sorted(there.items()))
                raise ConfigError(f"{path}: has no topic {missing}; there are {listed}")
            heard = _hear(reader, needed, wanted, set(images), path)
    except ConfigError:
        raise
    except Exception as error:  # the library raises what a damaged bag makes it stumble over
        raise ConfigError(f"{path}: not a readable rosbag2 ({type(error).__name__}: {error})") from error
    return _at_clock(heard, wanted, clock, images, path)


def described(path: Path) -> str:
    """Topics of a bag with types and counts."""
    reader_class, typestore = _library()
    try:
        with reader_class([path], default_typestore=typestore) as reader:
            return ", ".join(sorted(f"{c.topic} ({c.msgtype}, {c.msgcount} messages)" for c in reader.connections))
    except Exception as error:  # as above
        raise ConfigError(f"{path}: not a readable rosbag2 ({type(error).__name__}: {error})") from error


def _library() -> tuple[Any, Any]:
    try:
        from rosbags.highlevel import AnyReader
        from rosbags.typesys import Stores, get_typestore
    except ImportError as error:
        raise missing_package("bags need rosbags", "data", error) from error
    return AnyReader, get_typestore(Stores.ROS2_JAZZY)


def _split(column: str, text: str) -> tuple[str, list[str]]:
    topic, colon, field = text.partition(":")
    if not topic.startswith("/"):
        raise ConfigError(f"topics.{column} = {text!r}: must be /TOPIC:FIELD.FIELD, or /TOPIC alone")
    return topic, field.split(".") if colon and field else []


def _hear(
    reader: Any, needed: set[str], wanted: Mapping[str, tuple[str, list[str]]], images: set[str], path: Path
) -> dict[str, list[tuple[int, Any]]]:
    """(stamp in ns, value) by column and image topic, and by ``clock:TOPIC``, in the order of the stamps."""
    heard: dict[str, list[tuple[int, Any]]] = {}
    for connection, received_ns, data in reader.messages([c for c in reader.connections if c.topic in needed]):
        message = reader.deserialize(data, connection.msgtype)
        stamp_ns = _stamp_ns(message, received_ns)
        heard.setdefault(f"clock:{connection.topic}", []).append((stamp_ns, None))
        for column, (topic, fields) in wanted.items():
            if topic == connection.topic:
                heard.setdefault(column, []).append((stamp_ns, _value(message, fields, column, path)))
        if connection.topic in images:
            heard.setdefault(connection.topic, []).append((stamp_ns, _pixels(message, connection.topic, path)))
    return {name: sorted(values, key=lambda value: value[0]) for name, values in heard.items()}


def _at_clock(
    heard: Mapping[str, list[tuple[int, Any]]],
    wanted: Mapping[str, tuple[str, list[str]]],
    clock: str,
    images: tuple[str, ...],
    path: Path,
) -> Foreign:
    names = [*wanted, *images]
    silent = [name for name in [*names, f"clock:{clock}"] if not heard.get(name)]
    if silent:
        raise ConfigError(f"{path}: no message on {silent}")
    begin_ns = max(heard[name][0][0] for name in names)
    ticks = np.array([stamp for stamp, _ in heard[f"clock:{clock}"] if stamp >= begin_ns], np.int64)
    if len(ticks) < 2:
        raise ConfigError(f"{path}: fewer than two messages on {clock} after every topic was heard")
    foreign = Foreign(path.stem, stamps_s=(ticks - ticks[0]) / 1e9)
    foreign.rate_hz = 1e9 / float(np.median(np.diff(ticks)))
    for name in names:
        stamps = np.array([stamp for stamp, _ in heard[name]], np.int64)
        found = np.searchsorted(stamps, ticks, side="right") - 1
        ages_s = (ticks - stamps[found]) / 1e9
        if (ages_s > MAX_AGE_S).any():
            row = int(np.argmax(ages_s > MAX_AGE_S))
            at_s = float(foreign.stamps_s[row]) if foreign.stamps_s is not None else 0.0
            raise ConfigError(f"{path}: {name} is silent for {ages_s[row]:.2f} s at {at_s:.2f} s; cut the bag there")
        try:
            rows = np.stack([heard[name][place][1] for place in found])
        except ValueError as error:
            raise ConfigError(f"{path}: {name} changes its size within the bag") from error
        (foreign.images if name in images else foreign.columns)[name] = rows
    return foreign


def _stamp_ns(message: Any, received_ns: int) -> int:
    stamp = getattr(getattr(message, "header", None), "stamp", None)
    if stamp is None or (stamp.sec == 0 and stamp.nanosec == 0):
        return received_ns
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def _value(message: Any, fields: list[str], column: str, path: Path) -> np.ndarray:
    value = message
    for field in fields:
        if not hasattr(value, field):
            there = [name for name in vars(value) if not name.startswith("_")] if hasattr(value, "__dict__") else []
            raise ConfigError(f"{path}: topics.{column}: no field {field!r}; there are {there}")
        value = getattr(value, field)
    return np.concatenate([np.ravel(part).astype(np.float64) for part in _numbers(value, column, path)])


def _numbers(value: Any, column: str, path: Path) -> list[Any]:
    if isinstance(value, (bool, int, float, np.number)):
        return [[value]]
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return [value]
    if hasattr(value, "__dataclass_fields__"):
        names = [name for name in value.__dataclass_fields__ if name != "header" and not name.startswith("_")]
        parts = [part for name in names for part in _numbers(getattr(value, name), column, path)]
        if parts:
            return parts
    raise ConfigError(f"{path}: topics.{column}: a {type(value).__name__} holds no numbers")


def _pixels(message: Any, topic: str, path: Path) -> np.ndarray:
    if hasattr(message, "format"):
        try:
            return pixels_of(bytes(message.data))
        except ValueError as error:
            raise ConfigError(f"{path}: {topic}: {error}") from error
    encoding = getattr(message, "encoding", "")
    if encoding == "mono8":
        channels, order = 1, slice(None)
    elif encoding in _COLOURS:
        channels, order = _COLOURS[encoding]
    else:
        raise ConfigError(f"{path}: {topic}: encoding {encoding!r:.30}: rgb8, bgr8, rgba8, bgra8 and mono8 are read")
    rows = np.asarray(message.data, np.uint8)
    if rows.size != message.step * message.height or message.step < channels * message.width:
        raise ConfigError(f"{path}: {topic}: {rows.size} bytes for {message.width}x{message.height} {encoding}")
    pixels = rows.reshape(message.height, message.step)[:, : channels * message.width]
    pixels = pixels.reshape(message.height, message.width, channels)[:, :, order]
    return np.repeat(pixels, 3, 2) if channels == 1 else np.ascontiguousarray(pixels)
