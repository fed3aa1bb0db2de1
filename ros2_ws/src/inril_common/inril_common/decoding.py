"""Messages taken from their serialised form (CDR) by a function made for their type.

rclpy makes a Python object for each message and each part of it, twice, and imports its module each time: some 50 us
for an Observation. What is made here are named tuples with the same field names, in an eighth of that. They are for
reading; the values are those that rclpy gives (`tests/common/test_decoding.py` compares them for every type).
"""

from __future__ import annotations

import struct
from array import array
from collections import namedtuple
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
from rclpy.serialization import deserialize_message
from rosidl_parser.definition import (
    AbstractSequence,
    AbstractString,
    AbstractType,
    Array,
    BasicType,
    NamespacedType,
)

LITTLE_ENDIAN = b"\x00\x01"
"""How a message begins that this file reads; others are left to rclpy."""
_CODES = {
    **dict(boolean="?", octet="c", char="B", int8="b", uint8="B", int16="h", uint16="H", int32="i", uint32="I"),
    **dict(int64="q", uint64="Q", float="f", double="d"),
}
_NUMBERS = _CODES.keys() - {"boolean", "octet", "char"}


class _Unsupported(Exception):
    """No message of the graph has a field of this kind: the type is left to rclpy."""


@cache
def decoder(kind: type) -> Callable[[bytes], Any]:
    """A function from serialised messages of a type to named tuples with the fields of the message class.

    It raises ValueError for a message that is cut short. Messages of a machine with the other byte order are left to
    rclpy.
    """
    try:
        fast = _Maker(kind).function()
    except _Unsupported:
        return lambda data: deserialize_message(data, kind)

    def decode(data: bytes) -> Any:
        if data[:2] != LITTLE_ENDIAN:
            return deserialize_message(data, kind)
        try:
            return fast(data)
        except (struct.error, ValueError) as error:
            raise ValueError(f"{len(data)} bytes, cut short") from error

    return decode


@cache
def _tuple_of(kind: Any) -> type:
    """The named tuple that stands for a message class, also by its name, which rclpy looks at when it is sent on."""
    made: Any = namedtuple(kind.__name__, [name.lstrip("_") for name in kind.__slots__ if name != "_check_fields"])
    made.__module__ = kind.__module__
    made.get_fields_and_field_types = kind.get_fields_and_field_types
    return made  # type: ignore[no-any-return]


class _Maker:
    """Writes the function for one type, as `collections.namedtuple` writes classes.

    Numbers next to each other are unpacked together. In CDR a number lies at a multiple of its size, counted from the
    fourth byte. Behind a text the position is known at run time only, so there the function aligns.
    """

    def __init__(self, kind: type) -> None:
        self._kind = kind
        self._lines: list[str] = []
        self._indent = " "
        self._names: dict[str, Any] = {"new": tuple.__new__, "array": array, "frombuffer": np.frombuffer}
        self._count = 0
        self._run_format, self._run_names, self._run_bytes = "<", list[str](), 0
        self._modulus, self._phase = 8, 0
        """The position `o` minus four, modulo `_modulus`, is `_phase`."""

    def function(self) -> Callable[[bytes], Any]:
        """The function; it raises struct.error or ValueError for a message that is cut short."""
        value = self._message(self._kind)
        self._flush()
        body = [" o = 4", *self._lines, " if o > len(data): raise ValueError('cut short')", f" return {value}"]
        exec("\n".join(["def decode(data):", *body]), self._names)
        return self._names["decode"]  # type: ignore[no-any-return]

    def _message(self, kind: Any) -> str:
        if not kind.SLOT_TYPES:
            raise _Unsupported
        self._names[f"T{id(kind)}"] = _tuple_of(kind)
        values = [self._value(kind_of_field) for kind_of_field in kind.SLOT_TYPES]
        return f"new(T{id(kind)}, ({', '.join(values)},))"

    def _value(self, kind: AbstractType) -> str:
        """Write what reads one value; the expression that has it then."""
        if isinstance(kind, BasicType) and kind.typename in _CODES:
            return self._number(kind.typename)
        if isinstance(kind, AbstractString) and type(kind).__name__.endswith("String"):
            if "WString" in type(kind).__name__:
                raise _Unsupported
            return self._text()
        if isinstance(kind, NamespacedType):
            return self._message(_message_class(kind))
        if isinstance(kind, AbstractSequence):
            return self._sequence(kind.value_type)
        if isinstance(kind, Array):
            return self._fixed(kind.value_type, kind.size)
        raise _Unsupported

    def _number(self, typename: str) -> str:
        code = _CODES[typename]
        size = struct.calcsize("<" + code)
        self._align(size)
        name = self._name()
        padding = -(self._phase + self._run_bytes) % size
        self._run_format += f"{padding}x{code}" if padding else code
        self._run_bytes += padding + size
        self._run_names.append(name)
        return name

    def _text(self) -> str:
        length, text = self._number("uint32"), self._name()
        self._flush()
        self._write(f"e = o + {length}", f"{text} = data[o:e - 1].decode('utf-8', 'replace')", "o = e")
        self._modulus = 1
        return text

    def _sequence(self, kind: AbstractType) -> str:
        length, values = self._number("uint32"), self._name()
        self._flush()
        if isinstance(kind, BasicType) and kind.typename in _NUMBERS:
            code = _CODES[kind.typename]
            size = struct.calcsize("<" + code)
            if size == 8:
                self._write(f"if {length}: o = (o + 3 & -8) + 4")
            self._write(f"e = o + {size} * {length}", f"{values} = array({code!r})")
            self._write(f"{values}.frombytes(data[o:e])", "o = e")
            self._modulus, self._phase = min(size, 4), 0
            return values
        self._write(f"{values} = []", f"for _ in range({length}):")
        self._indent += " "
        self._modulus = 1
        value = self._value(kind)
        self._flush()
        self._write(f"{values}.append({value})")
        self._indent = self._indent[:-1]
        self._modulus = 1
        return values

    def _fixed(self, kind: AbstractType, count: int) -> str:
        if not isinstance(kind, BasicType) or kind.typename not in _NUMBERS:
            raise _Unsupported
        dtype, values = np.dtype("<" + _CODES[kind.typename]), self._name()
        self._align(dtype.itemsize)
        self._flush()
        padding = -self._phase % dtype.itemsize
        self._names[f"D{values}"] = dtype
        self._write(f"o += {padding}", f"{values} = frombuffer(data, D{values}, {count}, o)")
        self._write(f"o += {count * dtype.itemsize}")
        self._modulus, self._phase = dtype.itemsize, 0
        return values

    def _align(self, size: int) -> None:
        """Make the position known modulo `size`, at run time where it must be."""
        if size > self._modulus:
            self._flush()
            self._write(f"o = (o + {size - 5} & -{size}) + 4")
            self._modulus, self._phase = size, 0

    def _flush(self) -> None:
        if not self._run_names:
            return
        unpack = f"S{self._name()}"
        self._names[unpack] = struct.Struct(self._run_format).unpack_from
        self._write(f"{', '.join(self._run_names)}, = {unpack}(data, o)", f"o += {self._run_bytes}")
        self._phase = (self._phase + self._run_bytes) % self._modulus
        self._run_format, self._run_names, self._run_bytes = "<", [], 0

    def _write(self, *lines: str) -> None:
        self._lines += [self._indent + line for line in lines]

    def _name(self) -> str:
        self._count += 1
        return f"v{self._count}"


def _message_class(kind: NamespacedType) -> Any:
    return getattr(import_module(".".join(kind.namespaces)), kind.name)
