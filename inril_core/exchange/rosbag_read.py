"""Reads a rosbag2 (MCAP or sqlite3) as one episode: a clock gives the steps, topics give the columns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from inril_core.errors import ConfigError, missing_package
from inril_core.exchange.foreign import Foreign
from inril_core.exchange.plain import pixels_of

MAX_AGE_S = 0.5
"""A column whose newest message is older than this at a step is missing there."""
_NAMES = ("name", "dof_names", "joint_names")
"""Fields of a message that name the numbers in its other fields."""
Field = tuple[str, list[str]]
"""Topic, and the path to a field of its messages."""
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


def read_rosbag(
    path: Path, topics: Mapping[str, str | Sequence[str]], clock: str | float, images: tuple[str, ...] = ()
) -> Foreign:
    """The episode in a bag.

    topics: column to ``TOPIC:FIELD.FIELD``, or to a list of such, one behind the other. A message or array of numbers
    becomes several; ``TOPIC:position.JOINT`` picks one by its name in the message, ``TOPIC:axes.2`` by its place.
    clock: the topic whose messages are the steps, or a rate in Hz. images: topics of ``Image`` or ``CompressedImage``.

    At each step counts the newest message whose stamp (of its header, else of its receipt) is not later. Steps before
    every topic was heard are left out.

    Raises:
        ConfigError: rosbags is not installed, no bag, a topic or field is not there, or one is missing for a while.
    """
    reader_class, typestore = _library()
    wanted = {
        column: [_split(column, text) for text in ([texts] if isinstance(texts, str) else texts)]
        for column, texts in topics.items()
    }
    needed = {topic for fields in wanted.values() for topic, _ in fields} | set(images)
    if clock == "":
        raise ConfigError(f"{path}: clock is missing: give the topic whose messages are the steps, or a rate in Hz")
    if isinstance(clock, str):
        needed |= {clock}
    elif not (math.isfinite(clock) and clock > 0.0):
        raise ConfigError(f"clock = {clock}: give a topic, or a rate in Hz")
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


def _split(column: str, text: str) -> Field:
    topic, colon, field = text.partition(":")
    if not topic.startswith("/"):
        raise ConfigError(f"topics.{column} = {text!r}: must be /TOPIC:FIELD.FIELD, or /TOPIC alone")
    return topic, field.split(".") if colon and field else []


def _hear(
    reader: Any, needed: set[str], wanted: Mapping[str, list[Field]], images: set[str], path: Path
) -> dict[str, list[tuple[int, Any]]]:
    """(stamp in ns, value) by column and its part, by image topic, and by ``clock:TOPIC``, in the order of stamps."""
    heard: dict[str, list[tuple[int, Any]]] = {}
    for connection, received_ns, data in reader.messages([c for c in reader.connections if c.topic in needed]):
        message = reader.deserialize(data, connection.msgtype)
        stamp_ns = _stamp_ns(message, received_ns)
        heard.setdefault(f"clock:{connection.topic}", []).append((stamp_ns, None))
        for column, parts in wanted.items():
            for number, (topic, fields) in enumerate(parts):
                if topic == connection.topic:
                    value = _value(message, fields, column, path)
                    heard.setdefault(_part(column, number), []).append((stamp_ns, value))
        if connection.topic in images:
            heard.setdefault(connection.topic, []).append((stamp_ns, _pixels(message, connection.topic, path)))
    return {name: sorted(values, key=lambda value: value[0]) for name, values in heard.items()}


def _part(column: str, number: int) -> str:
    return column if number == 0 else f"{column}, part {number + 1}"


def _at_clock(
    heard: Mapping[str, list[tuple[int, Any]]],
    wanted: Mapping[str, list[Field]],
    clock: str | float,
    images: tuple[str, ...],
    path: Path,
) -> Foreign:
    parts = {column: [_part(column, number) for number in range(len(fields))] for column, fields in wanted.items()}
    names = [*(name for some in parts.values() for name in some), *images]
    silent = [name for name in names if not heard.get(name)]
    if silent:
        raise ConfigError(f"{path}: no message on {silent}")
    ticks = _ticks(heard, names, clock, path)
    foreign = Foreign(path.stem, stamps_s=(ticks - ticks[0]) / 1e9)
    foreign.rate_hz = 1e9 / float(np.median(np.diff(ticks))) if isinstance(clock, str) else float(clock)
    for column, some in parts.items():
        foreign.columns[column] = np.hstack([_newest(heard[name], ticks, name, path) for name in some])
    for topic in images:
        foreign.images[topic] = _newest(heard[topic], ticks, topic, path)
    return foreign


def _ticks(
    heard: Mapping[str, list[tuple[int, Any]]], names: Sequence[str], clock: str | float, path: Path
) -> np.ndarray:
    """int64[n], ns: the steps, from where every topic was heard."""
    begin_ns = max((heard[name][0][0] for name in names), default=0)
    if isinstance(clock, str):
        stamps = [stamp for stamp, _ in heard.get(f"clock:{clock}", []) if stamp >= begin_ns]
        ticks, what = np.array(stamps, np.int64), f"messages on {clock}"
    else:
        end_ns = min((heard[name][-1][0] for name in names), default=-1)
        ticks = begin_ns + (np.arange(max(0, int((end_ns - begin_ns) * clock / 1e9) + 1)) * (1e9 / clock)).astype(int)
        what = f"steps at {clock:g} Hz"
    if len(ticks) < 2:
        raise ConfigError(f"{path}: fewer than two {what} after every topic was heard")
    return ticks


def _newest(heard: list[tuple[int, Any]], ticks: np.ndarray, name: str, path: Path) -> np.ndarray:
    """The newest value at each step."""
    stamps = np.array([stamp for stamp, _ in heard], np.int64)
    found = np.searchsorted(stamps, ticks, side="right") - 1
    ages_s = (ticks - stamps[found]) / 1e9
    if (ages_s > MAX_AGE_S).any():
        row = int(np.argmax(ages_s > MAX_AGE_S))
        at_s = (ticks[row] - ticks[0]) / 1e9
        raise ConfigError(f"{path}: {name} is silent for {ages_s[row]:.2f} s at {at_s:.2f} s; cut the bag there")
    try:
        return np.stack([heard[place][1] for place in found])
    except ValueError as error:
        raise ConfigError(f"{path}: {name} changes its size within the bag") from error


def _stamp_ns(message: Any, received_ns: int) -> int:
    stamp = getattr(getattr(message, "header", None), "stamp", None)
    if stamp is None or (stamp.sec == 0 and stamp.nanosec == 0):
        return received_ns
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def _value(message: Any, fields: list[str], column: str, path: Path) -> np.ndarray:
    parent = value = message
    for place, field in enumerate(fields):
        if isinstance(value, np.ndarray):
            value = _picked(parent, value, ".".join(fields[place:]), column, path)
            break
        if not hasattr(value, field):
            there = [name for name in vars(value) if not name.startswith("_")] if hasattr(value, "__dict__") else []
            raise ConfigError(f"{path}: topics.{column}: no field {field!r}; there are {there}")
        parent, value = value, getattr(value, field)
    return np.concatenate([np.ravel(part).astype(np.float64) for part in _numbers(value, column, path)])


def _picked(message: Any, values: np.ndarray, which: str, column: str, path: Path) -> Any:
    """One of the numbers of an array: by its name in the message, or by its place."""
    names = next((list(found) for field in _NAMES if (found := getattr(message, field, None)) is not None), [])
    if which in names:
        place = names.index(which)
    elif which.isdecimal():
        place = int(which)
    else:
        raise ConfigError(f"{path}: topics.{column}: nothing is called {which!r}; there are {names}")
    if place >= len(values):
        raise ConfigError(f"{path}: topics.{column}: {which!r} is number {place} of {len(values)}")
    return values[place]


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
