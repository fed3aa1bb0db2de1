"""Weights of a small policy, packed."""

from __future__ import annotations

import hashlib

import pytest
import torch

from inril_core.weights import Key, pack
from inril_core.weights.gate import Gate, GateRules, Offer

KEY = Key(bytes(range(32)))
RUN = "run-1"
DIGEST = "d" * 64


def make_state(fill: float = 0.5) -> dict[str, torch.Tensor]:
    return {"head.weight": torch.full((6, 4), fill), "head.bias": torch.zeros(6)}


def make_manifest(n: int = 1, **changes) -> dict:
    return {
        "run_id": RUN,
        "n": n,
        "parent": None,
        "interface_digest": DIGEST,
        "contract_text": "{}",
        "policy": {"kind": "small"},
        "created_ns": 1,
        **changes,
    }


def offer_of(data: bytes, n: int = 1, **changes) -> Offer:
    fields = {
        "run_id": RUN,
        "n": n,
        "size_bytes": len(data),
        "sha256": hashlib.sha256(data).digest(),
        **changes,
    }
    return Offer(**fields)


class Maker:
    """Makes packs, offers and gates of one run."""

    key, run_id, digest = KEY, RUN, DIGEST
    state, manifest, offer = staticmethod(make_state), staticmethod(make_manifest), staticmethod(offer_of)

    @staticmethod
    def pack(n: int = 1, state=None, key=KEY, **changes) -> bytes:
        return pack(make_state() if state is None else state, make_manifest(n, **changes), key)

    @staticmethod
    def gate(**changes) -> Gate:
        rules = {k: changes.pop(k) for k in ("max_action_change",) if k in changes}
        return Gate(GateRules(DIGEST, **rules), KEY, **{"run_id": RUN, **changes})


@pytest.fixture(scope="session")
def make() -> type[Maker]:
    return Maker
