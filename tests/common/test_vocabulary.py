"""Pins: the numbers in messages are those of the words in inril_core."""

from __future__ import annotations

import re
import typing
from enum import IntEnum
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from inril_bringup.episode_commands import WORDS
from inril_msgs.msg import EpisodeEvent, ExecutedAction, Observation, SaidStretch
from inril_msgs.srv import SessionCommand

from inril_core.console import messages
from inril_core.vocabulary import (
    COMMANDS,
    LABELS,
    OUTCOMES,
    PURPOSES,
    Command,
    Handover,
    Label,
    Mark,
    Phase,
    Purpose,
    Source,
    outcome_word,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("words", "message", "prefix"),
    [
        (Purpose, Observation, "PURPOSE_"),
        (Phase, Observation, "PHASE_"),
        (Source, ExecutedAction, "SOURCE_"),
        (Label, EpisodeEvent, "LABEL_"),
        (Handover, ExecutedAction, "HANDOVER_"),
        (Mark, SaidStretch, "MARK_"),
        (Command, SessionCommand.Request, ""),
    ],
)
def test_each_word_has_its_number(words: type[IntEnum], message: type, prefix: str) -> None:
    # a constant of a message is a property of its metaclass
    constants = {
        name.removeprefix(prefix)
        for name in dir(type(message))
        if name.startswith(prefix) and name[0] != "_" and name.isupper()
    }
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


def test_an_outcome_has_a_label_or_none() -> None:
    assert [outcome_word(success) for success in (True, False, None)] == list(OUTCOMES)
    assert [LABELS[word].success for word in OUTCOMES[:2]] == [True, False]


def test_command_line_and_page_offer_every_word_and_no_other() -> None:
    assert set(WORDS) == set(COMMANDS)
    assert set(typing.get_args(typing.get_type_hints(messages.SessionWord)["word"])) == set(COMMANDS)
    assert set(typing.get_args(typing.get_type_hints(messages.Label)["label"])) == set(LABELS)


def test_no_other_file_maps_an_outcome_to_its_word() -> None:
    """A mapping is written as a conditional or a dictionary of success and failure."""
    mapping = re.compile(r"""['"]success['"] if .* else .*failure|True: ['"]success['"]|['"]unlabelled['"] if """)
    files = [path for folder in ("inril_core", "ros2_ws/src") for path in (ROOT / folder).rglob("*.py")]
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in files
        if path.name != "vocabulary.py"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if mapping.search(line) and "reason" not in line
    ]
    assert not found, f"use inril_core.vocabulary: {found}"
