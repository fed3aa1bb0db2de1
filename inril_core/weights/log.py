"""What came to the policy and what became of it, for the report of a run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, with_config

from inril_core.files import Lines, append_line, read_sound_lines
from inril_core.weights.offer import Offer
from inril_core.weights.refusal import Refusal

LOG_NAME = "log.jsonl"
MAX_RUN_ID_CHARS = 300
"""More than a run's own id can have; a refused offer may announce anything."""


@with_config(extra="forbid", allow_inf_nan=False)
@dataclass(frozen=True)
class OfferLine:
    """A decided offer of weights."""

    n: int
    run_id: str
    accepted: bool
    reason: str
    """Of a refusal; empty where it was accepted."""
    offered_unix_s: float
    event: Literal["offered"] = "offered"


@with_config(extra="forbid", allow_inf_nan=False)
@dataclass(frozen=True)
class ActingLine:
    """The first action of an accepted version."""

    n: int
    run_id: str
    push_to_acting_ms: float
    acting_unix_s: float
    event: Literal["acting"] = "acting"


_LINE: Any = Annotated[OfferLine | ActingLine, Field(discriminator="event")]


def read_weights_log(path: Path) -> Lines[OfferLine | ActingLine]:
    """The lines that a `WeightsLog` left, and which are not sound."""
    lines: Lines[OfferLine | ActingLine] = read_sound_lines(path, _LINE)
    return lines


class WeightsLog:
    """Appends JSON lines to ``folder/log.jsonl``; what an earlier process wrote stays.

    Not synced: nothing but the report depends on it.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOG_NAME
        self._written = set(read_weights_log(self._path).values)

    def offered(self, offer: Offer, published_ns: int, refusal: Refusal | None) -> None:
        """Note a decision; `refusal`: None if it was accepted. `published_ns`: the offer's stamp, wall clock.

        A latched offer that is heard, and refused, again after a restart is noted once.

        Raises:
            OSError: the line cannot be written.
        """
        reason = "" if refusal is None else refusal.value
        self._append(OfferLine(offer.n, offer.run_id[:MAX_RUN_ID_CHARS], refusal is None, reason, published_ns * 1e-9))

    def acting(self, run_id: str, n: int, published_ns: int, now_ns: int) -> None:
        """Note the first action of a pushed version. Both times: wall clock.

        Raises:
            OSError: the line cannot be written.
        """
        self._append(ActingLine(n, run_id[:MAX_RUN_ID_CHARS], (now_ns - published_ns) * 1e-6, now_ns * 1e-9))

    def _append(self, line: OfferLine | ActingLine) -> None:
        if line not in self._written:
            append_line(self._path, asdict(line), sync=False)
            self._written.add(line)
