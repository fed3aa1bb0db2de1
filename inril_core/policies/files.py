"""A policy in one file: safetensors, with the manifest as metadata."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from inril_core.errors import ConfigError
from inril_core.files import write_atomically
from inril_core.policies.base import Policy
from inril_core.policies.manifest import policy_from_manifest


def save_policy(path: Path, policy: Policy, facts: dict[str, Any]) -> None:
    """Write weights, architecture and ``facts`` (JSON values; where the policy came from), atomically.

    Raises:
        OSError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    write_atomically(path, policy_bytes(policy, facts))


def policy_bytes(policy: Policy, facts: dict[str, Any]) -> bytes:
    """What `save_policy` writes."""
    state = {name: tensor.detach().clone() for name, tensor in policy.state_dict().items()}
    data: bytes = save(state, metadata={"policy": json.dumps(policy.manifest()), "facts": json.dumps(facts)})
    return data


def load_policy(path: Path) -> tuple[Policy, dict[str, Any]]:
    """The policy and the facts that `save_policy` wrote.

    Raises:
        ConfigError: the file is missing, not readable, or does not hold a policy.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
        policy = policy_from_manifest(json.loads(metadata["policy"]))
        policy.load_state_dict(state)
        facts: dict[str, Any] = json.loads(metadata["facts"])
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise ConfigError(f"{path}: holds no readable policy ({error}); make one with `inril pretrain`") from error
    return policy, facts


def policy_sha256(policy: Policy) -> str:
    """SHA-256 (hex) of architecture and tensors: equal for the same weights, in whatever file or pack they lie."""
    digest = hashlib.sha256(json.dumps(policy.manifest(), sort_keys=True).encode())
    for name, tensor in sorted(policy.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
