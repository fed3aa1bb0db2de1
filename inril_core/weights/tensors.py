"""Tensors as safetensors, written from and read as views: no copy is made of what lies in memory already.

The library behind `safetensors.torch` takes and gives `bytes`, a second copy of each pack. The format: 8 bytes, the
little-endian size of a JSON header; the header, which has type, shape and place of each tensor; the tensors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inril_core.weights.refusal import Refusal, WeightsRefused

MAX_HEADER_BYTES = 16 << 20
MAX_AXES = 16
ALIGN_BYTES = 64
_VECTOR_BYTES = 16
"""Matrix products round differently where weights lie askew to it, on some processors: the policy would not act as the
learner's does, to the last bit."""
_SIZE_BYTES = 8
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def tensor_pieces(tensors: Mapping[str, Tensor]) -> Iterator[memoryview]:
    """The bytes of a safetensors file, piece by piece; tensors are on the CPU and contiguous.

    Raises:
        ValueError: a type that the format does not have.
    """
    ordered = sorted(tensors.items(), key=lambda item: (-_evenness(item[1].nbytes), item[0]))
    header: dict[str, Any] = {}
    end = 0
    for name, tensor in ordered:
        if tensor.dtype not in _NAMES:
            raise ValueError(f"{name}: {tensor.dtype} cannot be packed; use one of {', '.join(_DTYPES)}")
        begin, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(_SIZE_BYTES + len(text)) % ALIGN_BYTES)
    yield memoryview(len(text).to_bytes(_SIZE_BYTES, "little") + text)
    for _, tensor in ordered:
        yield tensor.reshape(-1).view(torch.uint8).numpy().data


def _evenness(size_bytes: int) -> int:
    """The largest power of two, up to `ALIGN_BYTES`, that divides it: sorted so, few tensors lie askew."""
    return min(size_bytes & -size_bytes, ALIGN_BYTES) or ALIGN_BYTES


def tensors_in(data: NDArray[np.uint8]) -> dict[str, Tensor]:
    """The tensors of a safetensors file, as views of ``data`` (copied only where they lie askew).

    Raises:
        WeightsRefused: it is none, or its tensors are not exactly what lies behind the header.
    """
    size = int.from_bytes(data[:_SIZE_BYTES].tobytes(), "little")
    if len(data) < _SIZE_BYTES or size > min(MAX_HEADER_BYTES, len(data) - _SIZE_BYTES):
        raise _refused(f"announces a header of {size} bytes in {len(data)}")
    try:
        header = json.loads(data[_SIZE_BYTES : _SIZE_BYTES + size].tobytes())
    except (ValueError, RecursionError) as error:
        raise _refused(f"header: {error}") from error
    if not isinstance(header, dict):
        raise _refused("the header is no object")
    header.pop("__metadata__", None)
    content = data[_SIZE_BYTES + size :]
    places = {name: _place(name, entry) for name, entry in header.items()}
    end = 0
    for begin, stop, _, _ in sorted(places.values(), key=lambda place: place[:2]):
        if begin != end:
            raise _refused(f"byte {end} belongs to no tensor, or to two")
        end = stop
    if end != len(content):
        raise _refused(f"{len(content)} bytes of tensors, {end} announced")
    return {name: _tensor(content[begin:end], dtype, shape) for name, (begin, end, dtype, shape) in places.items()}


def _place(name: str, entry: Any) -> tuple[int, int, torch.dtype, list[int]]:
    """Begin, end, type and shape of a tensor."""
    if not isinstance(entry, dict):
        raise _refused(f"{name:.80}: has no type and shape")
    kind = entry.get("dtype")
    dtype = _DTYPES.get(kind) if isinstance(kind, str) else None
    shape, offsets = _sizes(entry.get("shape"), MAX_AXES), _sizes(entry.get("data_offsets"), 2)
    if dtype is None or shape is None or offsets is None or len(offsets) != 2:
        raise _refused(f"{name:.80}: {str(entry)[:120]}")
    begin, end = offsets
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise _refused(f"{name:.80}: {end - begin} bytes for {str(shape)[:80]} of {kind}")
    return begin, end, dtype, shape


def _sizes(values: Any, most: int) -> list[int] | None:
    """The values, if they are at most so many sizes; else None."""
    sound = isinstance(values, list) and len(values) <= most
    return values if sound and all(type(value) is int and 0 <= value < 1 << 40 for value in values) else None


def _tensor(data: NDArray[np.uint8], dtype: torch.dtype, shape: list[int]) -> Tensor:
    if not len(data):
        return torch.empty(shape, dtype=dtype)
    if data.ctypes.data % _VECTOR_BYTES:
        data = data.copy()
    return torch.from_numpy(data).view(dtype).reshape(shape)


def _refused(text: str) -> WeightsRefused:
    return WeightsRefused(Refusal.BAD_TENSORS, f"not safetensors: {text}")
