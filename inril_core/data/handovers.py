"""Where in an episode people took over: stretches of correction, with what the policy did just before."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from inril_core.vocabulary import Source

BEFORE_S = 2.0
"""So much of what led to a takeover is marked with it: what the person saw when deciding to help."""


class Correction(NamedTuple):
    """One takeover. Steps are numbers of the episode's steps."""

    before_step: int
    """First step of the window before the takeover; ``first_step`` where nothing was before."""
    first_step: int
    """First step with a person in control."""
    end_step: int
    """First step after it that somebody else moved, or the number of the episode's steps."""


def corrections(source: npt.NDArray[np.uint8], stamps_ns: npt.NDArray[np.int64]) -> list[Correction]:
    """The takeovers of an episode, oldest first.

    A hold within one (the person let go for a while) does not cut it in two, and a hold before one (the policy's answer
    came late) is not part of it.

    Args:
        source: [T], who was in control of each step, see `Source`.
        stamps_ns: [T] or more, of the observation that each step answers.
    """
    found: list[Correction] = []
    first = last = -1
    for step, who in enumerate(source):
        if who == Source.HUMAN:
            first = step if first < 0 else first
            last = step
        elif first >= 0 and who != Source.HOLD:
            found.append(_correction(source, stamps_ns, first, step))
            first = -1
    if first >= 0:
        found.append(_correction(source, stamps_ns, first, last + 1))
    return found


def human_share(source: npt.NDArray[np.uint8]) -> float:
    """Share of the steps that somebody moved in which a person did; NaN where nobody moved."""
    human, policy = (int((source == who).sum()) for who in (Source.HUMAN, Source.POLICY))
    return human / (human + policy) if human + policy else float("nan")


def _correction(source: npt.NDArray[np.uint8], stamps_ns: npt.NDArray[np.int64], first: int, end: int) -> Correction:
    since_ns = int(stamps_ns[first]) - round(BEFORE_S * 1e9)
    before = first
    while before > 0 and stamps_ns[before - 1] >= since_ns and source[before - 1] not in (Source.HUMAN, Source.RESET):
        before -= 1
    return Correction(before, first, end)
