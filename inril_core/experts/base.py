"""What an expert is."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from inril_core.contract import Interface


class Expert(Protocol):
    """Somebody who can do a task: demonstrates it, and helps a policy. What it sees is what a policy sees.

    Every expert also stands for a person who may take over in mid-episode: it MUST be able to go on from wherever the
    episode is.
    """

    def reset(self, seed: int) -> None:
        """Begin an episode; everything random of it is decided by ``seed``."""

    def act(self, observation: np.ndarray) -> np.ndarray:
        """The action ``float32[A]`` in [-1, 1] for an observation ``float32[D]``.

        Raises:
            ValueError: the observation is not finite or of another size.
        """


class HasExpert(Protocol):
    """A task, or what else comes with an expert."""

    @property
    def interface(self) -> Interface:
        """Sizes and digests."""

    def expert(self) -> Expert:
        """A new expert, as it demonstrates.

        Raises:
            ConfigError: nobody can do it; the message says how to get demonstrations.
        """
