"""What the session asks others to do; session_node turns each into a message or a service call."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from inril_core.session.plan import Segment
from inril_core.session.trials import PlannedTrial


@dataclass(frozen=True)
class Attempt:
    """One try at an episode of the plan."""

    episode_id: str
    """Also the reset_id of the reset it starts from."""
    segment_index: int
    segment: Segment
    index: int
    """Number within its segment, counting episodes that count."""
    seed: int
    trial: PlannedTrial | None = None
    """Of an evaluation that was planned trial by trial."""

    @property
    def purpose(self) -> str:
        """demo, train or eval. The scripted human acts in demonstrations, so a trial of it is one."""
        by_human = self.trial is not None and self.trial.version_n is None
        return "demo" if by_human else self.segment.purpose

    @property
    def start_purpose(self) -> str:
        """Whose starts the cell draws."""
        return self.purpose if self.trial is None else self.trial.start_purpose

    @property
    def version_n(self) -> int | None:
        """The weights that must act; None: those that do."""
        return None if self.trial is None else self.trial.version_n

    @property
    def explore(self) -> bool:
        """Whether the policy samples."""
        return self.segment.purpose == "train" if self.trial is None else self.trial.explore


@dataclass(frozen=True)
class ArmRobot:
    """Arm the arm's own watchdog."""


@dataclass(frozen=True)
class ArmArbiter:
    """Arm the arbiter. Before it is asked, it MUST be on disk that this launch has armed once."""


@dataclass(frozen=True)
class ChooseVersion:
    """Act with these kept weights from the next episode on."""

    n: int


@dataclass(frozen=True)
class ResetCell:
    """Lay the cell out for the attempt."""

    attempt: Attempt


@dataclass(frozen=True)
class CancelReset:
    """Stop working on a reset."""

    reset_id: str


@dataclass(frozen=True)
class BeginEpisode:
    """Number the coming ticks as this episode."""

    attempt: Attempt


@dataclass(frozen=True)
class EndEpisode:
    """End the running episode at its next tick."""

    episode_id: str
    success: bool | None
    """None: nobody says."""
    by: str
    reason: str


class EventKind(IntEnum):
    """As EpisodeEvent.event."""

    BEGIN = 0
    END = 1
    LABEL = 2
    DISCARD = 3
    """A person takes the episode out: nothing learns from it."""


@dataclass(frozen=True)
class Announce:
    """Tell everybody of a change in an episode's life."""

    kind: EventKind
    episode_id: str
    attempt: Attempt | None = None
    """None: of an earlier one, known by its id."""
    success: bool | None = None
    by: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Tell:
    """Say it on the console."""

    text: str
    warning: bool = True


Request = Tell | ArmRobot | ArmArbiter | ChooseVersion | ResetCell | CancelReset | BeginEpisode | EndEpisode | Announce
