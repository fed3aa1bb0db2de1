"""Hand-made experiments and lines."""

import copy
from typing import Any

from inril_core.bench.experiment import Experiment
from inril_core.bench.job import Job, Line
from inril_core.bench.statistics import Estimate

CURVE = [[1000, 10, 25], [2000, 5, 25], [3000, 20, 25], [4000, 25, 25]]
TRAIN = [[500, 0], [990, 1], [1500, 0], [2500, 1], [3500, 0], [4000, 1]]


def experiment(**changes: Any) -> Experiment:
    """Two methods, two seeds, one task that exists."""
    values: dict[str, Any] = {
        "name": "made",
        "tasks": ["insert_leg"],
        "methods": {"interleave": "interleave", "rl_only": "rl_only"},
        "baseline": "rl_only",
        "seeds": 2,
        "budget_steps": 4000,
        "overrides": {"schedule": {"warmup_steps": 1000}},
    }
    return Experiment(**{**values, **changes})


def line(job: Job, final: int = 97, error: str | None = None, **changes: Any) -> Line:
    """What a run might have left."""
    facts = {
        **copy.deepcopy(job.facts()),
        "settings": job.digest,
        "code": "0123456789ab",
        "machine": {"processor": "p", "cores": 2, "python": "3", "torch": "2", "numpy": "2", "mujoco": "3"},
        "error": error,
        "wall_s": 12.0,
    }
    if error is not None:
        return facts
    return {
        **facts,
        "start": f"weights of seed {job.seed}",
        "start_successes": 40,
        "final_successes": final,
        "curve": CURVE,
        "train": TRAIN,
        "cosines": [[200, -0.1, 0.0, 0.3], [400, -0.2, 0.01, 0.2]] if job.method == "interleave" else [],
        "updates": 3000,
        "env_steps": 4000,
        "first_update_step": 1000,
        "capped": False,
        "fine_tune_s": 10.0,
        "learner_s": 6.0,
        "updates_per_s": 500.0,
        **changes,
    }


def lines(experiment: Experiment, **changes: Any) -> list[Line]:
    """One per job."""
    return [line(job, **changes) for job in experiment.jobs()]


def bounds(estimate: Estimate) -> tuple[float, float, float]:
    return estimate.value, estimate.low, estimate.high
