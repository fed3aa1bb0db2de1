"""What a person did in each episode, counted from the executed actions; and how far the policy would have done else."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from inril_core.console.messages import Disagreement, EpisodePoint, Episodes
from inril_core.outcome import CELL, EPISODE_LENGTH
from inril_core.session.ledger import EpisodeResult
from inril_core.session.trials import SAFETY_STOP
from inril_core.vocabulary import Source, outcome_word

SHOWN_EPISODES = 200
SHOWN_STEPS = 300


class Said(Protocol):
    """A person's word on a trial, kept beside its result."""

    @property
    def success(self) -> bool | None: ...

    @property
    def tag(self) -> str:
        """Why it failed; empty: not said."""

    @property
    def by(self) -> str:
        """A person's name."""


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

    def curves(self, results: Iterable[EpisodeResult], said: Mapping[str, Said]) -> Episodes:
        """The newest episodes of the ledger with what was counted of them.

        Args:
            said: people's words on trials of an evaluation, by episode id.
        """
        newest = list(results)[-SHOWN_EPISODES:]
        return Episodes(tuple(self._point(result, said.get(result.episode_id)) for result in newest))

    def _point(self, result: EpisodeResult, said: Said | None) -> EpisodePoint:
        counted = self._counted.get(result.episode_id)
        share = counted.human_steps / counted.steps if counted is not None and counted.steps else math.nan
        stopped = SAFETY_STOP if result.reason.startswith(SAFETY_STOP) else ""
        success = result.success if said is None else bool(said.success)
        return EpisodePoint(
            result.episode_id,
            result.index,
            result.purpose,
            success,
            result.source if said is None else said.by,
            "" if success else (said.tag if said is not None and said.tag else stopped),
            outcome_word(result.success) if result.source in (CELL, EPISODE_LENGTH) else "",
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
