"""Reads a contract of rosetta: which topics its bags hold, and which of their numbers make an observation or action.

Both forms of the file are read: streams by key with a `channel` (rosetta 0.2), and lists of streams with `key` and
`topic` (before). Nothing that it names is imported or run. Its operators (`rad2deg`, `clamp`, `resize`) and its
alignment say how rosetta makes a dataset of a bag; the bag holds the numbers before them, in the units of the messages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from inril_core.errors import ConfigError
from inril_core.yaml_text import read_yaml

_IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")


@dataclass
class Rosetta:
    """What a contract says, in the words of `ImportMap`."""

    rate_hz: float
    topics: dict[str, list[str]] = field(default_factory=dict)
    """Of each key of observations and actions, ``TOPIC:FIELD.FIELD`` in the order of its numbers."""
    images: dict[str, str] = field(default_factory=dict)
    """Topic of each key that is an image."""


def read_rosetta(path: Path) -> Rosetta:
    """A contract file.

    Raises:
        ConfigError: it cannot be read, or is no contract of rosetta.
    """
    try:
        values = read_yaml(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path}: not YAML ({error})") from error
    if not isinstance(values, Mapping) or "observations" not in values or "actions" not in values:
        raise ConfigError(f"{path}: no contract of rosetta: observations or actions are missing")
    rate_hz = values.get("fps")
    if isinstance(rate_hz, bool) or not isinstance(rate_hz, (int, float)) or not 0.0 < rate_hz <= 10_000.0:
        raise ConfigError(f"{path}: fps = {rate_hz!r}: must be a rate in Hz")
    found = Rosetta(float(rate_hz))
    for section in ("observations", "actions"):
        for key, stream in _streams(values[section], f"{path}: {section}"):
            _add(found, key, stream, f"{path}: {section}.{key}")
    return found


def _streams(section: Any, where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Key and source, in order; sources of one key follow each other."""
    if isinstance(section, Mapping):
        pairs = [(key, one) for key, some in section.items() for one in (some if isinstance(some, list) else [some])]
    elif isinstance(section, list):
        pairs = [(one.get("key") if isinstance(one, Mapping) else None, one) for one in section]
    else:
        raise ConfigError(f"{where}: must be streams by key, or a list of streams")
    for key, stream in pairs:
        if not isinstance(key, str) or not isinstance(stream, Mapping):
            raise ConfigError(f"{where}: {str(stream):.80}: is no stream with a key")
        yield key, stream


def _add(found: Rosetta, key: str, stream: Mapping[str, Any], where: str) -> None:
    channel = next((stream[name] for name in ("channel", "publish") if isinstance(stream.get(name), Mapping)), stream)
    topic, kind = channel.get("topic"), channel.get("type")
    if not isinstance(topic, str) or not isinstance(kind, str):
        raise ConfigError(f"{where}: topic or type is missing")
    topic = "/" + topic.removeprefix("/")
    if kind in _IMAGES:
        if key in found.images or key in found.topics:
            raise ConfigError(f"{where}: a key has one image, or numbers")
        found.images[key] = topic
        return
    selector = stream.get("selector")
    names = stream.get("select", selector.get("names") if isinstance(selector, Mapping) else None)
    if names is None:
        names = ["data"] if kind.startswith("std_msgs/") else [""]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or not names:
        raise ConfigError(f"{where}: select must be a list of fields")
    found.topics.setdefault(key, []).extend(f"{topic}:{name}" if name else topic for name in names)
