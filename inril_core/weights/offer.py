"""The announcement of weights, signed: nothing is pulled for an offer that the key's holder did not make."""

from __future__ import annotations

import hmac
import json
from dataclasses import dataclass


@dataclass(frozen=True)
class Offer:
    """Weights of version (run_id, n), as they are announced."""

    run_id: str
    n: int
    size_bytes: int
    """Of the pack."""
    digest: bytes
    """BLAKE3 of the pack."""
    mac: bytes
    """HMAC-SHA256 of all this by the installation's key."""

    @classmethod
    def signed(cls, key: bytes, run_id: str, n: int, size_bytes: int, digest: bytes) -> Offer:
        """The offer of whoever has the key."""
        return cls(run_id, n, size_bytes, digest, _mac(key, run_id, n, size_bytes, digest))

    def is_signed(self, key: bytes) -> bool:
        """Whether it was made with this key."""
        return hmac.compare_digest(self.mac, _mac(key, self.run_id, self.n, self.size_bytes, self.digest))


def _mac(key: bytes, run_id: str, n: int, size_bytes: int, digest: bytes) -> bytes:
    text = json.dumps(["inril weights", run_id, n, size_bytes, digest.hex()])
    return hmac.digest(key, text.encode(), "sha256")
