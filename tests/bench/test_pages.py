"""Pins: pages and their summary that are older than the lines beside them."""

import re
from pathlib import Path

import pytest

from inril_core.bench import runner
from inril_core.bench.experiment import load_experiment

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results"
KEPT = sorted(path.stem for path in RESULTS.glob("*.jsonl"))


@pytest.mark.parametrize("name", KEPT)
def test_a_page_and_the_summary_count_the_runs_that_are_there(name: str) -> None:
    experiment = load_experiment(ROOT / "bench" / f"{name}.yaml")
    jobs = runner.with_task_digests(experiment.jobs(), must_exist=False)
    state = runner.state(experiment, jobs, RESULTS)
    done = f"{len(state.lines)} of {len(jobs)}"
    assert f"{done} runs are finished" in (RESULTS / f"{name}.md").read_text(encoding="utf-8")
    summary = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| \[{name}\]\(results/{name}\.md\) \|.*$", summary, re.MULTILINE)
    assert row is not None and f"| {done} |" in row.group()
