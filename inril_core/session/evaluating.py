"""An evaluation's part in a session: whose turn it is, which weights must act, and what its outcome counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from inril_core.errors import ConfigError
from inril_core.session.ledger import EpisodeResult
from inril_core.session.readiness import NOTHING, Readiness, Wait
from inril_core.session.requests import Attempt, ChooseVersion, Request
from inril_core.session.trials import SAFETY_STOP, PlannedTrial, Trials

CHOOSE_AGAIN_NS = 5_000_000_000
"""After so long without the wanted version, it is asked for again."""


class Closing(NamedTuple):
    """How an episode ended, and whether it counts."""

    success: bool | None
    terminated: bool
    by: str
    reason: str
    valid: bool


class Evaluating:
    """Trials that are run one by one; without any, every question has the answer of a plain session."""

    def __init__(self, trials: Trials | None, readiness: Readiness, ask: Callable[[Request], None]) -> None:
        self._trials, self._readiness, self._ask = trials, readiness, ask
        self._asked_ns: int | None = None

    @property
    def trials_n(self) -> int:
        """Planned trials; 0: the session is no evaluation."""
        return 0 if self._trials is None else len(self._trials)

    @property
    def failure_tags(self) -> tuple[str, ...]:
        """What a person may say of a trial that failed."""
        return () if self._trials is None else self._trials.failure_tags

    def label(self, number: int, episode_id: str, success: bool | None, tag: str, by: str) -> str:
        """Write a person's word on a trial down, see `Trials.label`; why it is not written, or empty."""
        if self._trials is None:
            return f"tag = {tag!r}: only trials of an evaluation have tags; leave it out" if tag else ""
        try:
            self._trials.label(number, episode_id, success, tag, by)
        except ConfigError as error:
            return str(error)
        return ""

    def planned(self, number: int) -> PlannedTrial | None:
        """The trial with this number; None: no evaluation was planned."""
        return None if self._trials is None else self._trials.planned(number)

    def decided(self, results: Sequence[EpisodeResult]) -> bool:
        """Nothing more is to be run."""
        return self._trials is not None and self._trials.decided(results)

    def choose(self, number: int, now_ns: int) -> Wait:
        """Have the planned weights act in the next episode; asked again until the policy says so."""
        trial = self.planned(number)
        if trial is None or trial.version_n is None or self._readiness.next_version == trial.version_n:
            self._asked_ns = None
            return NOTHING
        if self._asked_ns is None or now_ns - self._asked_ns > CHOOSE_AGAIN_NS:
            self._asked_ns = now_ns
            self._ask(ChooseVersion(trial.version_n))
        return Wait(f"policy_node to act with version {trial.version_n} (has {self._readiness.next_version})")

    def begin(self, attempt: Attempt) -> Wait:
        """Write down that a trial begins; what keeps it from beginning."""
        if self._trials is not None:
            try:
                self._trials.begin(attempt.index, attempt.episode_id)
            except OSError as error:
                return Wait(f"the trial's begin to be written down: {error}", person=True)
        return NOTHING

    def close(self, attempt: Attempt, closing: Closing) -> Closing:
        """A stop by the arm's safety is an outcome; a trial in which other weights acted is none."""
        if self._trials is None:
            return closing
        if not closing.valid and self._readiness.stopped_by_safety():
            closing = Closing(False, True, "safety", f"{SAFETY_STOP}: {closing.reason}", True)
        acted = self._readiness.active_version
        if attempt.version_n not in (None, acted):
            reason = f"version {acted} acted, not {attempt.version_n} as planned"
            return closing._replace(reason=reason, valid=False)
        return closing
