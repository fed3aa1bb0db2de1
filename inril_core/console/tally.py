"""What a person did in each episode, counted from the executed actions; and how far the policy would have done else."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass

from inril_core.console.messages import Disagreement, EpisodePoint, Episodes
from inril_core.session.ledger import EpisodeResult
from inril_core.vocabulary import Source

SHOWN_EPISODES = 200
SHOWN_STEPS = 300


@dataclass
class _Counted:
    steps: int = 0
    human_steps: int = 0
    interventions: int = 0


class EpisodeTally:
    """Counts a person's steps, and how often one took over, in the newest episodes."""

    def __init__(self) -> None:
        self._counted: OrderedDict[str, _Counted] = OrderedDict()

    def on_step(self, episode_id: str, source: int, takeover: bool) -> None:
        """An executed action. takeover: the person has control from this step on."""
        if not episode_id:
            return
        counted = self._counted.setdefault(episode_id, _Counted())
        while len(self._counted) > SHOWN_EPISODES:
            self._counted.popitem(last=False)
        counted.steps += 1
        counted.human_steps += source == Source.HUMAN
        counted.interventions += takeover

    def curves(self, results: Iterable[EpisodeResult]) -> Episodes:
        """The newest episodes of the ledger with what was counted of them."""
        newest = list(results)[-SHOWN_EPISODES:]
        return Episodes(tuple(self._point(result) for result in newest))

    def _point(self, result: EpisodeResult) -> EpisodePoint:
        counted = self._counted.get(result.episode_id)
        share = counted.human_steps / counted.steps if counted is not None and counted.steps else math.nan
        return EpisodePoint(
            result.episode_id,
            result.purpose,
            result.success,
            result.valid,
            result.steps,
            -1 if counted is None else counted.interventions,
            share,
        )


class DisagreementTrace:
    """The disagreement of policy and person in the steps of the newest episode that a person drove."""

    def __init__(self) -> None:
        self._episode_id = ""
        self._points: deque[tuple[int, float]] = deque(maxlen=SHOWN_STEPS)
        self.changed = False

    def on_step(self, episode_id: str, step: int, disagreement: float) -> None:
        """An executed action; NaN: nobody drove, or the policy gave no answer."""
        if episode_id != self._episode_id:
            self._episode_id = episode_id
            self._points.clear()
            self.changed = True
        if math.isfinite(disagreement):
            self._points.append((step, round(disagreement, 4)))
            self.changed = True

    def message(self) -> Disagreement:
        """For the pages."""
        self.changed = False
        return Disagreement(tuple(s for s, _ in self._points), tuple(d for _, d in self._points), self._episode_id)
