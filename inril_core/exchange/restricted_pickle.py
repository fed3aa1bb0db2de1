"""Reads pickles of numbers, texts, lists, dictionaries and numpy arrays; anything else is refused, and nothing runs.

The opcodes are interpreted here, none of Python's unpickling is used: a name in the file (``posix.system``) is only
compared with a short list, so there is nothing that a hostile file could call. Object arrays, classes, extension codes
and persistent ids have no meaning here.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inril_core.errors import InrilError

MAX_BYTES = 8 << 30
MAX_ITEMS = 20_000_000
_CORES = ("numpy.core", "numpy._core")
_ARRAY_NAMES = {f"{core}.multiarray._reconstruct" for core in _CORES}
_SCALAR_NAMES = {f"{core}.multiarray.scalar" for core in _CORES}
_FROM_BUFFER = {f"{core}.numeric._frombuffer" for core in _CORES}
_EMPTY_BYTES = {"__builtin__.bytes", "builtins.bytes"}
"""How protocols 0 to 2 write no bytes."""
_KNOWN = _ARRAY_NAMES | _SCALAR_NAMES | _FROM_BUFFER | _EMPTY_BYTES | {"numpy.ndarray", "numpy.dtype", "_codecs.encode"}
_KINDS = "biuf"
"""Kinds of numbers that an array may hold: truth values, integers, floats; besides texts of fixed length (S, U)."""


class PickleRefused(InrilError):
    """A pickle that holds something else than numbers, texts and containers, or is damaged."""


@dataclass(frozen=True)
class _Name:
    text: str


@dataclass
class _Call:
    name: str
    arguments: tuple[Any, ...]
    state: Any = None


class _Mark:
    pass


_PUSHED = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_TEXTS = {"STRING", "BINSTRING", "SHORT_BINSTRING"}
_IGNORED = {"PROTO", "FRAME", "MEMOIZE", "STOP"}


def read_pickle(path: Path, max_bytes: int = MAX_BYTES) -> Any:
    """The value in a pickle file.

    Raises:
        PickleRefused: too large, damaged, or with something else than plain values and numpy arrays in it.
    """
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise PickleRefused(f"{path}: {size} bytes; at most {max_bytes} are read")
        with open(path, "rb") as file:
            return _Machine().run(file)
    except PickleRefused as error:
        raise PickleRefused(f"{path}: {error}") from error
    except (ValueError, TypeError, IndexError, KeyError, EOFError, OverflowError, MemoryError, RecursionError) as error:
        raise PickleRefused(f"{path}: a damaged pickle ({type(error).__name__} {error})") from error
    except OSError as error:
        raise PickleRefused(f"{path}: {error.strerror or error}") from error


class _Machine:
    """A stack machine for the opcodes of plain values."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self._made: dict[int, tuple[Any, Any]] = {}
        self._items = 0

    def run(self, file: Any) -> Any:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if count > MAX_ITEMS:
                raise PickleRefused(f"more than {MAX_ITEMS} opcodes")
            self._step(opcode.name, argument)
        if len(self.stack) != 1:
            raise ValueError(f"{len(self.stack)} values at its end")
        return self._plain(self.stack[0], 0)

    def _step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _TEXTS:  # of Python 2: bytes
            stack.append(argument.encode("latin-1") if isinstance(argument, str) else argument)
        elif name in _PUSHED:
            stack.append(_PUSHED[name])
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[int(argument)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[int(argument)])
        elif name == "MARK":
            stack.append(_Mark)
        elif name == "POP":
            stack.pop()
        elif name == "POP_MARK":
            self._from_mark()
        elif name == "DUP":
            stack.append(stack[-1])
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            self._name(name, argument)
        elif name == "REDUCE":
            self._call()
        elif name == "BUILD":
            self._build()
        elif name not in _IGNORED and not self._container(name):
            raise PickleRefused(f"holds {name}, which plain values and arrays do not need; nothing of it was run")

    def _container(self, name: str) -> bool:
        stack = self.stack
        if name in ("EMPTY_LIST", "EMPTY_DICT", "EMPTY_TUPLE", "EMPTY_SET"):
            stack.append({"LIST": [], "DICT": {}, "TUPLE": (), "SET": set()}[name.removeprefix("EMPTY_")])
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            size = int(name[-1])
            stack[-size:] = [tuple(stack[-size:])]
        elif name in ("TUPLE", "LIST"):
            items = self._from_mark()
            stack.append(tuple(items) if name == "TUPLE" else items)
        elif name == "DICT":
            items = self._from_mark()
            stack.append(dict(zip(items[::2], items[1::2], strict=True)))
        elif name in ("APPEND", "APPENDS"):
            items = [stack.pop()] if name == "APPEND" else self._from_mark()
            self._top(list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = [stack.pop(-2), stack.pop()] if name == "SETITEM" else self._from_mark()
            self._top(dict).update(zip(items[::2], items[1::2], strict=True))
        else:
            return False
        return True

    def _top(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise PickleRefused(f"adds to a {type(self.stack[-1]).__name__} as to a {kind.__name__}")
        return self.stack[-1]

    def _from_mark(self) -> list[Any]:
        place = len(self.stack) - 1
        while self.stack[place] is not _Mark:
            place -= 1
            if place < 0:
                raise ValueError("a mark is missing")
        items = self.stack[place + 1 :]
        del self.stack[place:]
        return items

    def _name(self, opcode: str, argument: Any) -> None:
        if opcode == "GLOBAL":
            text = ".".join(str(argument).split(" ", 1))
        else:
            name, module = self.stack.pop(), self.stack.pop()
            text = f"{module}.{name}"
        if text not in _KNOWN:
            raise PickleRefused(f"names {text[:80]!r}; only numbers, texts and numpy arrays are read, nothing was run")
        self.stack.append(_Name(text))

    def _call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, _Name) or not isinstance(arguments, tuple):
            raise PickleRefused("calls what is no name; nothing was run")
        if function.text == "_codecs.encode":  # how protocol 2 writes bytes
            text, coding = arguments
            if coding != "latin1" or not isinstance(text, str):
                raise PickleRefused(f"encodes by {coding!r:.40}")
            self.stack.append(text.encode("latin-1"))
            return
        if function.text in _EMPTY_BYTES and arguments == ():
            self.stack.append(b"")
            return
        self.stack.append(_Call(function.text, arguments))

    def _build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if not isinstance(target, _Call) or target.name not in _ARRAY_NAMES | {"numpy.dtype"}:
            raise PickleRefused("sets the state of what is no array; nothing was run")
        target.state = state

    def _plain(self, value: Any, depth: int) -> Any:
        """Arrays for calls, in containers of any depth."""
        self._items += 1
        if depth > 100 or self._items > MAX_ITEMS:
            raise PickleRefused(f"is nested deeper than 100, or unfolds to more than {MAX_ITEMS} values")
        if isinstance(value, _Call):
            if id(value) not in self._made:
                self._made[id(value)] = (value, _array(value))
            return self._made[id(value)][1]
        if isinstance(value, _Name):
            raise PickleRefused(f"holds the name {value.text!r} as a value")
        if isinstance(value, dict):
            return {self._key(key): self._plain(item, depth + 1) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self._plain(item, depth + 1) for item in value)
        return value

    def _key(self, key: Any) -> Any:
        if not isinstance(key, (str, int, bytes, bool, float)):
            raise PickleRefused(f"a key of type {type(key).__name__}")
        return key.decode("latin-1") if isinstance(key, bytes) else key


def _array(call: _Call) -> Any:
    if call.name in _SCALAR_NAMES:
        dtype, data = _dtype(call.arguments[0]), call.arguments[1]
        if not isinstance(data, bytes) or len(data) != dtype.itemsize:
            raise PickleRefused(f"a number of {dtype} in other bytes")
        return np.frombuffer(data, dtype)[0].item()
    if call.name in _FROM_BUFFER:
        data, dtype, shape, order = call.arguments
        return _numbers(data, _dtype(dtype), shape, order == "F")
    if call.name in _ARRAY_NAMES and isinstance(call.state, tuple) and len(call.state) == 5:
        _, shape, dtype, fortran, data = call.state
        return _numbers(data, _dtype(dtype), shape, bool(fortran))
    raise PickleRefused(f"holds {call.name}, which is no array")


def _numbers(data: Any, dtype: np.dtype[Any], shape: Any, fortran: bool) -> np.ndarray:
    if not isinstance(data, (bytes, bytearray)) or not isinstance(shape, tuple):
        raise PickleRefused("an array whose numbers are no bytes (an object array?)")
    if not all(type(size) is int and 0 <= size < 2**31 for size in shape):
        raise PickleRefused(f"an array of shape {shape!r:.60}")
    return np.frombuffer(bytes(data), dtype).reshape(shape, order="F" if fortran else "C")


def _dtype(call: Any) -> np.dtype[Any]:
    if not isinstance(call, _Call) or call.name != "numpy.dtype" or not call.arguments:
        raise PickleRefused("an array without a kind of number")
    text = call.arguments[0]
    text = text.decode("latin-1") if isinstance(text, bytes) else text
    if not isinstance(text, str) or len(text) > 8 or text.lstrip("<>|=")[:1] not in _KINDS + "SU":
        raise PickleRefused(f"an array of {text!r:.40}: only numbers and texts are read")
    order = call.state[1] if isinstance(call.state, tuple) and len(call.state) > 1 else "="
    order = order.decode("latin-1") if isinstance(order, bytes) else order
    if order not in ("<", ">", "=", "|") or (isinstance(call.state, tuple) and any(call.state[2:5])):
        raise PickleRefused("an array of records or sub-arrays")
    dtype = np.dtype(text)
    if dtype.kind not in _KINDS + "SU" or dtype.hasobject:
        raise PickleRefused(f"an array of {dtype}: only numbers and texts are read")
    return dtype if order in "=|" else dtype.newbyteorder(">" if order == ">" else "<")
