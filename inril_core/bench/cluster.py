"""Runs spread over machines with Ray: one task of one core per run, this machine's code sent along.

Every machine needs inril's dependencies. Starts are kept per machine; the same code gives the same start there, as far
as its processor's arithmetic agrees, and each line says by its hash from which weights it started.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import inril_core
from inril_core.bench.job import Job, Line
from inril_core.bench.workers import OnStep, failed
from inril_core.errors import ConfigError, missing_package

_RETRIES = 2  # of a run whose machine was lost; a run that fails by itself is a line and is not repeated


class Cluster:
    """Does jobs on a Ray cluster.

    Args:
        address: as `ray.init` takes it (``auto``, ``ray://HOST:PORT``); ``local``: start Ray on this machine.

    Raises:
        ConfigError: Ray is not installed, or nothing answers at the address.
    """

    def __init__(self, address: str) -> None:
        try:
            import ray
        except ImportError as error:
            raise missing_package("--ray needs Ray", "ray", error, "or leave --ray out") from error
        self._ray: Any = ray
        self._connect(address)

    def _connect(self, address: str) -> None:
        where = {} if address == "local" else {"address": address}
        package = str(Path(inril_core.__file__).parent)
        try:
            self._ray.init(**where, runtime_env={"py_modules": [package]}, include_dashboard=False, log_to_driver=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ConfigError(
                f"--ray {address}: {error}; start it with `ray start --head`, or give the address it printed"
            ) from error

    def lines(self, jobs: Sequence[Job], code: str, starts: Path, on_step: OnStep) -> Iterator[Line]:
        """See `Workers.lines`; steps on the way are not told."""
        work = self._ray.remote(num_cpus=1, max_retries=_RETRIES)(_work)
        running = {work.remote(asdict(job), code, str(starts)): job for job in jobs}
        try:
            while running:
                ready, _ = self._ray.wait(list(running), num_returns=1)
                job = running.pop(ready[0])
                try:
                    yield self._ray.get(ready[0])
                except self._ray.exceptions.RayError as error:
                    yield failed(job, code, f"{type(error).__name__}: {str(error).strip().splitlines()[-1]}")
        finally:
            for left in running:
                self._ray.cancel(left, force=True)
            self._ray.shutdown()


def _work(values: dict[str, Any], code: str, starts: str) -> Line:
    from inril_core.bench.one_run import run_one
    from inril_core.networks.compute import use_one_thread

    use_one_thread()
    return run_one(Job(**values), code, Path(starts))
