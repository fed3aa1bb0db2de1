"""Numbering the ticks of an episode and closing it: the bookkeeping of the observation clock."""

from __future__ import annotations

from dataclasses import dataclass

from inril_core.errors import InrilError


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
class Outcome:
    """What came of the action before an observation."""

    episode_id: str
    step: int
    """Of that action."""
    success: bool = False
    terminated: bool = False
    """The task ended: there is no value beyond."""
    truncated: bool = False
    """Something else ended the episode: the value function still bootstraps."""
    source: str = ""
    reason: str = ""

    @property
    def ended(self) -> bool:
        """The episode is over."""
        return self.terminated or self.truncated


@dataclass(frozen=True)
class Verdict:
    """What the cell itself says of the task at this state."""

    success: bool
    failed: bool
    reason: str


@dataclass(frozen=True)
class Tick:
    """A numbered tick."""

    k: int
    spec: EpisodeSpec
    step: int
    last: bool
    """No action follows."""
    outcome: Outcome | None
    """None at step 0."""


@dataclass(frozen=True)
class _EndRequest:
    success: bool | None
    by: str
    reason: str


class EpisodeTicker:
    """Counts ticks and steps; ends an episode on the cell's verdict, a request, or its length.

    A time limit truncates, it does not terminate (Pardo et al. 2018, arXiv 1712.00378).
    """

    def __init__(self) -> None:
        self.k = 0
        self.spec: EpisodeSpec | None = None
        self._step = 0
        self._end: _EndRequest | None = None

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
        self._end = _EndRequest(success, by, reason)

    def tick(self, verdict: Verdict | None) -> Tick | None:
        """The next tick of the running episode; None while there is none."""
        spec = self.spec
        if spec is None:
            return None
        outcome = None if self._step == 0 else self._judge(spec, verdict)
        last = outcome is not None and outcome.ended
        tick = Tick(self.k, spec, self._step, last, outcome)
        self.k += 1
        self._step += 1
        if last:
            self.spec = None
        return tick

    def _judge(self, spec: EpisodeSpec, verdict: Verdict | None) -> Outcome:
        step = self._step - 1
        if verdict is not None and (verdict.success or verdict.failed):
            return Outcome(spec.episode_id, step, verdict.success, True, False, "cell", verdict.reason)
        if self._end is not None:
            labelled = self._end.success is not None
            return Outcome(
                spec.episode_id,
                step,
                bool(self._end.success),
                labelled,
                not labelled,
                self._end.by,
                self._end.reason,
            )
        if self._step >= spec.max_steps:
            return Outcome(spec.episode_id, step, False, False, True, "episode_length", f"{spec.max_steps} steps")
        return Outcome(spec.episode_id, step)
