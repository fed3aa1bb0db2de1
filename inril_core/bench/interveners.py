"""How well the simulated interveners of an experiment do alone: a method's result means little without it."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import NamedTuple

from inril_core.bench.job import Job
from inril_core.bench.task_speed import run_expert
from inril_core.errors import ConfigError
from inril_core.evaluation.intervals import SuccessRate, success_rate
from inril_core.experts import ExpertConfig, make_expert
from inril_core.tasks import make_task

FIRST_SEED = 1000  # of starts that no run of the bench uses
EPISODES = 100
HEAD = "| task | intervener | alone it succeeds in | 95 % interval (Wilson) | methods |\n|---|---|---|---|---|"


class InterventionRow(NamedTuple):
    """What intervenes in a task."""

    task: str
    methods: tuple[str, ...]
    """The methods in whose runs it takes over."""
    expert: ExpertConfig
    alone: SuccessRate
    """Its own success."""

    @property
    def row(self) -> str:
        """Of a Markdown table below `HEAD`."""
        who = "the task's expert" if self.expert.policy is None else self.expert.policy
        dials = self.expert.model_dump(exclude={"policy"}, exclude_defaults=True)
        worse = "".join(f", {name} {value:g}" for name, value in dials.items())
        rate = f"{self.alone.successes} of {self.alone.episodes} | {self.alone.low:.0%} to {self.alone.high:.0%}"
        return f"| {self.task} | {who}{worse} | {rate} | {', '.join(self.methods)} |"


def measure_interveners(jobs: Sequence[Job], episodes: int = EPISODES) -> Iterator[InterventionRow]:
    """Every different intervener of the runs, one after the other.

    Raises:
        ConfigError: a task cannot be made here or has no expert, or no run has a simulated intervener.
    """
    helped: dict[tuple[str, ExpertConfig], dict[str, None]] = {}
    for job in jobs:
        interventions = job.config["interventions"]
        if interventions is not None:
            helped.setdefault((job.task, ExpertConfig(**interventions["expert"])), {})[job.method] = None
    if not helped:
        raise ConfigError(
            "--interveners: none of these methods has a simulated one (interventions); see bench/rlif.yaml"
        )
    for (name, expert), methods in helped.items():
        with closing(make_task(name)) as task:
            results = run_expert(task, make_expert(expert, task), range(FIRST_SEED, FIRST_SEED + episodes))
        alone = success_rate(sum(success for success, _, _ in results), episodes)
        yield InterventionRow(name, tuple(methods), expert, alone)
