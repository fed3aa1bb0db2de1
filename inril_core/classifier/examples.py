"""What people's labels say of single observations.

A person ends an episode by a button, as success or failure. The closing observation of a success is a positive; what
was seen longer than ``gap_s`` before it, and all that was seen in a failure, are negatives. What lies between is not
used: nobody said when exactly it began to be a success.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inril_core.contract import ImageShape
from inril_core.data.episode import Episode
from inril_core.errors import ConfigError

MACHINES = ("cell", "episode_length", "session", "fault")
"""Who says how an episode went, and is no person."""


@dataclass(frozen=True)
class View:
    """What of an observation is looked at."""

    state: bool
    """The contract's state vector; leave it out where it is not there on the real arm."""
    images: tuple[ImageShape, ...] = ()

    def rows(self, episode: Episode) -> npt.NDArray[np.float32]:
        """``[T + 1, D]``: the state in SI units, then the pixels of each image, 0 to 255. Of an image that is not
        recorded at every step the newest one counts.

        Raises:
            ConfigError: an image is missing, or has another size.
        """
        parts = [episode.observations] if self.state else []
        for image in self.images:
            pixels, steps = episode.images.get(image.name), episode.image_steps.get(image.name)
            if pixels is None or steps is None or not len(steps) or steps[0] != 0:
                raise ConfigError(
                    f"episode {episode.episode_id}: has no image {image.name!r} from its first observation on, which "
                    f"the classifier looks at; it has {sorted(episode.images)}"
                )
            if pixels.shape[1:3] != (image.height_px, image.width_px):
                raise ConfigError(
                    f"episode {episode.episode_id}: image {image.name!r} has {pixels.shape[2]} x {pixels.shape[1]} "
                    f"pixels, and the classifier looks at {image.width_px} x {image.height_px}"
                )
            newest = np.searchsorted(steps, np.arange(episode.steps + 1), "right") - 1
            parts.append(pixels[newest].reshape(episode.steps + 1, -1).astype(np.float32))
        return np.concatenate(parts, 1)


@dataclass(frozen=True)
class Example:
    """An episode as a classifier learns from it."""

    episode_id: str
    success: bool
    rows: npt.NDArray[np.float32]
    """``[T + 1, D]``, see `View.rows`."""
    positive: npt.NDArray[np.bool_]
    """``[T + 1]``: success is seen here."""
    negative: npt.NDArray[np.bool_]
    """``[T + 1]``: it is not."""

    @property
    def progress(self) -> npt.NDArray[np.float32]:
        """``[T + 1]`` from 0 at the begin of a success to 1 at its end; of a failure it is not known (NaN)."""
        if not self.success:
            return np.full(len(self.rows), np.nan, np.float32)
        return np.linspace(0.0, 1.0, len(self.rows), dtype=np.float32)


def labelled_by_person(episode: Episode) -> bool:
    """Whether a person said how the episode went, all of which was recorded."""
    said = episode.success is not None and episode.outcome_source not in MACHINES
    return said and episode.complete and not episode.left_out


def example_of(episode: Episode, view: View, gap_s: float) -> Example:
    """What the label of an episode says of its observations.

    Raises:
        ConfigError: as `View.rows`.
    """
    success, stamps = episode.succeeded, episode.stamps_ns
    positive = np.zeros(episode.steps + 1, bool)
    positive[-1] = success
    early = stamps < stamps[-1] - round(gap_s * 1e9)
    return Example(episode.episode_id, success, view.rows(episode), positive, early if success else ~positive)


def split(examples: Sequence[Example], held_out: float) -> tuple[list[Example], list[Example]]:
    """Training's and held-out examples, whole episodes, chosen by the digest of their names.

    So an episode stays on its side when more are recorded, and successes and failures are shared alike.

    Raises:
        ConfigError: a side has no success or no failure.
    """

    def rank(example: Example) -> str:
        return hashlib.sha256(example.episode_id.encode()).hexdigest()

    sides: tuple[list[Example], list[Example]] = ([], [])
    for success in (True, False):
        for example in examples:
            if example.success == success:
                sides[int(rank(example), 16) % 1000 < 1000 * held_out].append(example)
    for side, name in zip(sides, ("training", "held-out"), strict=True):
        won = sum(example.success for example in side)
        if not won or won == len(side):
            raise ConfigError(
                f"{len(examples)} labelled episodes leave {won} successes and {len(side) - won} failures for the "
                f"{name} side: both are needed; label more with `inril episode success` and `inril episode failure`"
            )
    return sides
