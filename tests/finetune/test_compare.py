"""The comparison: resumes without repeating, and its table says what the lines say."""

import json

import pytest

from inril_core.finetune import compare as module
from inril_core.finetune.comparison_report import dip, failures, lowest, write_report


def line(method: str, seed: int, curve, train, final: int, settings: str = "s") -> dict:
    return {
        "method": method,
        "seed": seed,
        "settings": settings,
        "demos": 12,
        "budget_steps": 4000,
        "utd": 1.0,
        "warmup_steps": 1000,
        "env_steps": 4000,
        "updates": 3000,
        "eval_episodes": 100,
        "bc_successes": 40,
        "final_successes": final,
        "curve": curve,
        "train": train,
        "cosines": [],
        "wall_s": 12.0,
        "machine": {"processor": "p", "cores": 2, "python": "3", "torch": "2", "numpy": "2", "mujoco": "3"},
    }


CURVE = [[1000, 10, 25], [2000, 5, 25], [3000, 20, 25], [4000, 25, 25]]
TRAIN = [[500, 0], [990, 1], [1500, 0], [2500, 1], [3500, 0], [4000, 1]]


def test_dip_and_failures_count_from_the_first_update() -> None:
    """Pins: a dip measured against the wrong start, or failures of the cloned policy charged to the method."""
    made = line("interleave", 0, CURVE, TRAIN, 97)
    assert lowest(made) == pytest.approx(0.2) and dip(made) == pytest.approx(0.2) and failures(made) == 2
    assert dip(line("x", 0, [[1000, 3, 25], [2000, 5, 25]], TRAIN, 1)) == 0.0


def test_report_holds_every_number(tmp_path) -> None:
    """Pins: a table that pools wrongly, or a missing command."""
    lines = [line(m, s, CURVE, TRAIN, f + s) for m, f in (("interleave", 97), ("rl_only", 60)) for s in (0, 1)]
    write_report(lines, ["interleave", "rl_only"], tmp_path, "insert_leg_methods", "python -m x")
    text = (tmp_path / "insert_leg_methods.md").read_text()
    assert "| 97.5 % [94.3, 98.9] | 40 → 97, 40 → 98 |" in text
    assert "| 60.5 % [" in text and "`python -m x`" in text and "2, 2 |" in text
    assert (tmp_path / "insert_leg_methods.png").stat().st_size > 5000


class Stub:
    """Stands in for the slow part."""

    contract, demos, eval_episodes = None, 12, 100

    def __init__(self, digest: str) -> None:
        self.digest, self.ran = digest, []

    def config(self, method, seed):
        return method

    def start(self, seed, config):
        return [], None

    def evaluate(self, policy):
        return 40

    def run(self, method, demos, initial, bc_successes, seed):
        self.ran.append((method, seed))
        return line(method, seed, CURVE, TRAIN, 97, self.digest)


def test_only_missing_lines_are_run(tmp_path, monkeypatch) -> None:
    """Pins: hours repeated after an interruption, or old settings' lines mixed into the table."""
    stub = Stub("one")
    monkeypatch.setattr(module, "settings_digest", lambda *_: stub.digest)
    monkeypatch.setattr(module, "save_policy", lambda *_: None)
    path = tmp_path / "lines.jsonl"
    path.write_text(json.dumps(line("a", 0, CURVE, TRAIN, 5, "one")) + '\n{"method": "b", "se')  # torn by a kill
    lines = module.compare(stub, ["a", "b"], [0, 1], path)
    assert stub.ran == [("b", 0), ("a", 1), ("b", 1)] and len(lines) == 4 and lines[0]["final_successes"] == 5
    stub.ran.clear()
    module.compare(stub, ["a", "b"], [0, 1], path)
    assert stub.ran == []
    stub.digest = "two"
    module.compare(stub, ["a"], [0], path)
    assert stub.ran == [("a", 0)]
