"""What a session does at a time, what it is told, and how it ends."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

from inril_core.session.reset import ResetTimes


class State(StrEnum):
    """What the session does."""

    WAITING = "waiting"
    ARMING = "arming"
    RESETTING = "resetting"
    """Also while the cell is laid out and something else is waited for."""
    BEGINNING = "beginning"
    RUNNING = "running"
    ENDING = "ending"
    RECORDING = "recording"
    """Ended; it counts once the recorder has it on disk."""
    PAUSED = "paused"
    DONE = "done"


class ExitCode(IntEnum):
    """What the end of the process says."""

    FINISHED = 0
    """The plan is done."""
    NOT_FINISHED = 2
    """Told to stop before that."""
    NOBODY_CAME = 3
    """Unattended, and only a person could have gone on."""


@dataclass(frozen=True)
class SessionSettings:
    """How a session goes about its plan."""

    run_id: str
    boot_id: str
    episode_length_steps: int
    seed: int = 0
    reset_by_hand: bool = False
    """A person lays the cell out and says so; only then is cell/reset asked, where somebody serves it."""
    reset_times: ResetTimes = field(default_factory=ResetTimes)
    unattended_wait_s: float | None = None
    """Longest wait for a person before the session ends; None: people come."""


@dataclass(frozen=True)
class EpisodeOutcome:
    """How the running episode was closed, as StepOutcome says."""

    episode_id: str
    step: int
    """Of its last action."""
    success: bool
    terminated: bool
    source: str
    reason: str

    @property
    def truncated(self) -> bool:
        """Something else than the task ended it."""
        return not self.terminated


@dataclass(frozen=True)
class Ending:
    """Why the running episode was asked to end before its own end."""

    by: str
    reason: str
    success: bool | None = None
    spoils: bool = True
    """It does not count and is done again."""
