"""What a session needs of an evaluation that was planned trial by trial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from inril_core.session.ledger import EpisodeResult

SAFETY_FAULTS = frozenset(
    {
        "limit_stop",
        "last_check",
        "following_error",
        "non_finite_action",
        "malformed_action",
        "unreachable_state",
        "robot_fault",
        "robot_needs_rearm",
        "safety_monitor",
    }
)
"""Faults, as `inril_core.safety.faults.Fault` names them, that what the policy did has brought about. A trial that they
end is a failure and counts; other faults are of the machinery, and the trial is done again."""
SAFETY_STOP = "safety stop"
"""How the reason of such a trial begins."""


@dataclass(frozen=True)
class PlannedTrial:
    """One trial as the graph runs it."""

    seed: int
    start_purpose: str
    """Whose starts the cell draws: eval, or demo for the narrow range."""
    version_n: int | None
    """The weights that act, of those that the policy has kept; None: the scripted human, as it demonstrates."""
    explore: bool


class Trials(Protocol):
    """The trials of an evaluation in order; the ledger's valid episodes are those that are done."""

    def __len__(self) -> int: ...

    def planned(self, number: int) -> PlannedTrial:
        """The trial with this place in the plan, from 0."""

    def begin(self, number: int, episode_id: str) -> None:
        """Write down that it begins.

        Raises:
            OSError: the disk is full or broken; it must not begin.
        """

    def decided(self, results: Sequence[EpisodeResult]) -> bool:
        """Whether the session may end before its last trial."""

    @property
    def failure_tags(self) -> tuple[str, ...]:
        """What a person may say of a failure."""

    def label(self, number: int, episode_id: str, success: bool | None, tag: str, by: str) -> None:
        """Write down what a person says of an attempt that was begun; the newest word counts, if the attempt does.

        Args:
            number: the trial's place in the plan.
            success: None takes earlier words back.
            tag: why it failed; empty: nobody says.

        Raises:
            ConfigError: there is no such tag, a success is given one, or the disk is full; nothing was written.
        """
