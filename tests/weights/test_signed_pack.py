"""Pins: bytes that are not exactly what was signed, and that act or crash all the same."""

import pickle
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from inril_core.weights import Key, Refusal, WeightsRefused, signed_pack, unpack, write_pack


def refusal(data: bytes) -> Refusal:
    with pytest.raises(WeightsRefused) as caught:
        unpack(np.frombuffer(bytearray(data), np.uint8))
    assert str(caught.value).startswith(caught.value.reason)
    return caught.value.reason


def framed(manifest: bytes, tensors: bytes, sizes: tuple[int, int] | None = None) -> bytes:
    return struct.pack("<8sQQ", b"INRILPK2", *(sizes or (len(manifest), len(tensors)))) + manifest + tensors


def parts(packed: bytes) -> tuple[bytes, bytes]:
    """Manifest and tensors of a pack."""
    size = struct.unpack_from("<8sQQ", packed)[1]
    return packed[24 : 24 + size], packed[24 + size :]


def test_what_was_packed_comes_out_and_is_no_copy(make):
    data = make.hashed(make.pack(n=7, steps=12)).data
    state, manifest = unpack(data)
    assert all(torch.equal(state[name], tensor) for name, tensor in make.state().items())
    assert manifest["n"] == 7 and manifest["steps"] == 12
    assert manifest["shapes"] == {"head.bias": [6], "head.weight": [6, 4]}
    ends = data.ctypes.data, data.ctypes.data + len(data)
    assert all(ends[0] <= tensor.data_ptr() < ends[1] for tensor in state.values())
    assert all(tensor.data_ptr() % 16 == 0 for tensor in state.values())


def test_arrays_and_gradient_tensors_can_be_packed_and_one_input_gives_one_pack(make, tmp_path):
    state = {"a": np.arange(3, dtype=np.float32), "b": torch.ones(2, requires_grad=True)}
    size, digest = write_pack(tmp_path / "pack", state, make.manifest())
    data = (tmp_path / "pack").read_bytes()
    assert (size, digest) == (len(data), blake3(data).digest())
    assert unpack(make.hashed(data).data)[0]["a"].tolist() == [0, 1, 2]
    assert write_pack(tmp_path / "again", state, make.manifest()) == (size, digest)


def test_a_pack_is_written_into_no_file_that_others_hold(make, tmp_path):
    """A policy that took the file by a link must not see it change."""
    path, link = tmp_path / "pack", tmp_path / "link"
    write_pack(path, make.state(), make.manifest(1))
    link.hardlink_to(path)
    write_pack(path, make.state(), make.manifest(2))
    assert link.read_bytes() == make.pack(1) != path.read_bytes()


@given(st.data())
def test_one_flipped_bit_anywhere_is_another_pack(make, data):
    packed = bytearray(make.pack())
    offer = make.offer(bytes(packed))
    bit = data.draw(st.integers(0, 8 * len(packed) - 1))
    packed[bit // 8] ^= 1 << (bit % 8)
    with pytest.raises(WeightsRefused) as caught:
        make.gate().open_pack(make.hashed(bytes(packed)), offer, None)
    assert caught.value.reason is Refusal.BAD_DIGEST


@given(st.integers(0, 10_000))
def test_a_pack_that_is_cut_off_anywhere_is_refused(make, length):
    packed = make.pack()
    if length < len(packed):
        assert refusal(packed[:length]) in (Refusal.EMPTY, Refusal.NOT_A_PACK, Refusal.BAD_SIZE)


@given(st.binary(max_size=400))
def test_no_bytes_at_all_crash_it_even_correctly_signed_ones(make, data):
    refusal(data)
    refusal(b"INRILPK2" + data)
    refusal(framed(data[:50], data[50:]))
    refusal(framed(parts(make.pack())[0], data))


def test_an_empty_message_and_a_pickle_are_refused(make):
    assert refusal(b"") is Refusal.EMPTY
    assert refusal(pickle.dumps({"head.weight": [0.0] * 100})) is Refusal.NOT_A_PACK


def test_announced_sizes_are_checked_before_anything_is_allocated(make):
    for sizes in ((1 << 30, 4), (4, 1 << 30), (1 << 63, 1 << 63), (0, 0)):
        assert refusal(framed(b"{}", b"abcd", sizes)) is Refusal.BAD_SIZE


def test_nonsense_is_refused_by_name(make):
    assert refusal(framed(b"[" * 5000, b"")) is Refusal.BAD_MANIFEST
    assert refusal(framed(b'{"n": 1}', b"")) is Refusal.BAD_MANIFEST


def test_tensors_other_than_the_manifest_lists_are_refused(make):
    manifest, _ = parts(make.pack())
    _, tensors = parts(make.pack(state={"head.weight": torch.zeros(5, 4), "head.bias": torch.zeros(6)}))
    assert refusal(framed(manifest, tensors)) is Refusal.WRONG_SHAPE
    assert refusal(framed(manifest, tensors[:-4])) is Refusal.BAD_TENSORS


@pytest.mark.parametrize(
    "change", [{"run_id": 3}, {"n": True}, {"n": -1}, {"run_id": ""}, {"policy": "mlp"}, {"parent": 0.5}]
)
def test_a_wrong_manifest_is_refused_when_packing(make, change, tmp_path):
    with pytest.raises(ValueError, match=next(iter(change))):
        write_pack(tmp_path / "pack", make.state(), make.manifest() | change)
    with pytest.raises(ValueError, match="no tensors"):
        write_pack(tmp_path / "pack", {}, make.manifest())
    assert not list(tmp_path.iterdir())


def test_a_pack_over_the_limit_is_not_made(make, tmp_path):
    with pytest.raises(ValueError, match="at most"):
        write_pack(tmp_path / "pack", {"a": torch.zeros(1).expand(3 << 29)}, make.manifest())
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_no_pack(make, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(signed_pack, "write_all", full)
    with pytest.raises(OSError, match="No space"):
        write_pack(tmp_path / "pack", make.state(), make.manifest())
    assert not list(tmp_path.iterdir())


def test_importing_the_package_does_not_load_torch():
    code = "import sys, inril_core.weights.store, inril_core.weights.gate; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_the_key_does_not_print_itself():
    key = Key(b"secret" * 6)
    assert "secret" not in f"{key} {key!r}" and "secret" not in str([key])
