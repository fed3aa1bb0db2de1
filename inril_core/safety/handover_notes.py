"""What the record says of people: who takes over and hands back, and how far the policy in the shadow differs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from inril_core.safety.ticks import Closed, Handover, Source


class HandoverNotes:
    """Follows the ticks of an episode as they are closed."""

    def __init__(self) -> None:
        self._had_control = False
        self.takeovers = 0
        """Since it was made."""
        self.disagreement = math.nan
        """Of the newest tick that a person had; NaN where the policy gave no answer to it."""

    def begin_episode(self) -> None:
        """Whoever has control in its first tick takes it there."""
        self._had_control = False

    def noted(self, closed: Closed, source: Source, has_control: bool, shadow: Sequence[float] | None) -> Closed:
        """A closed tick with its marks.

        source: who was in control, also where it was a hold. has_control: a person had it.
        shadow: the policy's answer to the tick; None or empty: it gave none that can be used.
        """
        handover = Handover.NONE
        if has_control != self._had_control:
            self._had_control = has_control
            handover = Handover.TAKEOVER if has_control else Handover.HAND_BACK
            self.takeovers += has_control
        if source is not Source.HUMAN:
            return closed._replace(handover=handover) if handover else closed
        drove = closed.source is Source.HUMAN and shadow is not None and len(shadow) > 0
        self.disagreement = _disagreement(shadow, closed.proposed) if drove and shadow is not None else math.nan
        return closed._replace(handover=handover, disagreement=self.disagreement)


def _disagreement(shadow: Sequence[float], asked: Sequence[float]) -> float:
    """Root mean square of the difference, over the numbers that move the tool."""
    differences = [a - b for a, b in zip(shadow[:6], asked[:6], strict=True)]
    return math.sqrt(sum(d * d for d in differences) / 6.0)  # ** would raise where a number is huge
