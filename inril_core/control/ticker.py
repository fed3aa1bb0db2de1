"""Numbering the ticks of an episode and closing it."""

from __future__ import annotations

from dataclasses import dataclass

from inril_core.errors import InrilError
from inril_core.outcome import CellReport, EndRequest, Outcome, judge


class EpisodeRefused(InrilError):
    """An episode cannot begin or end now; the message says why and what to do."""


@dataclass(frozen=True)
class EpisodeSpec:
    """An episode to number."""

    episode_id: str
    purpose: str
    """demo, train or eval."""
    seed: int
    explore: bool
    max_steps: int


@dataclass(frozen=True)
class EpisodeTick:
    """A numbered tick of an episode."""

    k: int
    """Counts all ticks."""
    spec: EpisodeSpec
    step: int
    """Counts the episode's ticks: the number of actions before this one."""
    last: bool
    """No action follows."""
    outcome: Outcome | None
    """What came of the action of step ``step - 1``; None at step 0."""


class EpisodeTicker:
    """Counts ticks and steps; ends an episode where `judge` says so."""

    def __init__(self) -> None:
        self.k = 0
        self.spec: EpisodeSpec | None = None
        self._step = 0
        self._end: EndRequest | None = None

    def begin(self, spec: EpisodeSpec) -> None:
        """Number the coming ticks as this episode.

        An episode that still runs is over without an outcome: whoever begins has laid the cell out anew, so no
        tick could close it any more.

        Raises:
            EpisodeRefused: the length is not positive.
        """
        if spec.max_steps < 1:
            raise EpisodeRefused(f"max_steps = {spec.max_steps}: must be at least 1")
        self.spec, self._step, self._end = spec, 0, None

    def request_end(self, episode_id: str, success: bool | None, by: str, reason: str) -> None:
        """End the running episode at its next tick. `success` None: nobody says.

        Raises:
            EpisodeRefused: it is not the running episode.
        """
        running = None if self.spec is None else self.spec.episode_id
        if running != episode_id:
            raise EpisodeRefused(f"episode {episode_id} is not running (running: {running}); nothing to end")
        self._end = EndRequest(success, by, reason)

    def tick(self, report: CellReport | None) -> EpisodeTick | None:
        """The next tick of the running episode; None while there is none."""
        spec = self.spec
        if spec is None:
            return None
        outcome = None if self._step == 0 else judge(self._step, spec.max_steps, report, self._end)
        last = outcome is not None and outcome.ended
        tick = EpisodeTick(self.k, spec, self._step, last, outcome)
        self.k += 1
        self._step += 1
        if last:
            self.spec = None
        return tick
