"""All that people said of an episode since it was recorded: of each thing the newest."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from inril_core.data.episode import Episode
from inril_core.vocabulary import Mark


class SaidStretch(NamedTuple):
    """A mark, or a reward, of consecutive steps."""

    first_step: int
    last_step: int
    """Included, as `first_step` is."""
    mark: Mark | None = None
    """`Mark.NONE` takes earlier marks back; None: the stretch gives a reward."""
    reward: float | None = None


@dataclass(frozen=True)
class Said:
    """What was said of an episode after it ended."""

    steps: int
    """T, of the episode."""
    success: bool | None
    by: str
    """Who labelled it."""
    left_out: bool = False
    """Of all learning."""
    stretches: tuple[SaidStretch, ...] = ()
    """In the order in which they were said."""

    def on(self, episode: Episode) -> Episode:
        """The recording with all of it."""
        marks, rewards = self.arrays()
        return dataclasses.replace(
            episode,
            success=self.success,
            outcome_source=self.by,
            left_out=self.left_out,
            marks=marks,
            given_rewards=rewards,
        )

    def arrays(self) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Marks ``uint8[T]`` and rewards ``float32[T]`` (NaN: none given), see `Episode`."""
        marks = rewards = None
        for stretch in self.stretches:
            steps = slice(stretch.first_step, stretch.last_step + 1)
            if stretch.mark is not None:
                marks = np.zeros(self.steps, np.uint8) if marks is None else marks
                marks[steps] = stretch.mark
            elif stretch.reward is not None:
                rewards = np.full(self.steps, np.nan, np.float32) if rewards is None else rewards
                rewards[steps] = stretch.reward
        return marks, rewards

    @property
    def digest(self) -> str:
        """See `digest_of`."""
        return _digest(self.success, self.by, self.left_out, *self.arrays())


def digest_of(episode: Episode) -> str:
    """16 hex digits that differ where what is said of two equal recordings differs, for learning or in words."""
    return _digest(episode.success, episode.outcome_source, episode.left_out, episode.marks, episode.given_rewards)


def _digest(success: bool | None, by: str, left_out: bool, marks: np.ndarray | None, rewards: np.ndarray | None) -> str:
    marked = b"" if marks is None or not marks.any() else marks.tobytes()
    given = b"" if rewards is None or np.isnan(rewards).all() else rewards.tobytes()
    words = f"{success}|{left_out}|{len(marked)}|{by}|".encode()
    return hashlib.sha256(words + marked + given).hexdigest()[:16]
