"""One run from demonstrations to its line."""

import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from inril_core.bench.job import Job, Line, task_digest
from inril_core.bench.meter import Meter
from inril_core.bench.origin import machine
from inril_core.bench.start import get_start
from inril_core.errors import ConfigError
from inril_core.finetune.config import config_from_values
from inril_core.finetune.learner import STEPS_TAKEN, Learner
from inril_core.finetune.local import Curve, evaluate, fine_tune
from inril_core.session.plan import episode_seed
from inril_core.tasks import make_task

CURVE_FIRST_SEED = 200_000  # the final evaluation has its own, disjoint starts


class _TimeIsUp(Exception):
    """The run reached its cap of wall time."""


def run_one(job: Job, code: str, starts: Path, on_step: Callable[[int], None] | None = None) -> Line:
    """The line of a job. Whatever goes wrong becomes a line too, with its error.

    Args:
        code: see `code_version`.
        starts: folder for `get_start`.
        on_step: told the environment steps done at each point of the curve.
    """
    began_s = time.monotonic()
    line: Line = {**job.facts(), "settings": job.digest, "code": code, "machine": machine(), "error": None}
    try:
        line.update(_run(job, starts, on_step))
    except Exception as error:  # a failing run must not cost the others, and must be seen in the table
        line["error"] = describe_error(error)
    return {**line, "wall_s": round(time.monotonic() - began_s, 1)}


def describe_error(error: BaseException) -> str:
    """Kind, message and the place it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"


def _run(job: Job, starts: Path, on_step: Callable[[int], None] | None) -> dict[str, Any]:
    config = config_from_values(dict(job.config), job.label)
    if config.gate is not None and not config.gate.task:
        config = config.changed(**{"gate.task": job.task})
    task = Meter(make_task(job.task))
    try:
        here = task_digest(task.interface)
        if job.task_digest not in (None, here):
            raise ConfigError(f"task {job.task}: is another one here ({here}) than where the run was planned")
        start = get_start(job, config, task, starts)
        task.take("eval")
        began_s = time.monotonic()
        deadline_s = None if job.cap_s is None else began_s + job.cap_s
        seen = Curve()

        def on_progress(curve: Curve) -> None:
            nonlocal seen
            seen = curve
            if on_step is not None:
                on_step(curve.evaluations[-1][0])
            if deadline_s is not None and time.monotonic() > deadline_s:
                raise _TimeIsUp

        capped = False
        watch = _Watch()
        with tempfile.TemporaryDirectory() as folder:
            curve_seeds = range(CURVE_FIRST_SEED, CURVE_FIRST_SEED + job.curve_episodes)
            first_seed = episode_seed("train", 0, job.seed)
            try:
                learner, seen = fine_tune(
                    config,
                    task,
                    start.policy,
                    start.demos,
                    Path(folder),
                    first_seed,
                    curve_seeds,
                    job.curve_every_steps,
                    on_progress,
                    observer=watch,
                )
                counts = {"updates": learner.updates, "env_steps": learner.ingested_steps}
            except _TimeIsUp:
                capped = True
                last_update = seen.metrics[-1][0] if seen.metrics else 0
                counts = {"updates": last_update, "env_steps": seen.evaluations[-1][0]}
        fine_tune_s = time.monotonic() - began_s
        curve_returns = task.take("eval")
        final = evaluate(task, start.policy, [episode_seed("eval", i, 0) for i in range(job.final_episodes)])
        returns = {
            "start": start.mean_return,
            "final": mean(task.take("eval")),
            "curve": [mean(group) for group in batched(curve_returns, job.curve_episodes)],
            "train": [round(value, 2) for value in task.take("train")],
        }
    finally:
        task.close()
    return {
        "task_digest": here,
        "start": start.weights,
        "start_successes": start.successes,
        "final_successes": int(sum(final)),
        "curve": [list(point) for point in seen.evaluations],
        "train": [[step, int(success)] for step, success in seen.episodes],
        "cosines": cosines(seen),
        **({"returns": returns} if task.rewarded else {}),
        **counts,
        "steps_taken": watch.taken,
        "first_update_step": counts["env_steps"] if watch.first_update_step is None else watch.first_update_step,
        "capped": capped,
        "fine_tune_s": round(fine_tune_s, 1),
        "learner_s": round(watch.learner_s, 1),
        "updates_per_s": round(counts["updates"] / watch.learner_s, 1) if watch.learner_s > 0.0 else None,
    }


def cosines(curve: Curve) -> list[list[float | None]]:
    """(update, gradient cosine, cosine of the step taken, share of the IL step's norm removed) per group with them."""
    names = ("gradient_cosine", "step_cosine", "norm_removed")
    return [
        [update, *(round(m[n], 3) if n in m else None for n in names)]
        for update, m in curve.metrics
        if "gradient_cosine" in m
    ]


def mean(values: Sequence[float]) -> float | None:
    """Of some values; None of none."""
    return round(sum(values) / len(values), 3) if values else None


def batched(values: Sequence[float], size: int) -> list[Sequence[float]]:
    """Consecutive groups of ``size``; the last may be smaller."""
    return [values[i : i + size] for i in range(0, len(values), size)]


class _Watch:
    """Notes the seconds in a learner's updates, the environment steps before the first of them, and what was done.

    The learner itself reads no clock.
    """

    def __init__(self) -> None:
        self.learner_s = 0.0
        self.first_update_step: int | None = None
        self.taken = dict.fromkeys(STEPS_TAKEN, 0)
        self._began_s = 0.0

    def update_begins(self, learner: Learner) -> None:
        """See `UpdateObserver.update_begins`."""
        if self.first_update_step is None:
            self.first_update_step = learner.ingested_steps
        self._began_s = time.perf_counter()

    def update_ended(self, learner: Learner) -> None:
        """See `UpdateObserver.update_ended`."""
        self.learner_s += time.perf_counter() - self._began_s
        self.taken = {name: int(getattr(learner.counts, name)) for name in STEPS_TAKEN}
