"""The peak guard: a policy that fell while it was fine-tuned is noticed, and the best one so far comes back.

Every so many training episodes the acting version runs a few trials without exploration, on starts that nobody has seen
(*screen*). Only where these look worse than the best version's record are both run on further fresh starts, in turn,
until a sequential test says that the acting one has fallen, or there is no sign of it any more (*confirmation*). The
screen claims nothing and its starts are not used again, so the test's error rate holds whatever led to it: the k-th
confirmation of a run may err with probability alpha / (k (k + 1)), which sums to alpha over any number of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, Literal, TypeVar

from pydantic import Field

from inril_core.evaluation.statistics.sequential import log_capital_if_worse
from inril_core.settings import Settings

FIRST_SEED = 800_000
"""Of the guard's starts: none of training, demonstrations or evaluations."""

V = TypeVar("V")


class GuardConfig(Settings):
    """How a peak is guarded."""

    every_episodes: int = Field(50, ge=1)
    """Training episodes between two checks."""
    screen_trials: int = Field(5, ge=1, le=1000)
    """Trials of the acting version at each check."""
    record_trials: int = Field(20, ge=1, le=1000)
    """Trials of a version that takes the place of the best one: its record."""
    confirm_pairs: int = Field(40, ge=5, le=1000)
    """Most starts on which acting and best version are compared."""
    alpha: float = Field(0.05, gt=0.0, lt=1.0)
    """Probability that a run in which no version was worse than the best before it is ever said to have fallen."""
    on_fall: Literal["resume", "pin"] = "resume"
    """resume: training goes on from the best version. pin: the best version acts to the end, and training stops."""


class Verdict(StrEnum):
    """What a check says of the acting version."""

    BEST = "best so far"
    FINE = "no sign of a fall"
    FALLEN = "fallen"


@dataclass(frozen=True)
class Check:
    """One look at the acting version."""

    n: int
    """Number of the version."""
    verdict: Verdict
    successes: int
    trials: int
    """Of the acting version, screen and confirmation together."""
    best_n: int
    """The best version after the check."""
    trials_run: int
    """Cost of the check in episodes, the best version's included."""


@dataclass
class _Record(Generic[V]):
    version: V
    n: int
    successes: int
    trials: int

    @property
    def rate(self) -> float:
        return self.successes / self.trials


class PeakGuard(Generic[V]):
    """Keeps the best version of a run.

    Args:
        run_trial: runs a version without exploration from the start with this seed; whether it succeeded. MUST act with
            the version that it is given, also while another one trains.
    """

    def __init__(self, config: GuardConfig, run_trial: Callable[[V, int], bool]) -> None:
        self._config, self._run = config, run_trial
        self._best: _Record[V] | None = None
        self._seed = FIRST_SEED
        self._confirmations = 0
        self.checks: list[Check] = []

    @property
    def best(self) -> V | None:
        """The best version; None before the first check."""
        return None if self._best is None else self._best.version

    @property
    def trials_run(self) -> int:
        """Cost of the guard so far, in episodes."""
        return sum(check.trials_run for check in self.checks)

    def due(self, episodes: int) -> bool:
        """Whether the acting version is to be checked after so many training episodes."""
        return episodes % self._config.every_episodes == 0

    def check(self, version: V, n: int) -> Check:
        """Look at the acting version. Where it has fallen, the caller MUST let `best` act."""
        before = self._seed
        acting = _Record(version, n, *self._trials(version, self._config.screen_trials))
        best, verdict, others = self._best, Verdict.FINE, 0
        if best is None or acting.rate > best.rate or self._may_exceed(acting, best):
            verdict = self._challenge(acting)
        elif acting.rate < best.rate:
            verdict, others = self._confirm(acting, best)
        assert self._best is not None
        cost = self._seed - before + others
        check = Check(n, verdict, acting.successes, acting.trials, self._best.n, cost)
        self.checks.append(check)
        return check

    def _may_exceed(self, acting: _Record[V], best: _Record[V]) -> bool:
        return acting.rate == best.rate and best.trials < self._config.record_trials

    def _challenge(self, acting: _Record[V]) -> Verdict:
        """The acting version takes the best one's place if a whole record is better, not a lucky screen."""
        best = self._best
        while acting.trials < self._config.record_trials:
            lost = acting.trials - acting.successes
            if best is not None and 1.0 - lost / self._config.record_trials <= best.rate:
                return Verdict.FINE  # it cannot become better any more
            won, _ = self._trials(acting.version, 1)
            acting.successes, acting.trials = acting.successes + won, acting.trials + 1
        if best is not None and acting.rate <= best.rate:
            return Verdict.FINE
        self._best = acting
        return Verdict.BEST

    def _confirm(self, acting: _Record[V], best: _Record[V]) -> tuple[Verdict, int]:
        """Both on fresh starts; the verdict, and trials of the best version."""
        self._confirmations += 1
        alpha = self._config.alpha / (self._confirmations * (self._confirmations + 1))
        wins = losses = 0
        for pair in range(1, self._config.confirm_pairs + 1):
            seed = self._take()
            now, then = self._run(acting.version, seed), self._run(best.version, seed)
            acting.successes, acting.trials = acting.successes + now, acting.trials + 1
            best.successes, best.trials = best.successes + then, best.trials + 1
            wins, losses = wins + (now and not then), losses + (then and not now)
            if losses > wins and log_capital_if_worse(wins, losses) >= -math.log(alpha):
                return Verdict.FALLEN, pair
            if pair >= self._config.screen_trials and wins >= losses:
                return Verdict.FINE, pair
        return Verdict.FINE, self._config.confirm_pairs

    def _trials(self, version: V, count: int) -> tuple[int, int]:
        return sum(self._run(version, self._take()) for _ in range(count)), count

    def _take(self) -> int:
        self._seed += 1
        return self._seed - 1
