"""How much people helped lately: curves beside the losses."""

from __future__ import annotations

import math
from collections import deque

from inril_core.data.episode import Episode
from inril_core.data.handovers import corrections, human_share

WINDOW_EPISODES = 20
"""As many as the report's success rate is taken over."""


class PeopleCurve:
    """Of the newest training episodes: takeovers per episode, and the share of steps that a person moved."""

    def __init__(self) -> None:
        self._takeovers: deque[int] = deque(maxlen=WINDOW_EPISODES)
        self._shares: deque[float] = deque(maxlen=WINDOW_EPISODES)

    def saw(self, episode: Episode) -> None:
        """A training episode was taken in."""
        self._takeovers.append(len(corrections(episode.source, episode.stamps_ns)))
        share = human_share(episode.source)
        self._shares.append(0.0 if math.isnan(share) else share)

    def facts(self) -> dict[str, float]:
        """For `MetricsLog.write`; NaN before the first episode."""
        count = len(self._takeovers)
        return {
            "interventions_per_episode": sum(self._takeovers) / count if count else math.nan,
            "human_share": sum(self._shares) / count if count else math.nan,
        }
