"""The peak guard: a policy that fell while it was fine-tuned is noticed, and the best one so far comes back.

Every so many training episodes the acting version runs a few trials without exploration, on starts that nobody has seen
(*screen*). Only where these look worse than the best version's record are both run on further fresh starts, in turn,
until a sequential test says that the acting one has fallen, or there is no sign of it any more (*confirmation*). The
screen claims nothing and its starts are not used again, so the test's error rate holds whatever led to it: the k-th
confirmation of a run may err with probability alpha / (k (k + 1)), which sums to alpha over any number of them.

That test is slow to find a small fall. At the end of a run nothing is interrupted by a wrong answer, so there the
better one of both, on fresh starts again, acts (*choice*): between equally good versions it does not matter which.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Generic, Literal, TypeVar

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
    choice_pairs: int = Field(80, ge=5, le=1000)
    """Starts of the choice at the end of a run."""
    alpha: float = Field(0.05, gt=0.0, lt=1.0)
    """Probability that a run in which no version was worse than the best before it is ever said to have fallen."""
    on_fall: Literal["resume", "pin"] = "resume"
    """resume: training goes on from the best version. pin: the best version acts to the end, and training stops."""


class GuardVerdict(StrEnum):
    """What a check says of the acting version."""

    BEST = "best so far"
    FINE = "no sign of a fall"
    FALLEN = "fallen"
    OUTDONE = "less good than the best so far, at the end of the run"

    @property
    def best_acts(self) -> bool:
        """Whether the best version so far must act in the place of the one that was checked."""
        return self in (GuardVerdict.FALLEN, GuardVerdict.OUTDONE)


@dataclass(frozen=True)
class Check:
    """One look at the acting version."""

    n: int
    """Number of the version."""
    verdict: GuardVerdict
    successes: int
    trials: int
    """Of the acting version, screen and confirmation together."""
    best_n: int
    """The best version after the check."""
    trials_run: int
    """Cost of the check in episodes, the best version's included."""


@dataclass
class Record(Generic[V]):
    """A version and its trials."""

    version: V
    n: int
    successes: int = 0
    trials: int = 0

    @property
    def rate(self) -> float:
        """Of success."""
        return self.successes / self.trials

    def add(self, success: bool) -> None:
        """Take in a trial."""
        self.successes, self.trials = self.successes + success, self.trials + 1


Checking = Generator[tuple[V, int], bool, Check]
"""A check that asks for one trial at a time: yields (version, seed), is sent whether it succeeded, returns itself."""


class PeakGuard(Generic[V]):
    """Keeps the best version of a run."""

    def __init__(self, config: GuardConfig) -> None:
        self._config = config
        self._seed = FIRST_SEED
        self._confirmations = 0
        self.best: Record[V] | None = None
        """None before the first check."""
        self.checks: list[Check] = []

    @property
    def trials_run(self) -> int:
        """Cost of the guard so far, in episodes."""
        return sum(check.trials_run for check in self.checks)

    def check(self, version: V, n: int, run_trial: Callable[[V, int], bool], at_end: bool = False) -> Check:
        """Look at the acting version. Where the verdict says `best_acts`, the caller MUST let `best` act.

        Args:
            n: number of the version.
            at_end: it is the run's last, so that either it or the best one acts from now on.
            run_trial: runs a version without exploration from the start with this seed; whether it succeeded. MUST act
                with the version that it is given, also while another one trains.
        """
        checking = self.checking(version, n, at_end)
        asked = next(checking)
        while True:
            try:
                asked = checking.send(run_trial(*asked))
            except StopIteration as ended:
                made: Check = ended.value
                return made

    def checking(self, version: V, n: int, at_end: bool = False) -> Checking[V]:
        """The same, for a caller that runs one trial at a time. A check that is given up has changed nothing but the
        best version's record, which has its trials all the same."""
        acting, before = Record(version, n), self._seed
        yield from self._trials(acting, self._config.screen_trials)
        best, verdict, others = self.best, GuardVerdict.FINE, 0
        if best is None or acting.rate > best.rate or self._may_exceed(acting, best):
            verdict = yield from self._challenge(acting)
        elif acting.rate < best.rate:
            verdict, others = yield from self._confirm(acting, best)
        if at_end and best is not None and verdict is GuardVerdict.FINE and best.n != n:
            verdict, more = yield from self._choose(acting, best)
            others += more
        assert self.best is not None
        cost = self._seed - before + others
        check = Check(n, verdict, acting.successes, acting.trials, self.best.n, cost)
        self.checks.append(check)
        return check

    def facts(self) -> dict[str, Any]:
        """Everything that `load` needs but the best version itself, as JSON values."""
        record = None if self.best is None else [self.best.n, self.best.successes, self.best.trials]
        checks = [asdict(check) for check in self.checks]
        return {"seed": self._seed, "confirmations": self._confirmations, "best": record, "checks": checks}

    def load(self, facts: dict[str, Any], best: V) -> None:
        """Go on from what `facts` returned.

        Raises:
            KeyError, TypeError, ValueError: they are none.
        """
        self._seed, self._confirmations = int(facts["seed"]), int(facts["confirmations"])
        n, successes, trials = (int(number) for number in facts["best"])
        self.best = Record(best, n, successes, trials)
        self.checks[:] = [Check(**{**check, "verdict": GuardVerdict(check["verdict"])}) for check in facts["checks"]]

    def _may_exceed(self, acting: Record[V], best: Record[V]) -> bool:
        return acting.rate == best.rate and best.trials < self._config.record_trials

    def _challenge(self, acting: Record[V]) -> Generator[tuple[V, int], bool, GuardVerdict]:
        """The acting version takes the best one's place if a whole record is better, not a lucky screen."""
        best = self.best
        while acting.trials < self._config.record_trials:
            lost = acting.trials - acting.successes
            if best is not None and 1.0 - lost / self._config.record_trials <= best.rate:
                return GuardVerdict.FINE  # it cannot become better any more
            yield from self._trials(acting, 1)
        if best is not None and acting.rate <= best.rate:
            return GuardVerdict.FINE
        self.best = acting
        return GuardVerdict.BEST

    def _confirm(self, acting: Record[V], best: Record[V]) -> Generator[tuple[V, int], bool, tuple[GuardVerdict, int]]:
        """Both on fresh starts; the verdict, and trials of the best version."""
        self._confirmations += 1
        alpha = self._config.alpha / (self._confirmations * (self._confirmations + 1))
        wins = losses = 0
        for pair in range(1, self._config.confirm_pairs + 1):
            seed = self._take()
            now = yield acting.version, seed
            then = yield best.version, seed
            acting.add(now)
            best.add(then)
            wins, losses = wins + (now and not then), losses + (then and not now)
            if losses > wins and log_capital_if_worse(wins, losses) >= -math.log(alpha):
                return GuardVerdict.FALLEN, pair
            if pair >= self._config.screen_trials and wins >= losses:
                return GuardVerdict.FINE, pair
        return GuardVerdict.FINE, self._config.confirm_pairs

    def _choose(self, acting: Record[V], best: Record[V]) -> Generator[tuple[V, int], bool, tuple[GuardVerdict, int]]:
        """Whichever succeeds from more of the same fresh starts, the acting one if equal; and the best one's trials."""
        ahead = 0
        for pair in range(1, self._config.choice_pairs + 1):
            seed = self._take()
            now = yield acting.version, seed
            then = yield best.version, seed
            acting.add(now)
            best.add(then)
            ahead += now - then
            left = self._config.choice_pairs - pair
            if ahead + left < 0 or ahead >= left:  # the rest cannot change it
                break
        return (GuardVerdict.OUTDONE if ahead < 0 else GuardVerdict.FINE), pair

    def _trials(self, record: Record[V], count: int) -> Generator[tuple[V, int], bool, None]:
        for _ in range(count):
            record.add((yield record.version, self._take()))

    def _take(self) -> int:
        self._seed += 1
        return self._seed - 1
