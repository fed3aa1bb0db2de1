"""What a person did in each episode, counted from the executed actions; and how far the policy would have done else."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from inril_core.console.messages import Disagreement, EpisodePoint, Episodes
from inril_core.session.ledger import EpisodeResult
from inril_core.vocabulary import Source

SHOWN_EPISODES = 200
SHOWN_STEPS = 300
KEPT_PROPOSALS = 32


@dataclass
class _Counted:
    steps: int = 0
    human_steps: int = 0
    interventions: int = 0
    source: int = -1


class EpisodeTally:
    """Counts steps of a person, and how often one took over.

    A step of the person after one of another source in the same episode is an intervention. In a demonstration the
    person has the first step, so one that is never handed back has one.
    """

    def __init__(self) -> None:
        self._counted: OrderedDict[str, _Counted] = OrderedDict()

    def on_step(self, episode_id: str, source: int) -> None:
        """An executed action."""
        if not episode_id:
            return
        counted = self._counted.setdefault(episode_id, _Counted())
        while len(self._counted) > SHOWN_EPISODES:
            self._counted.popitem(last=False)
        human = source == Source.HUMAN
        counted.steps += 1
        counted.human_steps += human
        counted.interventions += human and counted.source != Source.HUMAN
        counted.source = source

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
    """Per tick of a person in control: the distance between what was executed and what the policy proposed."""

    def __init__(self) -> None:
        self._proposals: OrderedDict[tuple[str, int], tuple[float, ...]] = OrderedDict()
        self._episode_id = ""
        self._points: deque[tuple[int, float]] = deque(maxlen=SHOWN_STEPS)
        self.changed = False

    def on_proposal(self, boot_id: str, k: int, action: Sequence[float]) -> None:
        """The policy's answer to a tick, also where a person acts."""
        self._proposals[boot_id, k] = tuple(action)
        while len(self._proposals) > KEPT_PROPOSALS:
            self._proposals.popitem(last=False)

    def on_executed(
        self, boot_id: str, k: int, episode_id: str, step: int, source: int, executed: Sequence[float]
    ) -> None:
        """What was done in a tick."""
        if episode_id != self._episode_id:
            self._episode_id = episode_id
            self._points.clear()
            self.changed = True
        proposal = self._proposals.get((boot_id, k))
        if source != Source.HUMAN or proposal is None or len(proposal) != len(executed) or not executed:
            return
        self._points.append((step, math.dist(proposal, executed) / math.sqrt(len(executed))))
        self.changed = True

    def message(self) -> Disagreement:
        """For the pages."""
        self.changed = False
        return Disagreement(tuple(s for s, _ in self._points), tuple(d for _, d in self._points), self._episode_id)
