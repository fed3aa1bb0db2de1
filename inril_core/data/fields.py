"""Some fields of a serialised (CDR) message, without decoding the rest: a tenth of what decoding costs."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Collection
from types import SimpleNamespace
from typing import Any

from inril_core.data.schemas import MessageSchema, nested_name, short_name, type_texts

_SIZES = {
    **dict.fromkeys(("bool", "byte", "char", "int8", "uint8"), 1),
    **dict.fromkeys(("int16", "uint16"), 2),
    **dict.fromkeys(("int32", "uint32", "float32"), 4),
    **dict.fromkeys(("int64", "uint64", "float64"), 8),
}
_CODES = dict(bool="?", byte="B", char="B", int8="b", uint8="B", int16="h", uint16="H", int32="i", uint32="I")
_CODES |= dict(int64="q", uint64="Q", float32="f", float64="d")
_FIELD = re.compile(r"^\s*([A-Za-z][\w/]*)(?:<=\d+)?(\[(?:<=)?\d*\])?\s+([a-z]\w*)(?!\w*\s*=)")
_LENGTH = {order: struct.Struct(order + "I").unpack_from for order in "<>"}
_ENCAPSULATION = 4
"""Bytes before the message; positions are aligned from there."""

_Step = Callable[[bytes, int, str, dict[str, Any]], int]
"""Goes over one field: (data, position, byte order, fields found so far) to the position behind it."""


class FieldReader:
    """Reads named fields of one message type.

    The whole message is gone over, so one that is cut short is noticed; other fields are not looked at.

    Args:
        names: of fields of the message itself, numbers or strings.

    Raises:
        ValueError: the type has no such field, or it is neither a number nor a string.
    """

    def __init__(self, schema: MessageSchema, names: Collection[str]) -> None:
        name, texts = short_name(schema.type_name), type_texts(schema)
        self._type_name = schema.type_name
        self._steps = _steps_of(name, texts, names)
        lacking = set(names) - {field for field, _, _ in _fields(texts[name])}
        if lacking:
            raise ValueError(f"{schema.type_name}: no field {sorted(lacking)}")

    def __call__(self, data: bytes) -> SimpleNamespace:
        """The fields, as attributes.

        Raises:
            ValueError: no CDR, or cut short.
        """
        if len(data) < _ENCAPSULATION or data[0] != 0 or data[1] > 1:
            raise ValueError(f"{self._type_name}: {len(data)} bytes that are no CDR message")
        order = "<" if data[1] == 1 else ">"
        found: dict[str, Any] = {}
        position = _ENCAPSULATION
        try:
            for step in self._steps:
                position = step(data, position, order, found)
        except struct.error as error:
            raise ValueError(f"{self._type_name}: cut short ({len(data)} bytes)") from error
        if position > len(data):
            raise ValueError(f"{self._type_name}: cut short ({len(data)} bytes, at least {position} were announced)")
        return SimpleNamespace(**found)


def _fields(text: str) -> list[tuple[str, str, str]]:
    """(name, type, array suffix or empty) of each field of a definition."""
    found = []
    for line in text.splitlines():
        match = _FIELD.match(line.split("#")[0])
        if match is not None:
            found.append((match[3], match[1], match[2] or ""))
    return found


def _steps_of(name: str, texts: dict[str, str], wanted: Collection[str]) -> list[_Step]:
    steps: list[_Step] = []
    for field, kind, suffix in _fields(texts[name]) or [("structure_needs_at_least_one_member", "uint8", "")]:
        count = int(suffix[1:-1]) if suffix[1:-1].isdigit() else None
        if field in wanted:
            if suffix or (kind not in _SIZES and kind != "string"):
                raise ValueError(f"{name}.{field} is neither a number nor a string")
            steps.append(_text(field) if kind == "string" else _number(field, kind))
        elif kind in _SIZES:
            fixed = not suffix or count is not None
            steps.append(_numbers(_SIZES[kind], count or 1) if fixed else _sequence_of_numbers(_SIZES[kind]))
        else:
            one = [_text(None)] if kind == "string" else _steps_of(nested_name(kind, name), texts, ())
            steps += [_several(one, count)] if suffix else one
    return steps


def _aligned(position: int, size: int) -> int:
    return position + (_ENCAPSULATION - position) % size


def _number(field: str, kind: str) -> _Step:
    size = _SIZES[kind]
    read = {order: struct.Struct(order + _CODES[kind]).unpack_from for order in "<>"}

    def step(data: bytes, position: int, order: str, found: dict[str, Any]) -> int:
        position += (_ENCAPSULATION - position) % size
        (found[field],) = read[order](data, position)
        return position + size

    return step


def _text(field: str | None) -> _Step:
    def step(data: bytes, position: int, order: str, found: dict[str, Any]) -> int:
        position += -position % 4
        (length,) = _LENGTH[order](data, position)
        end: int = position + 4 + length
        if field is not None:
            if end > len(data):
                raise ValueError(f"{field}: {length} characters are announced, {len(data) - position - 4} bytes follow")
            found[field] = data[position + 4 : max(position + 4, end - 1)].decode()
        return end

    return step


def _numbers(size: int, count: int) -> _Step:
    total = size * count

    def step(data: bytes, position: int, order: str, found: dict[str, Any]) -> int:
        return position + (_ENCAPSULATION - position) % size + total

    return step


def _sequence_of_numbers(size: int) -> _Step:
    def step(data: bytes, position: int, order: str, found: dict[str, Any]) -> int:
        position += -position % 4
        (count,) = _LENGTH[order](data, position)
        return _aligned(position + 4, size) + size * count if count else position + 4

    return step


def _several(steps: list[_Step], count: int | None) -> _Step:
    def step(data: bytes, position: int, order: str, found: dict[str, Any]) -> int:
        many = count
        if many is None:
            position += -position % 4
            (many,) = _LENGTH[order](data, position)
            position += 4
        for _ in range(many):
            for one in steps:
                position = one(data, position, order, found)
            if position > len(data):
                break  # a count that the message is too short for
        return position

    return step
