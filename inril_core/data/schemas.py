"""The messages that make an episode: topics, types, and the text that makes a recording self-describing."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mcap.records import Schema
from mcap_ros2.decoder import DecoderFactory

from inril_core.errors import ConfigError

OBSERVATION = "/observation"
POLICY_ACTION = "/policy_action"
TELEOP_ACTION = "/teleop_action"
EXECUTED_ACTION = "/executed_action"
TARGET = "/target"
CELL_TRUTH = "/cell_truth"
EPISODE_EVENT = "/episode_event"
ROBOT_STATE = "/robot_state"
PART_POSES = "/part_poses"

TOPICS = {
    CELL_TRUTH: "inril_msgs/msg/CellTruth",
    ROBOT_STATE: "inril_msgs/msg/RobotState",
    PART_POSES: "inril_msgs/msg/PartPoses",
    OBSERVATION: "inril_msgs/msg/Observation",
    POLICY_ACTION: "inril_msgs/msg/PolicyAction",
    TELEOP_ACTION: "inril_msgs/msg/TeleopAction",
    EXECUTED_ACTION: "inril_msgs/msg/ExecutedAction",
    TARGET: "inril_msgs/msg/Target",
    EPISODE_EVENT: "inril_msgs/msg/EpisodeEvent",
}
"""Recorded topics and their types, in the order in which they are taken when several have news.

What the cell says is sent before the Observation that it is part of, and is taken first: the last Observation
closes the recording.
"""

SENSOR_TOPICS = (ROBOT_STATE, PART_POSES)
"""Of these one message is recorded for each Observation, at whatever rate they come (`sensor_track`)."""

READ_FIELDS = {
    CELL_TRUTH: ("reset_id",),
    OBSERVATION: ("boot_id", "k", "episode_id", "step", "last"),
    POLICY_ACTION: ("boot_id", "k"),
    TELEOP_ACTION: ("k", "synchronous"),
    EXECUTED_ACTION: ("episode_id", "step"),
    TARGET: ("episode_id",),
    EPISODE_EVENT: ("event", "run_id", "episode_id", "purpose", "seed", "explore", "max_steps", "label", "by"),
}
"""What the recorder reads of each message, besides its stamp; all of it is written as it came."""

IMAGE_TYPE = "sensor_msgs/msg/Image"
COMPRESSED_TYPE = "sensor_msgs/msg/CompressedImage"
IMAGE_TOPIC = "/observation/image/"
"""A finished recording also carries each Observation image on this prefix + name."""


def camera_topic(camera: str) -> str:
    """Where a camera's images are in a recording at full rate, as JPEG."""
    return f"/camera/{camera}/image/compressed"


def full_rate_topics(cameras: Iterable[str]) -> dict[str, str]:
    """Topics and types of what a recording at full rate holds besides: each message, whatever its rate."""
    return {ROBOT_STATE: TOPICS[ROBOT_STATE], **{camera_topic(name): COMPRESSED_TYPE for name in sorted(cameras)}}


EVENT_BEGIN, EVENT_END, EVENT_LABEL, EVENT_DISCARD = range(4)

_PRIMITIVE = re.compile(r"bool|byte|char|w?string|float(32|64)|u?int(8|16|32|64)")
_FIELD = re.compile(r"^\s*([A-Za-z][A-Za-z0-9_/]*)(?:<=\d+)?(?:\[[^\]]*\])?\s+[A-Za-z]")
_SEPARATOR = "=" * 80

Decoder = Callable[[bytes], Any]


@dataclass(frozen=True)
class MessageSchema:
    """A message type (`package/msg/Name`) and its definition with all it depends on, in the `ros2msg`
    encoding."""

    type_name: str
    text: str


def installed_share(package: str) -> Path:
    """Share folder of an installed ROS package: below AMENT_PREFIX_PATH, else beside its Python package.

    Raises:
        LookupError: the package is in neither place.
    """
    prefixes = [Path(prefix) for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    spec = find_spec(package)
    if spec is not None and spec.origin is not None:
        prefixes += Path(spec.origin).parents
    for prefix in prefixes:
        if (prefix / "share" / package / "msg").is_dir():
            return prefix / "share" / package
    raise LookupError(f"no share/{package}/msg below AMENT_PREFIX_PATH or the Python package {package}")


def message_schema(type_name: str, share: Callable[[str], Path] = installed_share) -> MessageSchema:
    """Gather the definition of a type and of all types inside it.

    share: maps a package name to its share folder, where `msg/Name.msg` lies.

    Raises:
        ConfigError: a definition cannot be read; names the type and the fix.
    """
    wanted = [short_name(type_name)]
    parts: list[str] = []
    for name in wanted:  # grows while it is read
        package, short = name.split("/")
        try:
            text = (share(package) / "msg" / f"{short}.msg").read_text()
        except (OSError, LookupError, ValueError) as error:
            raise ConfigError(f"{name}: no definition ({error}); build or install {package}") from error
        parts.append(text if not parts else f"{_SEPARATOR}\nMSG: {name}\n{text}")
        wanted += [used for used in _nested(text, package) if used not in wanted]
    return MessageSchema(type_name, "\n".join(parts))


def recorded_schemas(share: Callable[[str], Path] = installed_share) -> dict[str, MessageSchema]:
    """The schemas of everything recorded, and of images, by type name."""
    names = (*TOPICS.values(), IMAGE_TYPE, COMPRESSED_TYPE)
    return {type_name: message_schema(type_name, share) for type_name in names}


def decoder_for(schema: MessageSchema) -> Decoder:
    """A function from CDR bytes to an object with the message's fields.

    It interprets the definition; nothing from a file is executed.

    Raises:
        ValueError, KeyError, and others: the text is no message definition.
    """
    record = Schema(id=1, name=schema.type_name, encoding="ros2msg", data=schema.text.encode())
    decoder = DecoderFactory().decoder_for("cdr", record)
    if decoder is None:
        raise ValueError(f"{schema.type_name}: no decoder")
    return decoder


def type_texts(schema: MessageSchema) -> dict[str, str]:
    """The definition of the type and of each type inside it, by `package/Name`."""
    first, *others = schema.text.split(f"{_SEPARATOR}\nMSG: ")
    texts = {short_name(schema.type_name): first}
    for other in others:
        name, _, text = other.partition("\n")
        texts[name] = text
    return texts


def short_name(type_name: str) -> str:
    """`package/Name` of `package/msg/Name`."""
    package, *_, name = type_name.split("/")
    return f"{package}/{name}"


def _nested(text: str, package: str) -> list[str]:
    found = []
    for line in text.splitlines():
        match = _FIELD.match(line.split("#")[0])
        if match is None or _PRIMITIVE.fullmatch(match[1]):
            continue
        found.append(nested_name(match[1], f"{package}/"))
    return found


def nested_name(kind: str, inside: str) -> str:
    """`package/Name` of a field's type `kind` in the message `inside`."""
    if kind == "Header":
        return "std_msgs/Header"
    return short_name(kind) if "/" in kind else f"{inside.split('/')[0]}/{kind}"
