"""What is run, what is not run again, and what becomes of failures."""

import dataclasses
import json

import pytest

from inril_core.bench import runner
from inril_core.bench.job import Job, line_digest, settings_digest, task_digest
from inril_core.bench.lines import RESULTS
from inril_core.contract import load_contract
from inril_core.errors import ConfigError
from tests.bench.made import experiment, line


class Fake:
    """Workers that do nothing but note what they were given, and stop or fail where told."""

    def __init__(self, failing: str = "", interrupt_after: int | None = None) -> None:
        self.failing, self.interrupt_after, self.ran = failing, interrupt_after, []

    def lines(self, jobs, code, starts, on_step):
        for job in jobs:
            if len(self.ran) == self.interrupt_after:
                raise KeyboardInterrupt
            self.ran.append((job.method, job.seed))
            yield line(job, error="ValueError: broken" if job.method == self.failing else None)


def go(made, folder, workers, **options):
    jobs = runner.with_task_digests(made.jobs(), must_exist=True)
    return runner.run_missing(made, jobs, folder, workers, folder, **options)


ALL = [("interleave", 0), ("rl_only", 0), ("interleave", 1), ("rl_only", 1)]


def test_an_interrupted_bench_goes_on(tmp_path) -> None:
    """Pins: hours repeated after Ctrl-C."""
    with pytest.raises(KeyboardInterrupt):
        go(experiment(), tmp_path, Fake(interrupt_after=3))
    (tmp_path / "made.jsonl").open("a").write('{"task": "insert')
    second = Fake()
    state = go(experiment(), tmp_path, second)
    assert second.ran == ALL[3:] and len(state.lines) == 4 and not state.missing
    third = Fake()
    go(experiment(), tmp_path, third)
    assert third.ran == []


def test_other_settings_run_again_and_old_lines_stay(tmp_path) -> None:
    """Pins: old settings' lines mixed into the table, or deleted."""
    go(experiment(), tmp_path, Fake())
    changed, other = experiment(overrides={"schedule": {"warmup_steps": 1000}, "rl": {"gamma": 0.9}}), Fake()
    assert len(go(changed, tmp_path, other).lines) == 4 and other.ran == ALL
    for what in ({"demos": 3}, {"final_episodes": 7}, {"curve": {"episodes": 2}}, {"budget_steps": 5000}):
        assert len(runner.state(experiment(**what), experiment(**what).jobs(), tmp_path).missing) == 4, what
    again = Fake()
    go(experiment(), tmp_path, again)
    assert again.ran == []


def test_more_seeds_and_methods_add_to_what_is_there(tmp_path) -> None:
    go(experiment(seeds=[1]), tmp_path, Fake())
    more = Fake()
    go(experiment(methods={"interleave": "interleave", "il_only": "il_only"}, baseline=None), tmp_path, more)
    assert more.ran == [("interleave", 0), ("il_only", 0), ("il_only", 1)]


def test_a_method_may_change_its_name_and_be_read_from_another_file(tmp_path) -> None:
    """Pins: the same run done twice because two experiments call it differently."""
    go(experiment(), tmp_path, Fake())
    other = experiment(name="other", methods={"m4": {"base": "interleave"}}, baseline=None, also_read=["made"])
    fake = Fake()
    state = go(other, tmp_path, fake)
    assert fake.ran == [] and [found["method"] for found in state.lines] == ["m4", "m4"]


def test_a_name_that_nothing_can_be_read_from_is_told(tmp_path) -> None:
    """Pins: a misspelt also_read, and hours of runs done twice."""
    go(experiment(), tmp_path, Fake())
    assert runner.unread(experiment(also_read=["made", "maid"]), tmp_path) == [tmp_path / "maid.jsonl"]


def test_a_line_that_lost_its_results_is_run_again(tmp_path) -> None:
    """Pins: a KeyError in the report, long after somebody's editor."""
    go(experiment(), tmp_path, Fake())
    path = tmp_path / "made.jsonl"
    first, *others = path.read_text().splitlines()
    for name in sorted(RESULTS):
        poorer = {key: value for key, value in json.loads(first).items() if key != name}
        path.write_text("\n".join([json.dumps(poorer), *others]) + "\n")
        assert len(runner.state(experiment(), experiment().jobs(), tmp_path).missing) == 1, name


def test_a_failed_run_is_kept_and_only_retried_when_asked(tmp_path) -> None:
    """Pins: a failure that vanishes, or one that is repeated for ever."""
    state = go(experiment(), tmp_path, Fake(failing="rl_only"))
    assert len(state.lines) == 2 and [bad["error"] for bad in state.failed] == ["ValueError: broken"] * 2
    same = Fake()
    go(experiment(), tmp_path, same)
    assert same.ran == []
    retry = Fake()
    state = go(experiment(), tmp_path, retry, retry_failed=True)
    assert retry.ran == [("rl_only", 0), ("rl_only", 1)] and len(state.lines) == 4 and not state.failed


def test_the_digest_reads_settings_as_they_are_understood_today() -> None:
    """Pins: a setting that is added with a default throws every result away."""
    job = experiment().jobs()[0]
    old = line(job)
    del old["config"]["schedule"]["replay_capacity"]  # as if the line were older than the setting
    assert line_digest(old) == job.digest
    old["config"]["schedule"]["replay_capacity"] = 7
    assert line_digest(old) != job.digest
    assert settings_digest({**job.facts(), "seed": 5}) != job.digest


def test_the_task_counts_unless_it_cannot_be_made_here(tmp_path) -> None:
    """Pins: results of a changed task taken for those of the present one."""
    go(experiment(), tmp_path, Fake())
    jobs = runner.with_task_digests(experiment().jobs(), must_exist=True)
    changed = [dataclasses.replace(job, task_digest="another") for job in jobs]
    unknown: list[Job] = [dataclasses.replace(job, task_digest=None) for job in jobs]
    assert len(runner.state(experiment(), changed, tmp_path).missing) == 4
    assert len(runner.state(experiment(), unknown, tmp_path).lines) == 4
    contract = load_contract("insert_leg")
    wider = contract.model_copy(update={"sim": contract.sim.model_copy(update={"clearance_m": 0.001})})
    assert task_digest(contract) == jobs[0].task_digest != task_digest(wider)


def test_a_task_that_cannot_be_made_stops_runs_but_not_reports() -> None:
    made = experiment(tasks=["no_such_task"])
    with pytest.raises(ConfigError, match="no_such_task"):
        runner.with_task_digests(made.jobs(), must_exist=True)
    assert runner.with_task_digests(made.jobs(), must_exist=False)[0].task_digest is None


def test_a_choice_outside_the_experiment_is_refused() -> None:
    assert len(runner.Chosen(methods=["rl_only"], seeds=[1]).of(experiment())) == 1
    with pytest.raises(ConfigError, match="--methods: 'dppo' is not in made"):
        runner.Chosen(methods=["dppo"]).of(experiment())
