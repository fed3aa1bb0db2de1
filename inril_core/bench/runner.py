"""Runs what is missing of an experiment, and knows what is there."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from inril_core.bench.experiment import Experiment
from inril_core.bench.job import Job, Line, task_digest
from inril_core.bench.lines import Known, LinesFile, read_all
from inril_core.bench.origin import code_version
from inril_core.bench.progress import Progress
from inril_core.bench.workers import Workers
from inril_core.errors import ConfigError
from inril_core.tasks import make_task


@dataclass(frozen=True)
class Chosen:
    """A part of an experiment; None: all of it."""

    tasks: Collection[str] | None = None
    methods: Collection[str] | None = None
    seeds: Collection[int] | None = None

    def of(self, experiment: Experiment) -> list[Job]:
        """The runs chosen.

        Raises:
            ConfigError: something chosen is not in the experiment.
        """
        for what in ("tasks", "methods", "seeds"):
            known, wanted = getattr(experiment, what), getattr(self, what)
            for name in wanted or ():
                if name not in known:
                    raise ConfigError(f"--{what}: {name!r} is not in {experiment.name}, which has {list(known)}")
        return [
            job
            for job in experiment.jobs()
            if (self.tasks is None or job.task in self.tasks)
            and (self.methods is None or job.method in self.methods)
            and (self.seeds is None or job.seed in self.seeds)
        ]


@dataclass(frozen=True)
class State:
    """Where an experiment stands."""

    lines: list[Line]
    """In the order of the jobs."""
    failed: list[Line]
    """In the order of the jobs."""
    missing: list[Job]


def with_task_digests(jobs: Sequence[Job], must_exist: bool) -> list[Job]:
    """The jobs with the digest of their task.

    Raises:
        ConfigError: a task cannot be made here and ``must_exist``.
    """
    digests: dict[str, str | None] = {}
    for name in dict.fromkeys(job.task for job in jobs):
        try:
            task = make_task(name)
        except ConfigError:
            if must_exist:
                raise
            digests[name] = None
            continue
        digests[name] = task_digest(task.interface)
        task.close()
    return [replace(job, task_digest=digests[job.task]) for job in jobs]


def lines_path(experiment: Experiment, folder: Path) -> Path:
    """The file of an experiment's lines."""
    return folder / f"{experiment.name}.jsonl"


def _also(experiment: Experiment, folder: Path) -> list[Path]:
    return [folder / f"{name}.jsonl" for name in experiment.also_read]


def unread(experiment: Experiment, folder: Path) -> list[Path]:
    """What ``also_read`` names and is not there (yet): perhaps misspelt."""
    return [path for path in _also(experiment, folder) if not path.exists()]


def state(experiment: Experiment, jobs: Sequence[Job], folder: Path) -> State:
    """What of the jobs is done, has failed and is missing, without touching anything.

    Raises:
        ConfigError: a file of lines cannot be read.
    """
    return _state(Known(read_all([*_also(experiment, folder), lines_path(experiment, folder)])), jobs)


def _state(known: Known, jobs: Sequence[Job]) -> State:
    found = [(job, known.of(job)) for job in jobs]
    return State(
        [line for _, line in found if line is not None and line["error"] is None],
        [line for _, line in found if line is not None and line["error"] is not None],
        [job for job, line in found if line is None],
    )


def run_missing(
    experiment: Experiment,
    jobs: Sequence[Job],
    folder: Path,
    workers: Workers,
    starts: Path,
    retry_failed: bool = False,
) -> State:
    """Do the jobs that have no line yet; each line is on disk as soon as its run is over.

    Args:
        folder: of the lines.
        starts: folder for the starts that methods share.
        retry_failed: also those whose line says that they failed.

    Raises:
        ConfigError: another bench writes to the same file, or the file is damaged.
    """
    with LinesFile(lines_path(experiment, folder)) as file:
        known = Known([*read_all(_also(experiment, folder)), *file.lines])
        found = [(job, known.of(job)) for job in jobs]
        todo = [job for job, line in found if line is None or (retry_failed and line["error"] is not None)]
        done = len(jobs) - len(todo)
        code = code_version()
        with Progress(todo, done) as progress:
            for line in workers.lines(todo, code, starts, progress.at):
                file.append(line)
                known.add(line)
                progress.finished(line)
        return _state(known, jobs)
