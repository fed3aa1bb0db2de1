"""`inril bench`: what it takes, and what it does."""

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from inril_core.errors import ConfigError

if TYPE_CHECKING:
    from inril_core.bench.job import Job
    from inril_core.bench.runner import State
    from inril_core.bench.workers import Workers

SUMMARY = "run an experiment (tasks x methods x seeds) and write its tables and plots; goes on where it stopped"
EXAMPLES = (
    "bench/smoke.yaml",
    "bench/insert_leg.yaml --workers 2",
    "bench/insert_leg.yaml --list",
    "bench/insert_leg.yaml --compare interleave rl_only",
    "bench/rlif.yaml --interveners",
    "bench/other_tasks.yaml --tasks gym:Hopper-v5:sparse --seeds 0,1",
    "bench/insert_leg.yaml --ray auto",
)

# Modules that import torch are imported where they are used: `inril --help` must not wait for them.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    parser.add_argument("experiment", type=Path, help="experiment file; see the folder bench/")
    parser.add_argument("--workers", type=int, default=None, metavar="N", help="runs at a time (default: the cores)")
    parser.add_argument("--tasks", type=_words, default=None, metavar="A,B", help="only these tasks")
    parser.add_argument("--methods", type=_words, default=None, metavar="A,B", help="only these methods")
    parser.add_argument("--seeds", type=_numbers, default=None, metavar="0,1", help="only these seeds")
    parser.add_argument("--retry-failed", action="store_true", help="run those that failed again")
    parser.add_argument("--list", action="store_true", help="print what is done, failed and missing; run nothing")
    parser.add_argument("--report-only", action="store_true", help="write tables and plots of what is there")
    parser.add_argument(
        "--compare", nargs=2, metavar=("A", "B"), help="compare two methods, paired by seed; run nothing"
    )
    parser.add_argument(
        "--interveners",
        action="store_true",
        help="measure how well the simulated interveners do alone; run nothing else",
    )
    parser.add_argument("--ray", metavar="ADDRESS", help="spread the runs over this Ray cluster; local: this machine")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("docs/results"),
        help="folder of lines, tables and plots (default: %(default)s)",
    )
    parser.add_argument(
        "--starts", type=Path, default=None, help="folder of cloned policies (default: in the user's cache)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code is 1 if a run failed.

    Raises:
        ConfigError: what the user can fix.
    """
    from inril_core.bench import runner
    from inril_core.bench.experiment import load_experiment

    experiment = load_experiment(arguments.experiment)
    jobs = runner.Chosen(arguments.tasks, arguments.methods, arguments.seeds).of(experiment)
    if arguments.interveners:
        return _print_interveners(jobs)
    for path in runner.unread(experiment, arguments.out):
        print(f"bench: also_read names {path.stem!r}, and there is no {path} (yet)", file=sys.stderr)
    quiet = arguments.list or arguments.report_only or arguments.compare is not None
    jobs = runner.with_task_digests(jobs, must_exist=not quiet)
    if arguments.list:
        return _list(runner.state(experiment, jobs, arguments.out))
    from inril_core.bench.statistics import require_rliable

    require_rliable()  # before hours of runs, not after
    if quiet:
        found = runner.state(experiment, jobs, arguments.out)
    else:
        from inril_core.bench.start import starts_folder

        starts = (arguments.starts or starts_folder()).absolute()
        _make_folder(starts, "--starts")
        with _stoppable():
            found = runner.run_missing(
                experiment, jobs, arguments.out, _workers(arguments), starts, arguments.retry_failed
            )
    if arguments.compare is not None:
        return _compare(found, arguments.compare, experiment.methods)
    from inril_core.bench.report import write_report

    # of the whole experiment, also when only a part of it was asked for
    whole = runner.with_task_digests(experiment.jobs(), must_exist=False)
    everything = runner.state(experiment, whole, arguments.out)
    command = shlex.join(["inril", "bench", str(arguments.experiment)])
    try:
        pages = write_report(experiment, everything, arguments.out, command)
    except OSError as error:
        raise ConfigError(
            f"--out {arguments.out}: the page cannot be written: {error}; fix that, then --report-only makes it"
        ) from error
    print(f"wrote {', '.join(map(str, pages))}", flush=True)
    return 1 if found.failed else 0


@contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM stops like Ctrl-C, so that the processes of the runs end too; also where Ctrl-C is ignored (nohup)."""
    signals = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, signal.default_int_handler) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def _workers(arguments: argparse.Namespace) -> "Workers":
    if arguments.ray is not None:
        from inril_core.bench.cluster import Cluster

        return Cluster(arguments.ray)
    from inril_core.bench.workers import Children

    return Children(arguments.workers if arguments.workers is not None else os.cpu_count() or 1)


def _make_folder(path: Path, option: str) -> None:
    """Before the runs, each of which would fail with it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{option} {path}: is no folder and cannot become one: {error}; give another") from error


def _print_interveners(jobs: "list[Job]") -> int:
    from inril_core.bench.interveners import HEAD, measure_interveners

    print(HEAD)
    for intervener in measure_interveners(jobs):
        print(intervener.row, flush=True)
    return 0


def _list(found: "State") -> int:
    from inril_core.bench.progress import summary

    for line in found.lines:
        print(f"done     {summary(line)}")
    for line in found.failed:
        print(f"failed   {summary(line)}")
    for job in found.missing:
        print(f"missing  {job.label}")
    print(f"{len(found.lines)} done, {len(found.failed)} failed, {len(found.missing)} missing")
    return 0


def _compare(found: "State", names: list[str], methods: "Iterable[str]") -> int:
    from inril_core.bench import versus

    for name in names:
        if name not in methods:
            raise ConfigError(f"--compare: {name!r} is not one of {list(methods)}")
    a, b = (versus.runs(found.lines, name) for name in names)
    for finding in versus.compare((names[0], names[1]), a, b):
        print(versus.sentence(finding))
    return 0


def _words(text: str) -> list[str]:
    return text.split(",")


def _numbers(text: str) -> list[int]:
    try:
        return [int(word) for word in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: give numbers with commas between, such as 0,1,2") from error
