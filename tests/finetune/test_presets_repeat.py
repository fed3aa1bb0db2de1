"""Pins: a change of the code that moves the numbers of a preset without anybody having meant it.

Who means it runs ``python -m tests.finetune.preset_runs --write`` and says so beside the change.
"""

import json

import pytest

from inril_core.finetune.config import preset_names
from tests.finetune.preset_runs import SUMMARIES, run

KNOWN = json.loads(SUMMARIES.read_text())


def test_every_preset_has_a_summary() -> None:
    assert sorted(KNOWN) == preset_names()


@pytest.mark.parametrize("name", preset_names())
def test_the_same_seed_gives_the_same_numbers(name: str) -> None:
    """Some tens of updates with actor steps and combinations; on-policy whole iterations with insertions."""
    _, summary = run(name)
    assert summary["actor_updates"] >= 10
    assert summary == pytest.approx(KNOWN[name], rel=1e-4, abs=1e-6)
