"""The page says what the lines say, also what is bad."""

import pytest

pytest.importorskip("rliable", reason="the extra `bench` is not installed")
from inril_core.bench import command, statistics  # noqa: E402
from inril_core.bench.lines import compact  # noqa: E402
from inril_core.bench.measures import lowest  # noqa: E402
from inril_core.bench.plots import evaluations  # noqa: E402
from inril_core.bench.report import write_report  # noqa: E402
from inril_core.bench.runner import State  # noqa: E402
from tests.bench.made import CURVE, experiment, line  # noqa: E402


@pytest.fixture(autouse=True)
def few_repetitions(monkeypatch) -> None:
    monkeypatch.setattr(statistics, "REPETITIONS", 50)


def page(made, lines, folder, failed=(), missing=()) -> str:
    files = write_report(made, State(list(lines), list(failed), list(missing)), folder, "inril bench x.yaml")
    assert all(file.stat().st_size > 5000 for file in files if file.suffix == ".png")
    for file in files[1:]:
        assert f"({file.name})" in files[0].read_text()  # every picture is shown
    return files[0].read_text()


def test_report_holds_every_number(tmp_path) -> None:
    """Pins: a table that pools wrongly, hides a method or lacks its origin."""
    made = experiment()
    lines = [line(job, {"interleave": 97, "rl_only": 60}[job.method] + job.seed) for job in made.jobs()]
    text = page(made, lines, tmp_path)
    assert "4 of 4 runs are finished: 2 seeds per method. " in text
    assert "With fewer than 5 no difference is concluded and no interval given." in text
    assert "| interleave | 2 | 40.0 | 97.5 | 97.5 [94.3, 98.9] | 40 → 97, 40 → 98 |" in text
    assert "| rl_only | 2 | 40.0 | 60.5 | " in text
    assert "| interleave | 20 (20, 20) |" in text
    assert "| 37.00 | 1.00 | 0.00 |" in text  # paired: every seed ends 37 points higher, two are too few for a verdict
    assert "`inril bench x.yaml` on p (2 cores" in text and "0123456789ab" in text and "`made.jsonl`" in text


def test_steps_really_taken_are_on_the_page(tmp_path) -> None:
    """Pins: an interleaving that took place twice, and nobody saw it."""
    made = experiment()
    taken = {"actor_updates": 12, "insertions": 2, "il_steps": 100}
    lines = [line(job, **({"steps_taken": taken} if job.method == "interleave" else {})) for job in made.jobs()]
    text = page(made, lines, tmp_path)
    assert "| method | updates due | actor steps | insertions of imitation | IL steps |" in text
    assert "| interleave | 3000, 3000 | 12, 12 | 2, 2 | 100, 100 |" in text
    assert "| rl_only | 3000, 3000 | –, – | –, – | –, – |" in text


def test_from_five_seeds_on_there_are_intervals_and_verdicts(tmp_path) -> None:
    made = experiment(seeds=5)
    lines = [line(job, {"interleave": 97, "rl_only": 60}[job.method] - job.seed) for job in made.jobs()]
    text = page(made, lines, tmp_path)
    assert "no difference is concluded" not in text and "| interleave | 5 | 40.0 | 95.0 [9" in text
    assert "| 37.00 [37.00, 37.00]: **interleave** | 1.00 [1.00, 1.00]: **interleave** | 0.00 [" in text


def test_the_curves_drawn_are_the_evaluations(tmp_path) -> None:
    """Pins: curves resampled between their points, which hides how far they fell."""
    low = [[1000, 10, 25], [2013, 1, 25], [3000, 20, 25], [4000, 25, 25]]
    lines = [line(job, curve=low if job.seed else CURVE) for job in experiment().jobs() if job.method == "rl_only"]
    steps, rates = evaluations(lines)
    assert rates.tolist() == [[0.4, 0.2, 0.8, 1.0], [0.4, 0.04, 0.8, 1.0]] and steps[1] == 2006.5
    assert min(rates[1]) == lowest(lines[1])
    lines[0]["curve"] = CURVE[:2]  # stopped early
    assert evaluations(lines)[1].shape == (2, 2)


def test_failed_and_missing_runs_are_on_the_page(tmp_path) -> None:
    """Pins: runs that were dropped without a word."""
    made = experiment()
    jobs = made.jobs()
    text = page(made, [line(jobs[0])], tmp_path, [line(jobs[1], error="ValueError: a | b")], jobs[2:])
    assert "1 of 4 runs are finished, 1 failed" in text
    assert "| insert_leg | rl_only | 0 | FAILED: ValueError: a / b |" in text
    assert "2 seeds per method planned, 0 to 1 done." in text
    assert "Not run yet: insert_leg interleave seed 1; insert_leg rl_only seed 1." in text


def test_nothing_done_yet_is_a_page_too(tmp_path) -> None:
    assert "No run is finished yet." in page(experiment(), [], tmp_path, missing=experiment().jobs())


def test_methods_with_another_start_are_marked(tmp_path) -> None:
    """Pins: a comparison of methods that began from other weights, sold as equal."""
    made = experiment()
    same = [line(job) for job in made.jobs()]
    assert "Start:" not in page(made, same, tmp_path)
    other = [line(job, start=f"{job.method} {job.seed}") for job in made.jobs()]
    text = page(made, other, tmp_path)
    assert "| interleave | 2 | a (gaussian) |" in text and "| rl_only | 2 | b (gaussian) |" in text


def test_the_bounds_on_a_collapse_are_told_for_each_method(tmp_path) -> None:
    """Pins: a method that fell, came late or never came, called safe."""
    made = experiment(methods={name: "rl_only" for name in ("fast", "late", "fell", "never")}, baseline="fast", seeds=5)
    curves = {  # 25 episodes a point; training episodes never fail, so success is that of the curve
        "fast": [[1000, 10, 25], [2000, 25, 25], [3000, 25, 25], [4000, 25, 25]],
        "late": [[1000, 10, 25], [2000, 10, 25], [3000, 10, 25], [4000, 25, 25]],
        "fell": [[1000, 10, 25], [2000, 7, 25], [3000, 25, 25], [4000, 25, 25]],
        "never": [[1000, 10, 25], [2000, 10, 25], [3000, 10, 25], [4000, 10, 25]],
    }
    train = [[step, 1] for step in (1000, 2000, 3000, 4000)]
    text = page(made, [line(job, curve=curves[job.method], train=train) for job in made.jobs()], tmp_path)
    assert "| fast | 0 | 0 | 2.0 | 1.00 | **yes** |" in text
    few = page(made, [line(job, curve=curves[job.method], train=train) for job in made.jobs()[:8]], tmp_path)
    assert "| fast | 0 | 0 | 2.0 | 1.00 | so far (2 seeds) |" in few
    assert "| late | 0 | 0 | 4.0 | 2.00 | no: 2.0 times the steps |" in text
    assert "| fell | 12 | 0 | 3.0 | 1.50 | no: fell 12 points, 1.5 times the steps |" in text
    assert "| never | 0 | – | ≥ 4.0 | ≥ 2.00 | no: 5 of 5 seeds missed 95 % |" in text


def test_several_tasks_have_a_part_each_and_one_together(tmp_path) -> None:
    made = experiment(tasks=["insert_leg", "gym:Hopper-v5"])
    returns = {"start": 100.0, "final": 900.0, "curve": [1.0], "train": [2.0]}
    lines = [line(job, **({"returns": returns} if ":" in job.task else {})) for job in made.jobs()]
    text = page(made, lines, tmp_path)
    assert (
        "## insert_leg" in text and "## gym:Hopper-v5" in text and (tmp_path / "made_gym_hopper_v5_curves.png").exists()
    )
    assert "100.0 → 900.0" in text and "## All tasks" in text and "| rl_only | 97.0 |" in text


def test_runs_stopped_early_and_unequal_budgets_are_told(tmp_path) -> None:
    made = experiment(method_budget_steps={"rl_only": 9000})
    text = page(made, [line(made.jobs()[0], capped=True), line(made.jobs()[1])], tmp_path)
    assert "stopped at 4000 steps" in text
    assert "**Not the same number of environment steps**: interleave 4000, rl_only 9000." in text
    assert "4000 environment steps." in page(experiment(), [line(job) for job in experiment().jobs()], tmp_path)


FILE = """
name: made
tasks: [insert_leg]
methods: {interleave: interleave, rl_only: rl_only}
baseline: rl_only
seeds: 2
budget_steps: 4000
overrides: {schedule: {warmup_steps: 1000}}
"""


@pytest.fixture
def call(tmp_path, capsys):
    """`inril bench` on the made experiment with one failed and one missing run; gives (exit code, output)."""
    import argparse

    (tmp_path / "made.yaml").write_text(FILE)
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    from inril_core.bench import runner

    jobs = runner.with_task_digests(experiment().jobs(), must_exist=True)
    lines = [line(jobs[0]), line(jobs[1]), line(jobs[2], error="ValueError: broken")]
    (tmp_path / "made.jsonl").write_text("".join(compact(made) + "\n" for made in lines))

    def run(*words: str) -> tuple[int, str]:
        code = command.run(parser.parse_args([str(tmp_path / "made.yaml"), "--out", str(tmp_path), *words]))
        return code, capsys.readouterr().out

    return run


def test_list_says_done_failed_and_missing(call) -> None:
    code, text = call("--list")
    assert code == 0 and text.splitlines() == [
        "done     insert_leg interleave seed 0: 40/100 -> 97/100, 12 s",
        "done     insert_leg rl_only seed 0: 40/100 -> 97/100, 12 s",
        "failed   insert_leg interleave seed 1: FAILED: ValueError: broken",
        "missing  insert_leg rl_only seed 1",
        "2 done, 1 failed, 1 missing",
    ]


def test_report_only_runs_nothing_and_fails_with_its_runs(call, tmp_path) -> None:
    before = (tmp_path / "made.jsonl").read_bytes()
    code, text = call("--report-only")
    assert code == 1 and "made.md" in text and (tmp_path / "made.jsonl").read_bytes() == before


def test_compare_says_when_it_cannot_tell(call) -> None:
    code, text = call("--compare", "interleave", "rl_only")
    assert code == 0 and text.count("cannot tell: 1 seeds are too few, 5 are needed") >= 3
