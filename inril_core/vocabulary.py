"""The words for what an episode is for, how it went, who acted, what a person may say, and in which phase a tick is.

Each is an enum whose values are the numbers that messages and recordings carry; ``inril_msgs`` defines the same numbers
and a test compares the two. Files, plans and command lines use the words.
"""

from __future__ import annotations

from enum import IntEnum


class Worded(IntEnum):
    """A number with a word for files, plans and command lines."""

    @property
    def word(self) -> str:
        """The name in small letters."""
        return self.name.lower()


class Purpose(Worded):
    """What an episode is for."""

    NONE = 0
    """No episode runs."""
    DEMO = 1
    """Somebody demonstrates the task."""
    TRAIN = 2
    """The policy acts, may explore, and the learner ingests what happened."""
    EVAL = 3
    """The policy acts deterministically; never ingested."""

    @property
    def word(self) -> str:
        """``demo``, ``train`` or ``eval``; empty for `NONE`."""
        return "" if self is Purpose.NONE else self.name.lower()

    @staticmethod
    def of(purpose: str | int) -> Purpose:
        """The purpose of an episode, from its word or its number.

        Raises:
            ValueError: there is no such purpose; the message says what there is.
        """
        for known in (Purpose.DEMO, Purpose.TRAIN, Purpose.EVAL):
            if purpose == known.word or (not isinstance(purpose, str) and purpose == known):
                return known
        numbers = ", ".join(f"{word} ({Purpose.of(word)})" for word in PURPOSES)
        raise ValueError(f"purpose = {purpose!r}: must be one of {numbers}")


PURPOSES = ("demo", "train", "eval")
"""Words of the purposes an episode may have, in the order of their numbers."""


class Label(Worded):
    """What is said of an episode's success."""

    UNKNOWN = 0
    SUCCESS = 1
    FAILURE = 2

    @property
    def success(self) -> bool | None:
        """None: nobody said."""
        return {Label.SUCCESS: True, Label.FAILURE: False}.get(self)

    @staticmethod
    def of(success: bool | None) -> Label:
        """The inverse of `success`."""
        return Label.UNKNOWN if success is None else Label.SUCCESS if success else Label.FAILURE


LABELS = {label.word: label for label in Label}
"""What a person may label an episode, by its word; ``unknown`` takes an earlier label back."""
OUTCOMES = (Label.SUCCESS.word, Label.FAILURE.word, "unlabelled")
"""Words for how an episode went: what was said of it, or that nobody said anything."""


def outcome_word(success: bool | None) -> str:
    """One of `OUTCOMES`; None: nobody said."""
    return OUTCOMES[2] if success is None else Label.of(success).word


class Command(Worded):
    """What a person may tell a running session."""

    SUCCESS = 1
    """End the running episode as a success."""
    FAILURE = 2
    """End the running episode as a failure."""
    DISCARD = 3
    """End the running episode; it does not count and is done again from the same start."""
    REDO = 4
    """The running episode, or between episodes the last one that counted, does not count and is done again."""
    PAUSE = 5
    """No further episode begins; a running one goes on to its end, a reset is cancelled. The session does not end."""
    RESUME = 6
    """Go on after a pause."""
    READY = 7
    """The cell is laid out."""


COMMANDS = {command.word: command for command in Command}
"""Commands by their word."""


class Source(Worded):
    """Who is in control of a step."""

    POLICY = 0
    HUMAN = 1
    HOLD = 2
    RESET = 3


class Handover(IntEnum):
    """What a step changes of who has control."""

    NONE = 0
    TAKEOVER = 1
    """A person has control from this step on."""
    HAND_BACK = 2
    """The person no longer has it."""


class Mark(Worded):
    """What a person says of a stretch of steps."""

    NONE = 0
    FAILURE = 1
    """The attempt goes wrong here."""
    RECOVERY = 2
    """It is brought back from there."""
    CORRECTION = 3
    """It is shown how it should have gone."""


MARKS = {mark.word: mark for mark in Mark}
"""Marks by their word; ``none`` takes earlier marks back."""


class Phase(IntEnum):
    """Phase of a tick."""

    IDLE = 0
    """No episode runs."""
    RESET = 1
    """The cell is being laid out for an episode."""
    RUN = 2
    """An episode runs."""
