"""A graph as supervised processes, for machines without the `launch` package.

It starts processes, prints and keeps what they say, starts the dead ones again with back-off, and
stops them in order. What runs when is the lifecycle_manager's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from inril_bringup.backoff import Backoff
from inril_bringup.console import Console, LineLog
from inril_bringup.environment import child_environment
from inril_bringup.place import PlaceError, PlaceTaken, hold_place
from inril_bringup.programs import Program, die_with_parent, programs_of
from inril_bringup.run_dir import RunDirInUse, lock_run_dir
from inril_bringup.starting import Start
from inril_core.errors import ConfigError
from inril_core.files import write_atomically
from inril_core.run import RunPaths
from inril_core.session.states import ExitCode

STATUS_FILE = "supervisor.json"
_SELF = "supervisor"
_READ_BYTES = 1 << 16
UNFINISHED = 1
"""Exit code where the plan was not done; 128 + N where signal N ended it, as shells say it."""


@dataclass(frozen=True)
class StopTimes:
    """How long each step of a stop may take before the next, harder one [s]."""

    manager_s: float = 10.0
    interrupt_s: float = 8.0
    terminate_s: float = 3.0
    kill_s: float = 2.0


def _already_set() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@dataclass(eq=False)
class _Child:
    program: Program
    log: LineLog
    backoff: Backoff | None
    process: asyncio.subprocess.Process | None = None
    state: str = "waiting"
    last_exit: int | None = None
    starts: int = 0
    gone: asyncio.Event = field(default_factory=_already_set)
    """Set while no process of it runs or starts."""


class Supervisor:
    """Runs programs until one ends the graph, a required one is given up, or someone says stop."""

    def __init__(
        self,
        programs: Sequence[Program],
        run_dir: Path,
        *,
        name: str = "graph",
        graph_id: str = "",
        out: IO[str] = sys.stdout,
        environment: Mapping[str, str] | None = None,
        stop_times: StopTimes | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Nothing is started yet.

        Args:
            programs: in starting order.
            graph_id: of this launch, for supervisor.json.
            run_dir: gets logs/NAME.log and supervisor.json.
            environment: of the children; None: this process's own, with the defaults of a node.
            clock: monotonic [s], for the life times of processes.
            sleep: waits before a restart.
        """
        self._run_dir, self._name, self._graph_id = run_dir, name, graph_id
        self._environment = child_environment(os.environ) if environment is None else dict(environment)
        self._times = stop_times or StopTimes()
        self._clock, self._sleep = clock, sleep
        self._console = Console(out, [_SELF, *(program.name for program in programs)])
        logs = RunPaths(run_dir).logs
        self._children = {
            program.name: _Child(
                program,
                LineLog(program.name, logs / f"{program.name}.log", self._console),
                Backoff(program.respawn) if program.respawn else None,
            )
            for program in programs
        }
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._stop_reason = ""
        self._exit_code = 0

    def request_stop(self, reason: str, exit_code: int = UNFINISHED) -> None:
        """Stop all in order; asked a second time while stopping, kill at once."""
        if self._stop.is_set():
            self._hurry.set()
            return
        self._stop_reason, self._exit_code = reason, exit_code
        self._say(f"stopping: {reason}")
        self._stop.set()

    async def run(self) -> int:
        """Supervise to the end; exit code 0 when a program that ends the graph has finished, and only then."""
        loop = asyncio.get_running_loop()
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup keeps its meaning
            numbers.append(signal.SIGHUP)
        for number in numbers:
            loop.add_signal_handler(number, self.request_stop, number.name, 128 + number)
        tasks = [asyncio.create_task(self._keep(child)) for child in self._children.values()]
        try:
            idle = asyncio.gather(*tasks)
            stop = asyncio.create_task(self._stop.wait())
            waits: set[asyncio.Future[Any]] = {idle, stop}
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if not self._stop.is_set():
                self.request_stop("every program has ended")
            await self._stop_all()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, stop, idle, return_exceptions=True)
            for task in tasks:
                if not task.cancelled() and task.exception() is not None:
                    self._say(f"internal error: {task.exception()!r}")
                    self._exit_code = 1
        finally:
            self._kill_all()
            for number in numbers:
                loop.remove_signal_handler(number)
            self._write_status("stopped")
            for child in self._children.values():
                child.log.close()
        self._say(f"stopped with exit code {self._exit_code}: {self._stop_reason}")
        return self._exit_code

    async def _keep(self, child: _Child) -> None:
        """Start a program again and again until it, or all, may rest."""
        while not self._stop.is_set():
            started_s = self._clock()
            code = await self._run_once(child)
            if self._stop.is_set():
                child.state = "stopped"
                return
            wait_s = self._after_exit(child, code, self._clock() - started_s)
            self._write_status()
            if wait_s is None:
                return
            await self._sleep(wait_s)

    def _after_exit(self, child: _Child, code: int, lived_s: float) -> float | None:
        """What follows from the end of a program: the wait before its restart, or None."""
        name = child.program.name
        told = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        if child.program.ends_graph and code == 0:
            child.state = "done"
            self.request_stop(f"{name} has finished", exit_code=0)
            return None
        if code == os.EX_CONFIG:
            child.state = "lost"
            self._say(f"{name} cannot work as it is configured, and is not started again; see {self._log_of(name)}")
            if child.program.required or child.starts == 1:  # later, what is not required may be lost
                self.request_stop(f"{name} cannot work as it is configured", exit_code=UNFINISHED)
            return None
        if child.program.ends_graph and code == ExitCode.NOBODY_CAME:
            child.state = "done"
            self.request_stop(f"{name} waited for a person and nobody came; see {self._log_of(name)}", exit_code=code)
            return None
        wait_s = child.backoff.after_death(lived_s) if child.backoff else None
        if wait_s is not None:
            child.state = "waiting"
            self._say(f"{name} died with {told} after {lived_s:.1f} s; restart in {wait_s:.1f} s")
            return wait_s
        child.state = "lost"
        restarts = child.backoff.in_a_row if child.backoff else 0
        self._say(f"{name} died with {told} after {lived_s:.1f} s; given up after {restarts} restarts in a row")
        if child.program.required:
            self.request_stop(f"{name} is required and was lost; see {self._log_of(name)}")
        return None

    async def _run_once(self, child: _Child) -> int:
        """Start a program and wait for its end; its exit code, negative for a signal."""
        # An own pipe instead of PIPE: the process's end is seen even if a grandchild holds the pipe.
        read_end, write_end = os.pipe()
        child.gone.clear()
        try:
            child.process = process = await asyncio.create_subprocess_exec(
                *child.program.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                env=self._environment if child.program.environment is None else dict(child.program.environment),
                start_new_session=True,  # Ctrl-C reaches the supervisor alone, which stops the rest in order
                preexec_fn=die_with_parent(child.program.nice),
            )
        except OSError as error:
            os.close(read_end)
            child.gone.set()
            self._say(f"{child.program.name} cannot be started: {error}")
            return 127
        finally:
            os.close(write_end)
        child.state, child.starts = "running", child.starts + 1
        self._write_status()
        if self._stop.is_set():  # asked to stop while it started
            _signal_group(process.pid, signal.SIGINT)
        reader = asyncio.create_task(self._read(read_end, child.log))
        try:
            code = await process.wait()
        finally:
            _signal_group(process.pid, signal.SIGKILL)  # whatever it left behind
        await asyncio.wait({reader}, timeout=1.0)
        reader.cancel()
        child.process, child.last_exit = None, code
        child.gone.set()
        return code

    async def _read(self, read_end: int, log: LineLog) -> None:
        reader = asyncio.StreamReader()
        pipe = os.fdopen(read_end, "rb", buffering=0)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        try:
            while data := await reader.read(_READ_BYTES):
                log.feed(data)
        finally:
            transport.close()

    async def _stop_all(self) -> None:
        """The lifecycle_manager first, which ends the nodes in order; then ever harder signals."""
        self._write_status("stopping")
        children = list(reversed(self._children.values()))
        managers = [child for child in children if child.program.manages]
        await self._signal(managers, signal.SIGINT, self._times.manager_s)
        await self._signal(children, signal.SIGINT, self._times.interrupt_s)
        await self._signal(children, signal.SIGTERM, self._times.terminate_s, complain=True)
        await self._signal(children, signal.SIGKILL, self._times.kill_s, complain=True)

    async def _signal(
        self, children: list[_Child], number: signal.Signals, wait_s: float, complain: bool = False
    ) -> None:
        alive = [child for child in children if not child.gone.is_set()]
        if not alive:
            return
        if complain:
            self._say(f"{', '.join(child.program.name for child in alive)} did not stop: {number.name}")
        for child in alive:
            if child.process is not None:
                _signal_group(child.process.pid, number)
        ends = asyncio.gather(*(child.gone.wait() for child in alive))
        hurry = asyncio.create_task(self._hurry.wait())
        waits: set[asyncio.Future[Any]] = {ends} if number == signal.SIGKILL else {ends, hurry}
        await asyncio.wait(waits, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        ends.cancel()
        await asyncio.gather(ends, hurry, return_exceptions=True)

    def _kill_all(self) -> None:
        for child in self._children.values():
            if child.process is not None:
                _signal_group(child.process.pid, signal.SIGKILL)

    def _log_of(self, name: str) -> Path:
        return RunPaths(self._run_dir).logs / f"{name}.log"

    def _say(self, text: str) -> None:
        self._console.say(_SELF, text)

    def _write_status(self, state: str = "") -> None:
        """Process ids and restarts, for tools and tests that look from outside."""
        nodes = {
            name: {
                "pid": child.process.pid if child.process is not None else None,
                "state": child.state,
                "starts": child.starts,
                "restarts": child.backoff.total if child.backoff else 0,
                "last_exit": child.last_exit,
            }
            for name, child in self._children.items()
        }
        state = state or ("stopping" if self._stop.is_set() else "running")
        status = {"graph": self._name, "graph_id": self._graph_id, "pid": os.getpid(), "state": state, "nodes": nodes}
        if state == "stopped":
            status |= {"exit_code": self._exit_code, "reason": self._stop_reason}
        try:
            write_atomically(self._run_dir / STATUS_FILE, json.dumps(status, indent=1).encode() + b"\n")
        except OSError as error:
            self._say(f"{STATUS_FILE} cannot be written: {error}")  # a full disk must not stop the supervising


def _signal_group(process_id: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process_id, number)


def supervise(start: Start, out: IO[str] = sys.stdout) -> int:
    """Run a graph that was checked to its end and return the exit code.

    Raises:
        ConfigError: another graph is where this one is to run, or the run folder cannot be used or is in use.
    """

    async def run() -> int:
        graph = start.graph
        programs = programs_of(graph)
        return await Supervisor(programs, graph.run_dir, name=graph.name, graph_id=start.graph_id, out=out).run()

    with contextlib.ExitStack() as held:
        try:
            if start.place is not None:
                held.enter_context(hold_place(start.place, start.facts))
            held.enter_context(lock_run_dir(start.graph.run_dir))
        except (RunDirInUse, PlaceTaken, PlaceError) as error:
            raise ConfigError(str(error)) from error
        return asyncio.run(run())
