"""How much people helped lately, and how far they disagreed with the policy: curves beside the losses."""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from inril_core.data.episode import Episode
from inril_core.data.handovers import corrections, human_share

WINDOW_EPISODES = 20
"""As many as the report's success rate is taken over."""


class PeopleCurve:
    """Of the newest training episodes: takeovers per episode, the share of steps that a person moved, and how far
    the policy would have acted otherwise in these."""

    def __init__(self) -> None:
        self._takeovers: deque[int] = deque(maxlen=WINDOW_EPISODES)
        self._shares: deque[float] = deque(maxlen=WINDOW_EPISODES)
        self._disagreements: deque[float] = deque(maxlen=WINDOW_EPISODES)

    def saw(self, episode: Episode) -> None:
        """A training episode was taken in."""
        self._takeovers.append(len(corrections(episode.source, episode.stamps_ns)))
        share = human_share(episode.source)
        self._shares.append(0.0 if math.isnan(share) else share)
        told = np.zeros(0) if episode.disagreement is None else episode.disagreement
        told = told[~np.isnan(told)]
        self._disagreements.append(float(told.mean()) if len(told) else math.nan)

    def facts(self) -> dict[str, float]:
        """For `MetricsLog.write`; NaN before the first episode. ``disagreement``: `Episode.disagreement`, the mean over
        episodes of the mean over their steps; NaN where no person drove."""
        count = len(self._takeovers)
        told = [value for value in self._disagreements if not math.isnan(value)]
        return {
            "interventions_per_episode": sum(self._takeovers) / count if count else math.nan,
            "human_share": sum(self._shares) / count if count else math.nan,
            "disagreement": sum(told) / len(told) if told else math.nan,
        }
