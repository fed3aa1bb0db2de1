"""The few numbers a run is judged by."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inril_core.data.episode import Episode
from inril_core.evaluation.curve import dip_depth, failures_until
from inril_core.evaluation.intervals import SuccessRate
from inril_core.evaluation.records import RunRecord, SegmentRecord, find_episode, read_run
from inril_core.session.ledger import EpisodeResult

GOAL = 0.9
REPORT_NAME = "report.html"


@dataclass(frozen=True)
class Paired:
    """The same starts before and after."""

    both_failed: int
    """How many kept failing."""
    fixed: int
    """How many failed before and succeeded after."""
    lost: int
    """How many succeeded before and failed after."""
    both_succeeded: int
    """How many kept succeeding."""


@dataclass(frozen=True)
class Learning:
    """What training cost."""

    steps: int
    episodes: int
    failures: int
    dip: float | None
    """See `curve.dip_depth`; None where there was too little training."""
    failures_until_goal: int | None
    """See `curve.failures_until`; None where there was too little training."""


def before_and_after(record: RunRecord) -> tuple[SegmentRecord | None, SegmentRecord | None]:
    """First and last evaluation; the last is None while there is only one."""
    evaluations = record.of("eval")
    return (evaluations[0] if evaluations else None, evaluations[-1] if len(evaluations) > 1 else None)


def paired_outcomes(before: SegmentRecord, after: SegmentRecord) -> Paired:
    """Compare the seeds that both evaluations ran."""
    first = {r.seed: r.success for r in before.valid}
    counts = Counter((first[r.seed], r.success) for r in after.valid if r.seed in first)
    return Paired(counts[False, False], counts[False, True], counts[True, False], counts[True, True])


def training(record: RunRecord) -> list[EpisodeResult]:
    """Training episodes that count, in order."""
    return [result for segment in record.of("train") for result in segment.valid]


def learning(record: RunRecord) -> Learning:
    """What training cost, over all training segments."""
    episodes = training(record)
    successes = [r.success for r in episodes]
    before, _ = before_and_after(record)
    rate: SuccessRate | None = None if before is None else before.rate
    return Learning(
        steps=sum(r.steps for r in episodes),
        episodes=len(episodes),
        failures=sum(not s for s in successes),
        dip=None if rate is None else dip_depth(rate.rate, successes),
        failures_until_goal=failures_until(GOAL, successes),
    )


def push_delays_ms(record: RunRecord) -> np.ndarray:
    """float64[n]: from the learner's publication to the first action, of every version that acted."""
    return np.array([o.push_to_acting_ms for o in record.offers if o.push_to_acting_ms is not None], np.float64)


def any_episode(record: RunRecord) -> Episode | None:
    """Some recorded episode of the run, for what is the same in all of them."""
    for segment in reversed(record.segments):
        for result in (segment.results[0], segment.results[-1]):
            episode = find_episode(record.root, result.episode_id)
            if isinstance(episode, Episode):
                return episode
    return None


def summary(run_dir: str | Path, wall_s: float | None = None) -> dict[str, Any]:
    """The numbers that `make demo` prints last; None where the run has not come so far.

    demos: demonstrations recorded. bc_success, finetuned_success: first and last evaluation, in [0, 1], over
    `eval_episodes` each. control_steps, late_ticks: of all segments. weights_pushed: offers that the
    policy accepted; weights_rejected: refused ones. wall_s: as given, otherwise the time spent in the segments.
    """
    return summarise(read_run(Path(run_dir)), wall_s)


def summarise(record: RunRecord, wall_s: float | None) -> dict[str, Any]:
    """`summary` of what has been read."""
    before, after = before_and_after(record)
    episode = any_episode(record)
    delays_ms = push_delays_ms(record)
    rates = [None if segment is None else segment.rate for segment in (before, after)]
    return {
        "task": None if episode is None else episode.task,
        "demos": sum(len(segment.valid) for segment in record.of("demo")),
        "bc_success": _rounded(rates[0]),
        "finetuned_success": _rounded(rates[1]),
        "eval_episodes": min((rate.episodes for rate in rates if rate is not None), default=0),
        "control_steps": sum(r.steps for segment in record.segments for r in segment.results),
        "wall_s": round(record.wall_s if wall_s is None else wall_s, 1),
        "late_ticks": sum(segment.late_ticks for segment in record.segments),
        "weights_pushed": sum(offer.accepted for offer in record.offers),
        "weights_rejected": sum(not offer.accepted for offer in record.offers),
        "push_to_acting_ms_p50": round(float(np.median(delays_ms)), 1) if len(delays_ms) else None,
        "report": str(record.root / REPORT_NAME),
    }


def _rounded(rate: SuccessRate | None) -> float | None:
    return None if rate is None else round(rate.rate, 4)
