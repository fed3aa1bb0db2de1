"""Pins: pages and their summary that are older than the lines beside them."""

import re
from pathlib import Path

import pytest

from inril_core.bench import induced_starts, runner
from inril_core.bench.experiment import load_experiment
from inril_core.files import read_sound_lines

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results"
OF_A_COMMAND_OF_ITS_OWN = {"induced_starts"}
KEPT = sorted({path.stem for path in RESULTS.glob("*.jsonl")} - OF_A_COMMAND_OF_ITS_OWN)


def row_of(name: str) -> str:
    summary = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| \[{name}\]\(results/{name}\.md\) \|.*$", summary, re.MULTILINE)
    assert row is not None
    return row.group()


@pytest.mark.parametrize("name", KEPT)
def test_a_page_and_the_summary_count_the_runs_that_are_there(name: str) -> None:
    experiment = load_experiment(ROOT / "bench" / f"{name}.yaml")
    jobs = runner.with_task_digests(experiment.jobs(), must_exist=False)
    state = runner.state(experiment, jobs, RESULTS)
    done = f"{len(state.lines)} of {len(jobs)}"
    assert f"{done} runs are finished" in (RESULTS / f"{name}.md").read_text(encoding="utf-8")
    assert f"| {done} |" in row_of(name)


def test_the_page_of_induced_starts_is_what_its_lines_say() -> None:
    read = read_sound_lines(RESULTS / "induced_starts.jsonl", induced_starts.Line)
    assert not read.problems
    page = induced_starts.page(read.values)
    assert (RESULTS / "induced_starts.md").read_text(encoding="utf-8") == page
    assert f"| {len(read.values)} of {len(read.values)} |" in row_of("induced_starts")
