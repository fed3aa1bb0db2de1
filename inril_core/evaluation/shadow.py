"""The gate of a learner: may a trained version be offered to the running policy?

Candidate and reference run without exploration on the same fresh simulated starts, and are compared as a session with a
fixed number of trials is (`compare_paired`). The reference is the newest version that was shown better than the
reference before it, at first what the run began with: many versions, each a little worse than the one before, do not
lower what the next one is held against.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field, model_validator

from inril_core.errors import ConfigError
from inril_core.evaluation.statistics.comparison import Comparison, Pairs, Verdict, compare_paired
from inril_core.settings import Settings

FIRST_SEED = 850_000
"""Of the gate's starts: none of training, demonstrations, evaluations or the peak guard."""
GATE_LOG_NAME = "gate.jsonl"
"""In the learner's folder: one `Judged` a line."""


class GateConfig(Settings):
    """What a trained version must show in simulation before it is offered.

    Raises:
        ConfigError: settings with which every version passes, or none does.
    """

    every_updates: int = Field(2000, ge=1)
    """Updates from one candidate to the next; takes the place of ``push_every_updates``. The last version is one, too,
    and on-policy each iteration's."""
    trials: int = Field(20, ge=1, le=1000)
    """Starts on which candidate and reference both run."""
    confidence: float = Field(0.95, gt=0.5, lt=1.0)
    """Of the comparison: a version that is as good as the reference is held back with half of 1 - it at most."""
    not_worse_by: float | None = Field(None, gt=0.0, lt=1.0)
    """None: versions that are shown worse are held back. A number: those, and all that are not shown to lose less than
    this much of the success rate (the interval of the difference must exclude it); errs with half of 1 - ``confidence``
    at a version that loses exactly as much, about."""
    task: str = ""
    """Task that is simulated, see `inril_core.tasks.make_task`; empty: the cell of the run's contract."""
    timeout_s: float = Field(3600.0, gt=0.0, le=86_400.0)
    """Longest time for the trials of one candidate, wall clock; then it is held back."""

    @model_validator(mode="after")
    def _can_tell(self) -> GateConfig:
        if not judge(self, Pairs(0, self.trials, 0)).shown_worse:
            raise ConfigError(
                f"gate.trials = {self.trials}: even a version that always fails would not be shown worse at "
                f"gate.confidence = {self.confidence:g}; set more trials"
            )
        if not judge(self, Pairs(0, 0, self.trials)).passes:
            raise ConfigError(
                f"gate.not_worse_by = {self.not_worse_by}: even a version that never differs would be held back after "
                f"gate.trials = {self.trials}; set more trials, or a larger difference"
            )
        return self


@dataclass(frozen=True)
class Judgement:
    """What a gate says of a candidate."""

    passes: bool
    """It may be offered."""
    better: bool
    """It takes the reference's place."""
    reason: str
    """For people."""
    comparison: Comparison | None = None
    """None where there was none, because its trials failed."""

    @property
    def shown_worse(self) -> bool:
        """The comparison says that it is worse."""
        return self.comparison is not None and self.comparison.verdict is Verdict.WORSE


def judge_outcomes(config: GateConfig, outcomes: Sequence[tuple[bool, bool]]) -> Judgement:
    """What (candidate, reference) outcomes on the same starts say.

    Raises:
        ConfigError: there is none.
    """
    wins = sum(candidate and not reference for candidate, reference in outcomes)
    losses = sum(reference and not candidate for candidate, reference in outcomes)
    return judge(config, Pairs(wins, losses, len(outcomes) - wins - losses))


def judge(config: GateConfig, pairs: Pairs) -> Judgement:
    """What these outcomes say; `Pairs.wins` are the candidate's."""
    compared = compare_paired(pairs, config.confidence)
    low, high = compared.interval
    margin = config.not_worse_by
    figures = (
        f"{100 * compared.difference:+.0f} points, [{100 * low:+.0f}, {100 * high:+.0f}], p = {compared.p_value:.2g}, "
        f"{pairs.pairs_n} starts"
    )
    if compared.verdict is Verdict.WORSE:
        return Judgement(False, False, f"worse than the reference ({figures})", compared)
    if margin is not None and low <= -margin:
        return Judgement(False, False, f"not shown to lose less than {100 * margin:g} points ({figures})", compared)
    better = compared.verdict is Verdict.BETTER
    return Judgement(True, better, f"{'better' if better else 'not shown worse'} ({figures})", compared)


@dataclass(frozen=True)
class Judged:
    """One line of the gate's log."""

    updates: int
    """Of the learner: which version was the candidate."""
    reference_updates: int
    """Of the version that it was compared with; 0: what the run began with."""
    passed: bool
    better: bool
    """It became the reference."""
    reason: str
    first_seed: int
    """Of its starts."""
    trials: int
    """Starts on which both ran; 0 where the trials failed."""
    candidate_successes: int
    reference_successes: int
    candidate_sha256: str
    """See `policy_sha256`."""
