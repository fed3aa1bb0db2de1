"""What came to the policy and what became of it, for the report of a run."""

from __future__ import annotations

import json
import os
from pathlib import Path

from inril_core.weights.gate import Offer
from inril_core.weights.refusal import Refusal

LOG_NAME = "log.jsonl"
MAX_RUN_ID_CHARS = 300
"""More than a run's own id can have; a refused offer may announce anything."""


class WeightsLog:
    """Appends JSON lines to ``folder/log.jsonl``; what an earlier process wrote stays.

    One line per decided offer: `n, run_id, accepted, reason, offered_unix_s`. Another when an accepted version
    first acts: `event: "acting", n, run_id, push_to_acting_ms, acting_unix_s`. Not synced: nothing but the report
    depends on it.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOG_NAME
        self._written = set(self._read().splitlines())

    def offered(self, offer: Offer, published_ns: int, refusal: Refusal | None) -> None:
        """Note a decision; `refusal`: None if it was accepted. `published_ns`: the offer's stamp, wall clock.

        A latched offer that is heard, and refused, again after a restart is noted once.

        Raises:
            OSError: the line cannot be written.
        """
        self._append(
            {
                "n": offer.n,
                "run_id": offer.run_id[:MAX_RUN_ID_CHARS],
                "accepted": refusal is None,
                "reason": "" if refusal is None else refusal.value,
                "offered_unix_s": published_ns * 1e-9,
            }
        )

    def acting(self, run_id: str, n: int, published_ns: int, now_ns: int) -> None:
        """Note the first action of a pushed version. Both times: wall clock.

        Raises:
            OSError: the line cannot be written.
        """
        self._append(
            {
                "event": "acting",
                "n": n,
                "run_id": run_id[:MAX_RUN_ID_CHARS],
                "push_to_acting_ms": (now_ns - published_ns) * 1e-6,
                "acting_unix_s": now_ns * 1e-9,
            }
        )

    def _append(self, fields: dict[str, object]) -> None:
        line = json.dumps(fields).encode()
        if line in self._written:
            return
        with self._path.open("a+b") as file:
            if file.tell() > 0:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")  # a line torn by a crash or a full disk stays alone
            file.write(line + b"\n")
        self._written.add(line)

    def _read(self) -> bytes:
        try:
            return self._path.read_bytes()
        except OSError:
            return b""
