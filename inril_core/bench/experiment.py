"""An experiment: which tasks, which methods, which seeds, how long. Read from a YAML file, validated, frozen."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from inril_core.bench.insertions import planned
from inril_core.bench.job import Job, file_digest
from inril_core.errors import ConfigError
from inril_core.finetune.config import FineTuneConfig, config_from_values, layered_values
from inril_core.finetune.methods import describe
from inril_core.settings import Settings
from inril_core.yaml_text import read_yaml

# over a method's preset stand, in this order: the experiment's overrides, the task's, and what the method itself sets,
# which is what the comparison is about
_Overrides = dict[str, Any]


class CurveSettings(Settings):
    """Evaluations during training, always from the same starts: before the first update, then every so often."""

    episodes: int = Field(25, ge=1)
    every_steps: int = Field(1000, ge=1)


class TaskSettings(Settings):
    """What differs for one task; None: the experiment's."""

    demo_file: str | None = None
    """Robomimic HDF5 file that a robosuite task's demonstrations are drawn from, instead of the scripted expert's; its
    content, not its path, belongs to the settings of a run."""
    unlabelled_demos_succeed: bool = False
    """See `read_robomimic`."""
    budget_steps: int | None = Field(None, ge=1)
    demos: int | None = Field(None, ge=1)
    curve: CurveSettings | None = None
    overrides: _Overrides = {}


class Experiment(Settings):
    """Tasks x methods x seeds."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    """Of the files of lines, tables and plots: small letters, digits and ``_``."""
    title: str = ""
    """Of the page."""
    about: str = ""
    """What the question is, in Markdown; goes to the top of the page."""
    tasks: dict[str, TaskSettings] = Field(min_length=1)
    """Names for `inril_core.tasks.make_task`, as a list or with what differs per task."""
    methods: dict[str, str | dict[str, Any]] = Field(min_length=1)
    """What is compared: a preset, or settings over one (``{base: PRESET, combine: {rl_per_il: 4}}``)."""
    baseline: str | None = None
    """The method that the others are compared with on the page."""
    seeds: tuple[int, ...] = Field(min_length=1)
    """Their number, counted from 0, or a list."""
    demos: int = Field(12, ge=1)
    """Demonstrations per seed; every seed draws its own."""
    look_around_steps: int = Field(0, ge=0)
    """So many steps at the start of each demonstration show the parts from many places, see `collect_demos`."""
    budget_steps: int | None = Field(None, ge=1)
    """Environment steps instead of the preset's."""
    method_budget_steps: dict[str, Annotated[int, Field(ge=1)]] = {}
    """The same for single methods; the page says so, because it is then no equal comparison."""
    start_episodes: int = Field(100, ge=1)
    """Evaluation before, on starts that no other part uses."""
    final_episodes: int = Field(100, ge=1)
    """Evaluation after, on starts that no other part uses."""
    curve: CurveSettings = CurveSettings()
    """See `CurveSettings`."""
    cap_s: float | None = Field(None, gt=0.0)
    """Wall time after which a run is stopped and measured as it is (checked at the points of its curve)."""
    overrides: _Overrides = {}
    """Settings written over every method's preset; what a method sets itself stands over them."""
    least_insertions: int = Field(40, ge=0)
    """Insertions of imitation that a method that interleaves must be able to make within its budget. Fewer are hardly
    interleaving: what it is said to do is a matter of many alternations."""
    also_read: tuple[str, ...] = ()
    """Other experiments whose lines count here too where the settings are the same."""

    @field_validator("seeds", mode="before")
    @classmethod
    def _count(cls, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return value
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError("give their number, 1 or more, or a list such as [0, 1, 2]")
        return tuple(range(value))

    @field_validator("tasks", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: {} if settings is None else settings for name, settings in value.items()}
        if not isinstance(value, list):
            return value
        if not all(isinstance(name, str) for name in value) or len(set(value)) != len(value):
            raise ValueError("give different names; what differs for one is a mapping, see docs/bench.md")
        return {name: {} for name in value}

    @model_validator(mode="after")
    def _known(self) -> "Experiment":
        if len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"seeds = {list(self.seeds)}: must be different and not negative")
        for what, names in (("baseline", [self.baseline] if self.baseline else []), ("", self.method_budget_steps)):
            for name in names:
                if name not in self.methods:
                    raise ValueError(f"{what or 'method_budget_steps'} names {name!r}, not one of {list(self.methods)}")
        for name in self.methods:
            if not re.fullmatch(r"[\w.+-]+", name):
                raise ValueError(f"method {name!r}: use letters, digits and _ . + - only")
        for name, settings in self.tasks.items():
            if settings.demo_file is not None and not name.startswith("robosuite:"):
                raise ValueError(f"tasks.{name}.demo_file: only tasks of robosuite read one; remove it")
        self._check_overrides()
        return self

    def _check_overrides(self) -> None:
        """What the experiment itself decides would be lost without a word."""
        methods = {f"methods.{name}": given for name, given in self.methods.items() if isinstance(given, dict)}
        tasks = {f"tasks.{name}.overrides": settings.overrides for name, settings in self.tasks.items()}
        for where, given in {**methods, "overrides": self.overrides, **tasks}.items():
            decided = {"name", "seed"} if where in methods else {"name", "seed", "base"}
            for key in sorted(decided & given.keys()):
                raise ValueError(
                    f"{where}.{key} = {given[key]!r}: is decided by the experiment's methods and seeds; remove it"
                )

    def config(self, task: str, method: str, seed: int) -> FineTuneConfig:
        """All settings of a run.

        Raises:
            ConfigError: no such preset, or a setting is wrong; names the method.
        """
        given = self.methods[method]
        own = {"base": given} if isinstance(given, str) else given
        source = f"method {method!r}"
        try:
            values = layered_values({"base": own.get("base", {})}, source)
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from error
        for over in (self.overrides, self.tasks[task].overrides, own):
            values = layered_values({**over, "base": values}, source)
        config = config_from_values({**values, "name": method, "seed": seed}, source)
        try:
            config.refuse_nobody()
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from error
        budget_steps = self.budget(task, method)
        return config if budget_steps is None else config.changed(**{"schedule.budget_steps": budget_steps})

    def refuse_few_insertions(self) -> None:
        """Refuse an experiment whose arms could not show what interleaving does.

        Raises:
            ConfigError: a method interleaves too seldom; says how often, and what to change.
        """
        for task in self.tasks:
            for method in self.methods:
                config = self.config(task, method, self.seeds[0])
                found = planned(config)
                if found is None or found[0] >= self.least_insertions:
                    continue
                update = "rl.rollout_steps" if config.rl.collection == "on_policy" else "schedule.warmup_steps"
                raise ConfigError(
                    f"method {method!r} on {task} can insert imitation {found[0]} times ({found[1]} IL steps) within "
                    f"its {config.schedule.budget_steps} environment steps, fewer than least_insertions = "
                    f"{self.least_insertions}: raise budget_steps, lower combine.rl_per_il or {update}, or set "
                    "least_insertions lower if this experiment is to show something else"
                )

    def budget(self, task: str, method: str) -> int | None:
        """Environment steps, if the experiment sets them."""
        for steps in (self.method_budget_steps.get(method), self.tasks[task].budget_steps, self.budget_steps):
            if steps is not None:
                return steps
        return None

    def jobs(self) -> list[Job]:
        """Every run, seed by seed: an early look at the results then compares the methods on the same seeds.

        Raises:
            ConfigError: a method's settings are wrong.
        """
        files = {name: own.demo_file and file_digest(own.demo_file) for name, own in self.tasks.items()}
        return [
            self._job(task, method, seed, files[task])
            for seed in self.seeds
            for task in self.tasks
            for method in self.methods
        ]

    def _job(self, task: str, method: str, seed: int, demo_sha256: str | None) -> Job:
        own = self.tasks[task]
        curve = own.curve or self.curve
        return Job(
            task=task,
            method=method,
            seed=seed,
            config=self.config(task, method, seed).model_dump(mode="json"),
            demos=self.demos if own.demos is None else own.demos,
            start_episodes=self.start_episodes,
            final_episodes=self.final_episodes,
            curve_episodes=curve.episodes,
            curve_every_steps=curve.every_steps,
            cap_s=self.cap_s,
            demo_file=own.demo_file,
            demo_sha256=demo_sha256,
            unlabelled_demos_succeed=own.unlabelled_demos_succeed,
            look_around_steps=self.look_around_steps if own.demo_file is None else 0,
        )


def load_experiment(path: str | Path) -> Experiment:
    """Read an experiment file.

    Raises:
        ConfigError: missing, not YAML, or a setting of it or of its methods is unknown or out of its range; names file,
            field and remedy.
    """
    try:
        values = read_yaml(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise ConfigError(
            f"{path}: cannot be read: {error}; give an experiment file such as bench/smoke.yaml"
        ) from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: an experiment is a mapping of settings, found {type(values).__name__}")
    try:
        experiment = Experiment.model_validate(values)
        experiment.jobs()
        experiment.refuse_few_insertions()
    except ValidationError as error:
        raise ConfigError(f"{path}: {describe(error, '', Experiment)}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return experiment
