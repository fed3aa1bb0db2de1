"""The pack: weights and what they are.

Layout, integers little-endian:

    8   magic, which holds the version of this layout
    8   size of the manifest
    8   size of the tensors
    ..  manifest, JSON, filled up with spaces so that the tensors begin at a multiple of 64
    ..  tensors, safetensors

A pack's BLAKE3 digest and size are signed in its `Offer`. Whoever has checked both parses what the key's holder made;
all the same no announced size is believed.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from inril_core.files import write_all
from inril_core.weights.refusal import Refusal, WeightsRefused

if TYPE_CHECKING:
    from torch import Tensor

Bytes = NDArray[np.uint8]

MAGIC = b"INRILPK2"
MAX_PACK_BYTES = 2 << 30
MAX_MANIFEST_BYTES = 2 << 20
_HEAD = struct.Struct("<8sQQ")
_ALIGN_BYTES = 64

# what a manifest holds beside `shapes`, which `write_pack` adds
MANIFEST_FIELDS: dict[str, tuple[type, ...]] = {
    "run_id": (str,),
    "n": (int,),
    "parent": (int, type(None)),  # n of the version it was trained from; lineage only
    "interface_digest": (str,),
    "contract_text": (str,),
    "policy": (dict,),  # architecture, for policy_from_manifest
    "created_ns": (int,),
}


@dataclass(frozen=True)
class Hashed:
    """Bytes, and their BLAKE3 digest, which was computed from these very bytes in this process."""

    data: Bytes
    digest: bytes

    @classmethod
    def of(cls, data: Bytes) -> Hashed:
        """Hash them now."""
        return cls(data, blake3(data.data).digest())


def write_pack(path: Path, state: Mapping[str, Tensor | np.ndarray], manifest: Mapping[str, Any]) -> tuple[int, bytes]:
    """Write the pack of a policy's tensors straight from their memory; its size in bytes and its digest.

    The file is whole or absent for whoever does not look before this returns. It is not synced.

    Args:
        manifest: MANIFEST_FIELDS, and other JSON values as you like.

    Raises:
        ValueError: no tensors, a field is missing or has another type, or the pack would be too large.
        OSError: the disk is full or broken; nothing is left behind.
    """
    pieces = _pieces(state, manifest)
    first = next(pieces)  # raises what is wrong before a file is made
    digest, size = blake3(), 0
    path.unlink(missing_ok=True)  # never into a file that others may hold by a link
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        for piece in (first, *pieces):
            digest.update(piece)
            write_all(fd, piece)
            size += piece.nbytes
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)
    return size, digest.digest()


def _pieces(state: Mapping[str, Tensor | np.ndarray], manifest: Mapping[str, Any]) -> Iterator[memoryview]:
    import torch

    from inril_core.weights.tensors import tensor_pieces

    if not state:
        raise ValueError("state: has no tensors")
    problem = _manifest_problem(manifest)
    if problem:
        raise ValueError(f"manifest: {problem}")
    tensors = {name: torch.as_tensor(value).detach().cpu().contiguous() for name, value in state.items()}
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    text = json.dumps({**manifest, "shapes": shapes}, sort_keys=True, allow_nan=False).encode()
    text += b" " * (-(_HEAD.size + len(text)) % _ALIGN_BYTES)
    pieces = tensor_pieces(tensors)
    header = next(pieces)
    content = header.nbytes + sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    size = _HEAD.size + len(text) + content
    if size > MAX_PACK_BYTES or len(text) > MAX_MANIFEST_BYTES:
        raise ValueError(f"pack: {size} bytes with a manifest of {len(text)}: at most {MAX_PACK_BYTES}")
    yield memoryview(_HEAD.pack(MAGIC, len(text), content) + text)
    yield header
    yield from pieces


def unpack(data: Bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors, which are views of ``data``, and manifest of a pack, if its sizes, manifest and tensors are sound.

    Raises:
        WeightsRefused: they are not; says which.
    """
    from inril_core.weights.tensors import tensors_in

    manifest_json, content = _open(data)
    try:
        manifest = json.loads(manifest_json.tobytes())
    except (ValueError, RecursionError) as error:
        raise WeightsRefused(Refusal.BAD_MANIFEST, f"the manifest is not JSON ({error})") from error
    problem = _manifest_problem(manifest)
    if problem:
        raise WeightsRefused(Refusal.BAD_MANIFEST, f"manifest: {problem}")
    state = tensors_in(content)
    shapes = {name: list(tensor.shape) for name, tensor in state.items()}
    if not state or manifest.get("shapes") != shapes:
        raise WeightsRefused(Refusal.WRONG_SHAPE, "the tensors are not those that the manifest lists")
    return state, manifest


def _open(data: Bytes) -> tuple[Bytes, Bytes]:
    """Manifest and tensors, still bytes, of a pack whose sizes are right."""
    if not len(data):
        raise WeightsRefused(Refusal.EMPTY, "no bytes came")
    if len(data) > MAX_PACK_BYTES:
        raise WeightsRefused(Refusal.TOO_LARGE, f"{len(data)} bytes: at most {MAX_PACK_BYTES}")
    if len(data) < _HEAD.size or data[: len(MAGIC)].tobytes() != MAGIC:
        raise WeightsRefused(Refusal.NOT_A_PACK, f"does not begin with {MAGIC!r}; use one inril version on both hosts")
    _, manifest_bytes, tensor_bytes = _HEAD.unpack_from(data[: _HEAD.size].tobytes())
    body = data[_HEAD.size :]
    if manifest_bytes > MAX_MANIFEST_BYTES or manifest_bytes + tensor_bytes != len(body):
        raise WeightsRefused(
            Refusal.BAD_SIZE, f"announces {manifest_bytes} + {tensor_bytes} bytes, but {len(body)} came"
        )
    return body[:manifest_bytes], body[manifest_bytes:]


def _manifest_problem(manifest: Any) -> str:
    """What is wrong with a manifest; empty if nothing is."""
    if not isinstance(manifest, Mapping):
        return f"is a {type(manifest).__name__}, must be an object"
    for name, types in MANIFEST_FIELDS.items():
        value = manifest.get(name)
        if name not in manifest or not isinstance(value, types) or isinstance(value, bool):
            allowed = " or ".join(kind.__name__ for kind in types)
            return f"{name} = {value!r:.80}: must be {allowed}"
    if not manifest["run_id"] or not 0 <= manifest["n"] < 2**63:
        return f"run_id = {manifest['run_id']!r:.80}, n = {manifest['n']}: must be a name and in [0, 2^63)"
    return ""
