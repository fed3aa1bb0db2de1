"""Pins: the numbers in messages are those of the words in inril_core."""

from __future__ import annotations

from enum import IntEnum

import pytest

pytest.importorskip("rclpy")

from inril_msgs.msg import EpisodeEvent, ExecutedAction, Observation, SaidStretch

from inril_core.vocabulary import PURPOSES, Handover, Label, Mark, Phase, Purpose, Source


@pytest.mark.parametrize(
    ("words", "message", "prefix"),
    [
        (Purpose, Observation, "PURPOSE_"),
        (Phase, Observation, "PHASE_"),
        (Source, ExecutedAction, "SOURCE_"),
        (Label, EpisodeEvent, "LABEL_"),
        (Handover, ExecutedAction, "HANDOVER_"),
        (Mark, SaidStretch, "MARK_"),
    ],
)
def test_each_word_has_its_number(words: type[IntEnum], message: type, prefix: str) -> None:
    # a constant of a message is a property of its metaclass
    constants = {name.removeprefix(prefix) for name in dir(type(message)) if name.startswith(prefix)}
    assert constants == {word.name for word in words}
    assert all(getattr(message, prefix + word.name) == word.value for word in words)


def test_words_and_numbers_name_the_same_purpose() -> None:
    assert [Purpose.of(word).word for word in PURPOSES] == list(PURPOSES)
    assert [Purpose.of(int(Purpose.of(word))) for word in PURPOSES] == [Purpose.DEMO, Purpose.TRAIN, Purpose.EVAL]
    for wrong in ("", "none", "DEMO", 0, 4, 255):
        with pytest.raises(ValueError, match="demo"):
            Purpose.of(wrong)


def test_labels_are_three() -> None:
    assert [Label.of(label.success) for label in Label] == list(Label)
