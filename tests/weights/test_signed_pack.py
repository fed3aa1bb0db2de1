"""Pins: bytes that are not exactly what was signed, and that act or crash all the same."""

import hashlib
import hmac
import pickle
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inril_core.weights import Key, Refusal, WeightsRefused, pack, unpack


def refusal(data: bytes, key: bytes) -> Refusal:
    with pytest.raises(WeightsRefused) as caught:
        unpack(data, key)
    assert str(caught.value).startswith(caught.value.reason)
    return caught.value.reason


def signed(body: bytes, key: bytes) -> bytes:
    return body + hmac.digest(key, body, "sha256")


def framed(manifest: bytes, tensors: bytes, key: bytes, sizes: tuple[int, int] | None = None) -> bytes:
    head = struct.pack("<8sQQ", b"INRILPK1", *(sizes or (len(manifest), len(tensors))))
    body = manifest + tensors
    return signed(head + body + hashlib.sha256(body).digest(), key)


def test_what_was_packed_comes_out(make):
    state, manifest = unpack(make.pack(n=7, steps=12), make.key)
    assert all(torch.equal(state[name], tensor) for name, tensor in make.state().items())
    assert manifest["n"] == 7 and manifest["steps"] == 12
    assert manifest["shapes"] == {"head.bias": [6], "head.weight": [6, 4]}


def test_arrays_and_gradient_tensors_can_be_packed_and_one_input_gives_one_pack(make):
    state = {"a": np.arange(3, dtype=np.float32), "b": torch.ones(2, requires_grad=True)}
    data = pack(state, make.manifest(), make.key)
    assert unpack(data, make.key)[0]["a"].tolist() == [0, 1, 2]
    assert data == pack(state, make.manifest(), make.key)


@given(st.data())
def test_one_flipped_bit_anywhere_is_refused(make, data):
    packed = bytearray(make.pack())
    bit = data.draw(st.integers(0, 8 * len(packed) - 1))
    packed[bit // 8] ^= 1 << (bit % 8)
    assert refusal(bytes(packed), make.key) in (Refusal.BAD_SIGNATURE, Refusal.NOT_A_PACK)


@given(st.integers(0, 10_000))
def test_a_pack_that_is_cut_off_anywhere_is_refused(make, length):
    packed = make.pack()
    if length < len(packed):
        expected = (Refusal.EMPTY, Refusal.NOT_A_PACK, Refusal.BAD_SIGNATURE)
        assert refusal(packed[:length], make.key) in expected


@given(st.binary(max_size=400))
def test_no_bytes_at_all_crash_it_even_correctly_signed_ones(make, data):
    refusal(data, make.key)
    refusal(signed(b"INRILPK1" + data, make.key), make.key)
    refusal(framed(data[:50], data[50:], make.key), make.key)


def test_a_wrong_key_an_empty_message_and_a_pickle_are_refused(make):
    assert refusal(make.pack(), bytes(32)) is Refusal.BAD_SIGNATURE
    assert refusal(b"", make.key) is Refusal.EMPTY
    assert refusal(pickle.dumps({"head.weight": [0.0] * 100}), make.key) is Refusal.NOT_A_PACK


def test_announced_sizes_are_checked_before_anything_is_allocated(make):
    for sizes in ((1 << 30, 4), (4, 1 << 30), (1 << 63, 1 << 63), (0, 0)):
        assert refusal(framed(b"{}", b"abcd", make.key, sizes), make.key) is Refusal.BAD_SIZE


def test_signed_nonsense_is_refused_by_name(make):
    packed = make.pack()
    tampered = packed[:24] + b"\0" + packed[25:-32]
    assert refusal(signed(tampered, make.key), make.key) is Refusal.BAD_DIGEST
    assert refusal(framed(b"[" * 5000, b"", make.key), make.key) is Refusal.BAD_MANIFEST
    assert refusal(framed(b'{"n": 1}', b"", make.key), make.key) is Refusal.BAD_MANIFEST


def test_tensors_other_than_the_manifest_lists_are_refused(make):
    packed = make.pack()
    sizes = struct.unpack_from("<8sQQ", packed)[1:]
    manifest = packed[24 : 24 + sizes[0]]
    other = make.pack(state={"head.weight": torch.zeros(5, 4), "head.bias": torch.zeros(6)})
    other_sizes = struct.unpack_from("<8sQQ", other)[1:]
    tensors = other[24 + other_sizes[0] : -64]
    assert refusal(framed(manifest, tensors, make.key), make.key) is Refusal.WRONG_SHAPE
    assert refusal(framed(manifest, tensors[:-4], make.key), make.key) is Refusal.BAD_TENSORS


@pytest.mark.parametrize(
    "change", [{"run_id": 3}, {"n": True}, {"n": -1}, {"run_id": ""}, {"policy": "mlp"}, {"parent": 0.5}]
)
def test_a_wrong_manifest_is_refused_when_packing(make, change):
    with pytest.raises(ValueError, match=next(iter(change))):
        pack(make.state(), make.manifest() | change, make.key)
    with pytest.raises(ValueError, match="no tensors"):
        pack({}, make.manifest(), make.key)


def test_a_pack_over_the_limit_is_not_made(make):
    with pytest.raises(ValueError, match="at most"):
        pack({"a": torch.zeros(17 << 20)}, make.manifest(), make.key)


def test_importing_the_package_does_not_load_torch():
    code = "import sys, inril_core.weights.store, inril_core.weights.gate; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_the_key_does_not_print_itself():
    key = Key(b"secret" * 6)
    assert "secret" not in f"{key} {key!r}" and "secret" not in str([key])
