"""The pack: weights and what they are, signed.

Layout, integers little-endian:

    8   magic, which holds the version of this layout
    8   size of the manifest
    8   size of the tensors
    ..  manifest, JSON
    ..  tensors, safetensors
    32  SHA-256 of manifest and tensors
    32  HMAC-SHA256, by the installation's key, of everything before

The signature is checked before anything is parsed, and no announced size is believed before that.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from inril_core.weights.refusal import Refusal, WeightsRefused

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

MAGIC = b"INRILPK1"
MAX_PACK_BYTES = 64 << 20
MAX_MANIFEST_BYTES = 2 << 20
_HEAD = struct.Struct("<8sQQ")
_HASH_BYTES = 32

# what a manifest holds beside `shapes`, which `pack` adds
MANIFEST_FIELDS: dict[str, tuple[type, ...]] = {
    "run_id": (str,),
    "n": (int,),
    "parent": (int, type(None)),  # n of the version it was trained from; lineage only
    "interface_digest": (str,),
    "contract_text": (str,),
    "policy": (dict,),  # architecture, for policy_from_manifest
    "created_ns": (int,),
}


def pack(state: Mapping[str, Tensor | np.ndarray], manifest: Mapping[str, Any], key: bytes) -> bytes:
    """The signed pack of a policy's tensors. `manifest`: MANIFEST_FIELDS, and other JSON values as you like.

    Raises:
        ValueError: no tensors, a field is missing or has another type, or the pack would be too large.
    """
    import torch
    from safetensors.torch import save

    if not state:
        raise ValueError("state: has no tensors")
    problem = _manifest_problem(manifest)
    if problem:
        raise ValueError(f"manifest: {problem}")
    tensors = {name: torch.as_tensor(value).detach().cpu().contiguous() for name, value in state.items()}
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    head_json = json.dumps({**manifest, "shapes": shapes}, sort_keys=True, allow_nan=False).encode()
    content = save(tensors)
    size = _HEAD.size + len(head_json) + len(content) + 2 * _HASH_BYTES
    if size > MAX_PACK_BYTES or len(head_json) > MAX_MANIFEST_BYTES:
        raise ValueError(f"pack: {size} bytes with a manifest of {len(head_json)}: at most {MAX_PACK_BYTES}")
    body = head_json + content
    framed = _HEAD.pack(MAGIC, len(head_json), len(content)) + body + hashlib.sha256(body).digest()
    return framed + hmac.digest(key, framed, "sha256")


def unpack(data: bytes, key: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and manifest of a pack, if its signature, sizes, digest, manifest and tensors are sound.

    Raises:
        WeightsRefused: they are not; says which.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    manifest_json, content = _open(data, key)
    try:
        manifest = json.loads(manifest_json)
    except (ValueError, RecursionError) as error:
        raise WeightsRefused(Refusal.BAD_MANIFEST, f"the manifest is not JSON ({error})") from error
    problem = _manifest_problem(manifest)
    if problem:
        raise WeightsRefused(Refusal.BAD_MANIFEST, f"manifest: {problem}")
    try:
        state = load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise WeightsRefused(Refusal.BAD_TENSORS, f"the tensors are not safetensors ({error})") from error
    shapes = {name: list(tensor.shape) for name, tensor in state.items()}
    if not state or manifest.get("shapes") != shapes:
        raise WeightsRefused(Refusal.WRONG_SHAPE, "the tensors are not those that the manifest lists")
    return state, manifest


def _open(data: bytes, key: bytes) -> tuple[bytes, bytes]:
    """Manifest and tensors, still bytes, of a pack whose signature, sizes and digest are right."""
    if not data:
        raise WeightsRefused(Refusal.EMPTY, "no bytes came")
    if len(data) > MAX_PACK_BYTES:
        raise WeightsRefused(Refusal.TOO_LARGE, f"{len(data)} bytes: at most {MAX_PACK_BYTES}")
    if len(data) < _HEAD.size + 2 * _HASH_BYTES or data[: len(MAGIC)] != MAGIC:
        raise WeightsRefused(Refusal.NOT_A_PACK, f"does not begin with {MAGIC!r}; send what inril's learner packs")
    framed, signature = data[:-_HASH_BYTES], data[-_HASH_BYTES:]
    if not hmac.compare_digest(hmac.digest(key, framed, "sha256"), signature):
        raise WeightsRefused(
            Refusal.BAD_SIGNATURE,
            "altered on the way, or signed with another key; both hosts need the same key",
        )
    _, manifest_bytes, tensor_bytes = _HEAD.unpack_from(framed)
    body, digest = framed[_HEAD.size : -_HASH_BYTES], framed[-_HASH_BYTES:]
    if manifest_bytes > MAX_MANIFEST_BYTES or manifest_bytes + tensor_bytes != len(body):
        raise WeightsRefused(
            Refusal.BAD_SIZE, f"announces {manifest_bytes} + {tensor_bytes} bytes, but {len(body)} came"
        )
    if hashlib.sha256(body).digest() != digest:
        raise WeightsRefused(Refusal.BAD_DIGEST, "content and digest differ")
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
