"""How an episode stands after a step, and whether it was a success: decided here, for everybody.

`judge` says after each step whether the episode is over. `success_of` says of an ended one, from everything that is
known by then, whether it succeeded; without anybody who knows, the answer is None, which is not failure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

EPISODE_LENGTH = "episode_length"
"""Source of an outcome that only the length of the episode decided."""
CELL = "cell"
"""Source of an outcome that the cell itself reported."""


class CellReport(NamedTuple):
    """What the cell itself says of the task at this state."""

    success: bool
    failed: bool
    reason: str


class EndRequest(NamedTuple):
    """Somebody wants the episode to end at its next tick."""

    success: bool | None
    """None: nobody says."""
    by: str
    reason: str


@dataclass(frozen=True)
class Outcome:
    """What came of one action."""

    success: bool = False
    terminated: bool = False
    """The task ended, there is no value beyond."""
    truncated: bool = False
    """Something else ended the episode, the value function still bootstraps."""
    source: str = ""
    """Who ended it; empty while it goes on."""
    reason: str = ""

    @property
    def ended(self) -> bool:
        """The episode is over."""
        return self.terminated or self.truncated


def judge(steps: int, length_steps: int, cell: CellReport | None, request: EndRequest | None = None) -> Outcome:
    """The outcome after ``steps`` actions: what the cell reports counts first, then a request, then the length.

    A time limit truncates, it does not terminate (Pardo et al. 2018, arXiv 1712.00378); so does a request to end of
    somebody who does not say how it went.
    """
    if cell is not None and (cell.success or cell.failed):
        return Outcome(cell.success, True, False, CELL, cell.reason)
    if request is not None:
        says = request.success is not None
        return Outcome(bool(request.success), says, not says, request.by, request.reason)
    if steps >= length_steps:
        return Outcome(False, False, True, EPISODE_LENGTH, f"{length_steps} steps")
    return Outcome()


class Ended(Protocol):
    """The last outcome of an episode: an `Outcome`, or the message StepOutcome."""

    @property
    def success(self) -> bool:
        """As `Outcome`'s, and so are the others."""

    @property
    def terminated(self) -> bool: ...

    @property
    def truncated(self) -> bool: ...

    @property
    def source(self) -> str: ...

    @property
    def reason(self) -> str: ...


class Said(NamedTuple):
    """Who says whether an episode succeeded."""

    success: bool | None
    """None: nobody knows."""
    by: str
    reason: str


def success_of(outcome: Ended, labels: Iterable[Said] = (), cell_success: bool | None = None) -> Said:
    """Whether an episode succeeded.

    1. The newest label that says success or failure: a person overrules everything.
    2. An outcome that ended the task says so itself.
    3. An episode that reached its length failed where the cell knows success when it sees it, and only there.

    Args:
        outcome: the last one.
        labels: oldest first; those without success or failure count for nothing.
        cell_success: the cell's own knowledge at the last state; None: it has none.
    """
    for said in reversed(list(labels)):
        if said.success is not None:
            return Said(said.success, said.by or outcome.source, said.reason or outcome.reason)
    if outcome.terminated:
        return Said(bool(outcome.success), outcome.source, outcome.reason)
    if outcome.truncated and outcome.source == EPISODE_LENGTH and cell_success is not None:
        return Said(cell_success, outcome.source, outcome.reason)
    return Said(None, outcome.source, outcome.reason)
