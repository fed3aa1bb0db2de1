"""What a person at the terminal wants to know after an episode."""

from __future__ import annotations

import math
from collections.abc import Sequence

from inril_core.session.ledger import Ledger
from inril_core.session.plan import Segment

RECENT = 20


def progress_line(ledger: Ledger, plan: Sequence[Segment], steps_per_s: float, learner: str) -> str:
    """How far the segment of the newest episode is, how well it goes, and when it ends."""
    index = ledger.results[-1].segment_index
    segment, progress = plan[index], ledger.progress(index)
    recent = [r.success for r in ledger.results if r.segment_index == index and r.valid][-RECENT:]
    eta_s = ledger.eta_s(segment, index)
    return (
        f"{segment.name}: {progress.episodes} episodes, {progress.steps} steps | "
        f"success {progress.successes}/{progress.episodes}, "
        f"last {len(recent)}: {sum(recent) / max(len(recent), 1):.2f} | "
        f"{steps_per_s:.0f} steps/s | {learner} | ETA {'?' if math.isnan(eta_s) else f'{eta_s:.0f} s'}"
    )
