"""How well the simulated helpers of an experiment do alone: a method's result means little without it."""

from collections.abc import Iterator
from typing import NamedTuple

from inril_core.bench.experiment import Experiment
from inril_core.errors import ConfigError
from inril_core.evaluation.intervals import SuccessRate, success_rate
from inril_core.finetune.experts import ExpertConfig, make_expert
from inril_core.tasks import make_task
from inril_core.tasks.benchmark import run_demonstrator

FIRST_SEED = 1000  # of starts that no run of the bench uses
EPISODES = 100
HEAD = "| task | helper | alone it succeeds in | 95 % interval (Wilson) | helps |\n|---|---|---|---|---|"


class Helper(NamedTuple):
    """``methods``: those it helps; ``alone``: its own success."""

    task: str
    methods: tuple[str, ...]
    expert: ExpertConfig
    alone: SuccessRate

    @property
    def row(self) -> str:
        """Of a Markdown table below `HEAD`."""
        who = "the task's demonstrator" if self.expert.policy is None else self.expert.policy
        dials = self.expert.model_dump(exclude={"policy"}, exclude_defaults=True)
        worse = "".join(f", {name} {value:g}" for name, value in dials.items())
        rate = f"{self.alone.successes} of {self.alone.episodes} | {self.alone.low:.0%} to {self.alone.high:.0%}"
        return f"| {self.task} | {who}{worse} | {rate} | {', '.join(self.methods)} |"


def measure_helpers(experiment: Experiment, episodes: int = EPISODES) -> Iterator[Helper]:
    """Every different helper of the experiment's methods, one after the other.

    Raises:
        ConfigError: a task cannot be made here or has no demonstrator, or no method has a simulated helper.
    """
    seed = experiment.seeds[0]
    for name in experiment.tasks:
        helped: dict[str, list[str]] = {}
        for method in experiment.methods:
            interventions = experiment.config(name, method, seed).interventions
            if interventions is not None:
                helped.setdefault(interventions.expert.model_dump_json(), []).append(method)
        if not helped:
            raise ConfigError(
                f"no method of {experiment.name} has a simulated helper (interventions); see bench/rlif.yaml for some"
            )
        task = make_task(name)
        for dump, methods in helped.items():
            expert = ExpertConfig.model_validate_json(dump)
            seeds = range(FIRST_SEED, FIRST_SEED + episodes)
            results = run_demonstrator(task, make_expert(expert, task), seeds)
            alone = success_rate(sum(success for success, _, _ in results), episodes)
            yield Helper(name, tuple(methods), expert, alone)
        task.close()
