"""Weights of a small policy, packed."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from blake3 import blake3

from inril_core.weights import Hashed, Key, Offer, write_pack
from inril_core.weights.gate import Gate, GateRules
from inril_core.weights.store import KeptPack, WeightStore

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


def packed(n: int = 1, state=None, **changes) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pack"
        write_pack(path, make_state() if state is None else state, make_manifest(n, **changes))
        return path.read_bytes()


def hashed(data: bytes) -> Hashed:
    return Hashed.of(np.frombuffer(bytearray(data), np.uint8))


def offer_of(data: bytes, n: int = 1, key: bytes = KEY, **changes) -> Offer:
    fields = {"run_id": RUN, "n": n, "size_bytes": len(data), "digest": blake3(data).digest(), **changes}
    return Offer.signed(key, **fields)


class Maker:
    """Makes packs, offers and gates of one run."""

    key, run_id, digest = KEY, RUN, DIGEST
    state, manifest, offer = staticmethod(make_state), staticmethod(make_manifest), staticmethod(offer_of)
    pack, hashed = staticmethod(packed), staticmethod(hashed)

    @staticmethod
    def kept(store: WeightStore, n: int) -> KeptPack:
        """A pack that came, checked and kept."""
        data = packed(n)
        store.incoming.mkdir(exist_ok=True)
        path = store.incoming / "came.pack"
        path.write_bytes(data)
        return store.add(path, offer_of(data, n))

    @staticmethod
    def gate(**changes) -> Gate:
        rules = {k: changes.pop(k) for k in ("max_action_change",) if k in changes}
        return Gate(GateRules(DIGEST, **rules), KEY, **{"run_id": RUN, **changes})


@pytest.fixture(scope="session")
def make() -> type[Maker]:
    return Maker
