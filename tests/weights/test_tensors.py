"""Pins: tensors that the safetensors library would read otherwise, or hostile headers that crash or lie."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from inril_core.weights import Refusal, WeightsRefused
from inril_core.weights.tensors import tensor_pieces, tensors_in
from tests.strategies import JSON

DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
]
shapes = st.lists(st.integers(0, 4), max_size=3)
states = st.dictionaries(
    st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__"),
    st.builds(lambda shape, dtype: torch.randint(0, 2, shape).to(dtype), shapes, st.sampled_from(DTYPES)),
    min_size=1,
    max_size=5,
)


def as_array(data: bytes):
    return np.frombuffer(bytearray(data), np.uint8)


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )


@settings(deadline=None)
@given(states, st.integers(0, 7))
def test_what_the_library_writes_is_read_and_what_is_written_the_library_reads(state, askew):
    written = b"".join(tensor_pieces(state))
    assert same(load(written), state)
    data = as_array(bytes(askew) + save(state))[askew:]
    assert same(tensors_in(data), state)


@settings(deadline=None)
@given(states, st.integers(0, 31))
def test_no_tensor_lies_askew(state, askew):
    """Pins: a policy whose matrix products round in another way than the learner's, on some processors."""
    data = as_array(bytes(askew) + b"".join(tensor_pieces(state)))[askew:]
    assert all(tensor.data_ptr() % 16 == 0 for tensor in tensors_in(data).values() if tensor.numel())


def test_a_type_that_the_format_does_not_have_is_not_packed():
    with pytest.raises(ValueError, match="complex64"):
        list(tensor_pieces({"a": torch.zeros(2, dtype=torch.complex64)}))


def framed(header: object, content: bytes = bytes(8)) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content


def refused(data: bytes) -> None:
    with pytest.raises(WeightsRefused) as caught:
        tensors_in(as_array(data))
    assert caught.value.reason is Refusal.BAD_TENSORS


GOOD = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "header",
    [
        {"a": GOOD, "b": GOOD},  # two tensors of the same bytes
        {"a": GOOD | {"data_offsets": [0, 4], "shape": [1]}},  # bytes of no tensor behind
        {"a": GOOD | {"data_offsets": [4, 8], "shape": [1]}},  # and in front
        {"a": GOOD | {"data_offsets": [0, 16], "shape": [4]}},  # more than there is
        {"a": GOOD | {"data_offsets": [8, 0]}},
        {"a": GOOD | {"shape": [1 << 39, 1 << 39]}},
        {"a": GOOD | {"shape": [True, 2]}},
        {"a": GOOD | {"shape": [1] * 17 + [2]}},
        {"a": GOOD | {"dtype": "F8"}},
        {"a": GOOD | {"dtype": ["F32"]}},
        {"a": GOOD | {"data_offsets": [0, 8, 8]}},
        {"a": None},
        [],
        7,
    ],
)
def test_a_header_that_lies_is_refused(header):
    refused(framed(header))


@given(st.binary(max_size=60) | JSON.map(framed) | st.dictionaries(st.text(max_size=3), JSON).map(framed))
def test_no_bytes_crash_it(data):
    try:
        tensors_in(as_array(data))
    except WeightsRefused as error:
        assert error.reason is Refusal.BAD_TENSORS
