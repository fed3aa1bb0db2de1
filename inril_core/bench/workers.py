"""Where runs are done: in this process, in children of it, or (`inril_core.bench.cluster`) on other machines."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

from inril_core.bench.job import Job, Line
from inril_core.errors import ConfigError

OnStep = Callable[[Job, int], None]
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_END_S = 5.0


class Workers(Protocol):
    """Does jobs in any order."""

    def lines(self, jobs: Sequence[Job], code: str, starts: Path, on_step: OnStep) -> Iterator[Line]:
        """One line per job, as they come; ``on_step`` is told the environment steps done, where that is known.

        Leaving the loop ends what still runs.
        """


class Children:
    """One process per run, so many at a time: spawned, one thread each.

    A process of its own gives the memory back, and one that dies takes no other with it: its line says so.

    Raises:
        ConfigError: fewer than one.
    """

    def __init__(self, count: int) -> None:
        if count < 1:
            raise ConfigError(f"--workers = {count}: give 1 or more")
        self._count = count

    def lines(self, jobs: Sequence[Job], code: str, starts: Path, on_step: OnStep) -> Iterator[Line]:
        """See `Workers.lines`."""
        context = multiprocessing.get_context("spawn")
        waiting, running = list(reversed(jobs)), dict[Connection, tuple[BaseProcess, Job]]()
        try:
            with _one_thread_each():
                while waiting or running:
                    while waiting and len(running) < self._count:
                        job = waiting.pop()
                        ours, theirs = context.Pipe(duplex=False)
                        process: BaseProcess = context.Process(
                            target=_child, args=(theirs, asdict(job), code, str(starts))
                        )
                        process.start()
                        theirs.close()  # so that the end of the child is the end of the pipe
                        running[ours] = process, job
                    for ready in wait(list(running)):
                        assert isinstance(ready, Connection)
                        process, job = running[ready]
                        line = _receive(ready, process, job, code, on_step)
                        if line is not None:
                            del running[ready]
                            ready.close()
                            yield line
        finally:
            for process, _ in running.values():
                process.terminate()
            for process, _ in running.values():
                process.join(_END_S)
                if process.is_alive():
                    process.kill()
                    process.join()


def _receive(pipe: Connection, process: BaseProcess, job: Job, code: str, on_step: OnStep) -> Line | None:
    try:
        kind, value = pipe.recv()
    except (EOFError, OSError):
        process.join()
        return failed(job, code, f"the process ended with exit code {process.exitcode} (-9: killed, often for memory)")
    if kind == "steps":
        on_step(job, value)
        return None
    process.join()
    line: Line = value
    return line


def failed(job: Job, code: str, error: str) -> Line:
    """The line of a run that could not tell itself what went wrong."""
    return {
        **job.facts(),
        "settings": job.digest,
        "code": code,
        "machine": None,
        "error": error,
        "wall_s": None,
    }


def _child(pipe: Connection, values: dict[str, Any], code: str, starts: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    from inril_core.bench.one_run import run_one
    from inril_core.networks.compute import use_one_thread

    use_one_thread()
    line = run_one(Job(**values), code, Path(starts), lambda steps: pipe.send(("steps", steps)))
    pipe.send(("line", line))


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


class _one_thread_each:  # noqa: N801 - used as a with statement
    """Spawned children read these before NumPy starts its threads."""

    def __enter__(self) -> None:
        self._before = {name: os.environ.get(name) for name in _THREADS}
        os.environ.update(dict.fromkeys(_THREADS, "1"))

    def __exit__(self, *_: object) -> None:
        for name, value in self._before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
