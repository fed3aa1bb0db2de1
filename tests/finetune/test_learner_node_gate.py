"""Pins: a learner node that offers ruined weights, or weights that nobody judged after it was killed."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.data.synthetic import Synthetic
from tests.finetune.test_learner_node import LearnerBench, record
from tests.finetune.test_learner_node_guard import RUINOUS, learns, newest

GATED = (
    "\n".join(line for line in RUINOUS.splitlines() if not line.startswith("guard:"))
    + """
gate: {every_updates: 30, trials: 6}
"""
)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[LearnerBench]:
    with learns(tmp_path, GATED) as bench:
        yield bench


def lines(bench: LearnerBench) -> list[dict[str, Any]]:
    """The gate's log."""
    path = bench.paths.learner / "gate.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_ruined_weights_are_never_offered_also_not_after_a_kill(bench: LearnerBench) -> None:
    bench.until(lambda: newest(bench).state == "waiting", "the learner")
    record(bench.run_dir, Synthetic(steps=40, episode_id="train-0", seed=1))
    bench.until(lambda: newest(bench).state == "checking" and "gate: trials of" in newest(bench).reason, "trials")
    bench.end("inril_learner.learner_node", signal.SIGKILL)  # in the middle of them
    assert lines(bench) == []
    bench.start_learner(contract=bench.root / "easy.yaml")
    bench.until(lambda: newest(bench).state == "checking", "trials of the killed one's version again")
    held = bench.until(lambda: "HELD BACK" in newest(bench).reason and newest(bench), "what was held back")
    assert "worse than the reference (-100 points" in held.reason
    assert bench.packs == [] and held.published_n == -1
    (line,) = lines(bench)[:1]
    assert not line["passed"] and line["reference_successes"] == 6 and line["candidate_successes"] == 0
