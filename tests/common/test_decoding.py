"""Pins: a message that is read differently from how rclpy reads it, of any type of the graph and however damaged."""

from __future__ import annotations

import array
import importlib
from typing import Any

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import Pose
from hypothesis import given, settings
from hypothesis import strategies as st
from inril_common.convert import array_to_pose
from inril_common.decoding import LITTLE_ENDIAN, decoder
from inril_msgs import msg as messages
from inril_msgs.msg import Observation, PartPoses
from lifecycle_msgs.msg import TransitionEvent
from rclpy.serialization import deserialize_message, serialize_message
from rosidl_parser.definition import AbstractSequence, AbstractString, Array, BasicType, NamespacedType
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Empty, UInt8MultiArray

KINDS = [
    *(getattr(messages, name) for name in sorted(dir(messages)) if name[0].isupper()),
    *(Image, JointState, DiagnosticArray, TransitionEvent, UInt8MultiArray, Empty, Pose, Time),
]
_RANGES = dict(int8=(-(2**7), 2**7 - 1), uint8=(0, 2**8 - 1), char=(0, 2**8 - 1), int16=(-(2**15), 2**15 - 1))
_RANGES |= dict(uint16=(0, 2**16 - 1), int32=(-(2**31), 2**31 - 1), uint32=(0, 2**32 - 1))
_RANGES |= dict(int64=(-(2**63), 2**63 - 1), uint64=(0, 2**64 - 1))


def values(kind: Any) -> st.SearchStrategy[Any]:
    """What a field of this kind can hold."""
    if isinstance(kind, NamespacedType):
        return filled(getattr(importlib.import_module(".".join(kind.namespaces)), kind.name))
    if isinstance(kind, AbstractString) and not isinstance(kind, BasicType):
        return st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9)
    if isinstance(kind, AbstractSequence):
        return st.lists(values(kind.value_type), max_size=4)
    if isinstance(kind, Array):
        return st.lists(values(kind.value_type), min_size=kind.size, max_size=kind.size).map(np.array)
    if kind.typename == "boolean":
        return st.booleans()
    if kind.typename == "octet":
        return st.binary(min_size=1, max_size=1)
    if kind.typename in ("float", "double"):
        return st.floats(width=32, allow_nan=False)
    return st.integers(*_RANGES[kind.typename])


def filled(kind: Any) -> st.SearchStrategy[Any]:
    """Messages of a class."""
    names = [name[1:] for name in kind.__slots__ if name != "_check_fields"]
    return st.builds(kind, **dict(zip(names, map(values, kind.SLOT_TYPES), strict=True)))


def plain(value: Any) -> Any:
    """Any message or named tuple as dictionaries and lists."""
    if isinstance(value, (array.array, np.ndarray)):
        return [str(number) for number in value]
    if hasattr(value, "_asdict"):
        return {name: plain(item) for name, item in value._asdict().items()}
    if hasattr(value, "get_fields_and_field_types"):
        return {name: plain(getattr(value, name)) for name in value.get_fields_and_field_types()}
    return [plain(item) for item in value] if isinstance(value, list) else str(value)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@settings(max_examples=25)
@given(data=st.data())
def test_it_reads_what_rclpy_reads(kind: Any, data: st.DataObject) -> None:
    sent = serialize_message(data.draw(filled(kind)))
    assert sent[:2] == LITTLE_ENDIAN
    assert plain(decoder(kind)(sent)) == plain(deserialize_message(sent, kind))


@settings(max_examples=100)
@given(message=filled(Observation), data=st.data())
def test_a_damaged_message_is_another_one_or_an_error(message: Observation, data: st.DataObject) -> None:
    """It never reads beyond the end, and a number of items that nobody sent costs neither time nor memory."""
    sent = bytearray(serialize_message(message))
    for _ in range(data.draw(st.integers(0, 3))):
        sent[data.draw(st.integers(4, len(sent) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(sent[: data.draw(st.integers(4, len(sent)))])
    try:
        read = decoder(Observation)(damaged)
    except ValueError:
        return
    plain(read)


def test_what_is_cut_short_anywhere_is_an_error() -> None:
    sent = serialize_message(PartPoses(names=["a", "leg"], poses=[Pose(), Pose()]))
    whole = plain(decoder(PartPoses)(sent))
    for length in range(4, len(sent)):
        with pytest.raises(ValueError, match="cut short"):
            decoder(PartPoses)(sent[:length])
    assert plain(decoder(PartPoses)(sent + b"\0")) == whole


def test_a_part_that_was_heard_can_be_sent_on() -> None:
    """Where a heard header or pose becomes part of the next message."""
    pose = array_to_pose(np.arange(7.0))
    heard = decoder(Observation)(serialize_message(Observation(tool_pose=pose)))
    assert deserialize_message(serialize_message(Observation(tool_pose=heard.tool_pose)), Observation).tool_pose == pose
