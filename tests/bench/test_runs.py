"""Real runs, as small as they can be."""

import json
from multiprocessing import Pipe

import pytest

from inril_core.bench.experiment import load_experiment
from inril_core.bench.job import Job
from inril_core.bench.lines import compact
from inril_core.bench.one_run import run_one
from inril_core.bench.workers import Children, _receive
from inril_core.errors import ConfigError
from tests.bench.made import experiment

TIMES = ("wall_s", "fine_tune_s", "learner_s", "updates_per_s")


def tiny(**changes: object) -> list[Job]:
    """Jobs that take a second: a policy that is hardly trained on few episodes."""
    small = {
        "policy": {"hidden": [16]},
        "rl": {"hidden": [16], "batch": 16},
        "pretrain": {"updates": 20},
        "schedule": {"warmup_steps": 100, "critic_warmup_updates": 10, "rewards_before_actor": 0, "utd": 0.2},
        "metrics_every_updates": 10,
    }
    sizes = {"demos": 2, "start_episodes": 1, "final_episodes": 1, "curve": {"episodes": 1, "every_steps": 100}}
    return experiment(**{**sizes, "budget_steps": 250, "overrides": small, "seeds": [3], **changes}).jobs()


def test_a_run_repeats_and_methods_share_their_start(tmp_path) -> None:
    """Pins: numbers that depend on what ran before, and arms that begin from other weights."""
    told: list[int] = []
    first, other = (run_one(job, "code", tmp_path, told.append) for job in tiny())
    again = run_one(tiny()[0], "code", tmp_path / "fresh")
    assert first["error"] is None and other["error"] is None
    assert first["updates"] > 10 and first["env_steps"] >= 250 and told[-1] == other["env_steps"]
    assert first["start"] == other["start"] == again["start"] and len(list(tmp_path.glob("*.safetensors"))) == 1
    strip = [{k: v for k, v in line.items() if k not in TIMES} for line in (first, again)]
    assert strip[0] == strip[1]
    assert json.loads(compact(first))["cosines"] and not other["cosines"]
    assert 100 <= first["first_update_step"] <= first["curve"][0][0]
    assert [point[2] for point in first["curve"]] == [1] * len(first["curve"]) and first["curve"][0][0] >= 100


def test_a_run_beyond_its_time_is_measured_as_it_is(tmp_path) -> None:
    """Pins: an hour of work lost at the cap."""
    line = run_one(tiny(cap_s=1e-6)[1], "code", tmp_path)
    assert line["error"] is None and line["capped"] and line["env_steps"] < 250 and len(line["curve"]) == 1
    assert line["final_successes"] in (0, 1)


def test_a_failing_run_is_a_line_and_the_next_one_runs(tmp_path) -> None:
    """Pins: one bad run ends the bench, or disappears. In processes of their own, as benches run."""
    jobs = tiny(tasks=["no_such_task", "insert_leg"], methods={"rl_only": "rl_only"})
    steps: list[int] = []
    lines = list(Children(1).lines(jobs, "code", tmp_path, lambda job, at: steps.append(at)))
    assert [line["task"] for line in lines] == ["no_such_task", "insert_leg"] and steps
    assert "ConfigError: task 'no_such_task'" in lines[0]["error"] and lines[1]["error"] is None


def test_a_run_for_another_task_than_planned_is_refused(tmp_path) -> None:
    import dataclasses

    job = dataclasses.replace(tiny()[0], task_digest="planned elsewhere")
    assert "is another one here" in run_one(job, "code", tmp_path)["error"]


def test_a_killed_process_leaves_a_line() -> None:
    """Pins: a bench that waits for ever on a run that ran out of memory."""

    class Killed:
        exitcode = -9

        def join(self) -> None:
            pass

    ours, theirs = Pipe(duplex=False)
    theirs.close()
    job = tiny()[0]
    line = _receive(ours, Killed(), job, "code", lambda *_: None)
    assert "exit code -9" in line["error"] and line["settings"] == job.digest


def test_no_workers_are_refused() -> None:
    with pytest.raises(ConfigError, match="--workers = 0"):
        Children(0)


def test_the_cluster_names_its_fix_without_ray(monkeypatch) -> None:
    """Pins: a bare ImportError."""
    import sys

    from inril_core.bench.cluster import Cluster

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install .*\[ray\]"):
        Cluster("auto")


def test_smoke_experiment_is_small() -> None:
    """Pins: a smoke test that nobody waits for."""
    from pathlib import Path

    made = load_experiment(Path(__file__).parents[2] / "bench" / "smoke.yaml")
    assert sum(job.config["schedule"]["budget_steps"] for job in made.jobs()) <= 4000
