"""The supervisor with tiny programs instead of nodes: restarts, exit codes, stops, orphans, double starts."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from inril_bringup.backoff import Backoff
from inril_bringup.graph_schema import Respawn
from inril_bringup.programs import Program, parameter_file
from inril_bringup.run_dir import RunDirInUse, lock_run_dir
from inril_bringup.supervisor import UNFINISHED, StopTimes, Supervisor

DEADLINE_S = 60.0


def program(name: str, code: str, **settings: Any) -> Program:
    return Program(name=name, command=(sys.executable, "-S", "-c", code), **settings)


def forever(name: str, on_signal: str = "", **settings: Any) -> Program:
    """Prints `ready`, then waits for SIGINT; runs `on_signal` and exits 0."""
    code = f"""
import signal, sys, time
def stop(number, frame):
    {on_signal or "pass"}
    sys.stdout.flush()
    sys.exit(0)
signal.signal(signal.SIGINT, stop)
print("ready", flush=True)
while True: signal.pause()
"""
    return program(name, code, **settings)


class Recorder:
    """Runs a supervisor without waiting between restarts, and reacts to what it prints."""

    def __init__(self, programs: list[Program], run_dir: Path, **settings: Any) -> None:
        self.waits_s: list[float] = []
        self.out = io.StringIO()
        self.reactions: list[tuple[str, int, Callable[[], None]]] = []
        self.supervisor = Supervisor(programs, run_dir, out=self.out, sleep=self._sleep, **settings)
        write = self.out.write

        def watch(text: str) -> int:
            written = write(text)
            due = [reaction for reaction in self.reactions if self.out.getvalue().count(reaction[0]) >= reaction[1]]
            for reaction in due:
                self.reactions.remove(reaction)
                asyncio.get_running_loop().call_soon(reaction[2])
            return written

        self.out.write = watch  # type: ignore[method-assign]

    async def _sleep(self, wait_s: float) -> None:
        self.waits_s.append(wait_s)
        await asyncio.sleep(0)

    def when(self, text: str, action: Callable[[], None], times: int = 1) -> None:
        """Do `action` once `text` was printed so many times."""
        self.reactions.append((text, times, action))

    def stop(self) -> None:
        self.supervisor.request_stop("test")

    def run(self) -> int:
        async def bounded() -> int:
            return await asyncio.wait_for(self.supervisor.run(), DEADLINE_S)

        return asyncio.run(bounded())


def status(run_dir: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run_dir / "supervisor.json").read_text())
    return content


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {DEADLINE_S} s in vain for {what}")


def test_back_off_grows_to_its_bound_starts_anew_after_a_good_life_and_gives_up() -> None:
    """Pins a restart storm: without growth or bound a node that cannot start eats the machine."""
    backoff = Backoff(Respawn(initial_s=1.0, factor=2.0, max_s=5.0, max_restarts=4, stable_s=10.0))
    assert [backoff.after_death(0.1) for _ in range(3)] == [1.0, 2.0, 4.0]
    assert backoff.after_death(10.0) == 1.0
    assert [backoff.after_death(0.0) for _ in range(4)] == [2.0, 4.0, 5.0, None]
    assert backoff.total == 7


def test_a_required_program_that_is_lost_ends_all_with_exit_code_1(tmp_path: Path) -> None:
    """Pins a graph that goes on, with exit code 0, without a node that it needs."""
    respawn = Respawn(initial_s=1.0, factor=3.0, max_s=4.0, max_restarts=3)
    recorder = Recorder([forever("other"), program("broken", "raise SystemExit(3)", respawn=respawn)], tmp_path)
    assert recorder.run() == 1
    assert recorder.waits_s == [1.0, 3.0, 4.0]
    assert status(tmp_path)["nodes"]["broken"]["starts"] == 4
    assert status(tmp_path)["nodes"]["other"]["pid"] is None
    assert "broken is required and was lost" in status(tmp_path)["reason"]


@pytest.mark.parametrize("required", [True, False])
def test_what_a_person_must_change_first_is_not_started_again(tmp_path: Path, required: bool) -> None:
    """Pins 65 deaths of a node whose settings cannot work."""
    code = "import os; raise SystemExit(os.EX_CONFIG)"
    broken = program("broken", code, required=required, respawn=Respawn())
    recorder = Recorder([forever("other"), broken], tmp_path)
    assert recorder.run() == UNFINISHED
    assert recorder.waits_s == [] and status(tmp_path)["nodes"]["broken"]["starts"] == 1
    assert "broken cannot work as it is configured" in status(tmp_path)["reason"]
    assert "broken.log" in recorder.out.getvalue()


def test_a_program_that_is_not_required_may_be_lost(tmp_path: Path) -> None:
    """Pins the learner taking the robot down with it, and a crash over a program that cannot start."""
    lost = Program(name="learner", command=("/nonexistent/program",), required=False)
    recorder = Recorder([forever("robot"), lost], tmp_path)
    recorder.when("ready", recorder.stop)
    assert recorder.run() == UNFINISHED
    assert "learner cannot be started" in recorder.out.getvalue()


def test_the_end_of_the_plan_ends_the_graph_with_exit_code_0(tmp_path: Path) -> None:
    """Pins `inril demos` that never returns, or that starts the finished session again."""
    session = program("session", "print('plan done')", ends_graph=True, respawn=Respawn())
    recorder = Recorder([forever("robot"), session], tmp_path)
    assert recorder.run() == 0
    assert recorder.waits_s == []
    assert status(tmp_path)["reason"] == "session has finished"


def test_a_session_to_which_nobody_came_ends_the_graph_with_its_exit_code(tmp_path: Path) -> None:
    """Pins a simulated run without a person that is started again and again, or ends as if its plan were done."""
    session = program("session", "raise SystemExit(3)", ends_graph=True, respawn=Respawn())
    recorder = Recorder([forever("robot"), session], tmp_path)
    assert recorder.run() == 3
    assert recorder.waits_s == []
    assert "waited for a person and nobody came" in status(tmp_path)["reason"]


def test_a_killed_program_is_started_again(tmp_path: Path) -> None:
    """Pins a node that stays dead after kill -9."""
    recorder = Recorder([forever("node", respawn=Respawn(initial_s=0.25))], tmp_path)

    def kill() -> None:
        os.kill(status(tmp_path)["nodes"]["node"]["pid"], signal.SIGKILL)

    recorder.when("ready", kill)
    recorder.when("ready", recorder.stop, times=2)
    assert recorder.run() == UNFINISHED
    assert recorder.waits_s == [0.25]
    assert status(tmp_path)["nodes"]["node"]["restarts"] == 1
    assert "node died with signal SIGKILL" in recorder.out.getvalue()


def test_a_stop_asks_the_manager_first_and_waits_for_it(tmp_path: Path) -> None:
    """Pins an arm that loses its arbiter before it is deactivated."""
    order = tmp_path / "order"
    programs = []
    for name in ("first", "manager", "second"):
        work = "time.sleep(0.3); " if name == "manager" else ""  # shutting nodes down takes it a while
        write = f"{work}open({str(order)!r}, 'a').write('{name} ')"
        programs.append(forever(name, write, manages=name == "manager"))
    recorder = Recorder(programs, tmp_path)
    recorder.when("ready", recorder.stop, times=3)
    assert recorder.run() == UNFINISHED
    assert order.read_text().split()[0] == "manager"
    assert sorted(order.read_text().split()) == ["first", "manager", "second"]


def test_what_ignores_sigint_is_terminated_and_then_killed(tmp_path: Path) -> None:
    """Pins a Ctrl-C that never returns because one process is deaf."""
    deaf = program(
        "deaf",
        "import signal\nfor n in (2, 15): signal.signal(n, signal.SIG_IGN)\nprint('ready', flush=True)\n"
        "while True: signal.pause()",
    )
    times = StopTimes(interrupt_s=0.05, terminate_s=0.05, kill_s=5.0)
    recorder = Recorder([deaf], tmp_path, stop_times=times)
    recorder.when("ready", recorder.stop)
    assert recorder.run() == UNFINISHED
    assert status(tmp_path)["nodes"]["deaf"]["last_exit"] == -signal.SIGKILL
    assert "deaf did not stop: SIGTERM" in recorder.out.getvalue()


def test_what_a_program_prints_is_prefixed_and_kept(tmp_path: Path) -> None:
    """Pins lost output: stderr, a last line without an end, and bytes that are no UTF-8."""
    code = r"import os; os.write(2, b'trouble\n'); os.write(1, b'tail \xff')"
    recorder = Recorder([program("node", code, required=False)], tmp_path)
    assert recorder.run() == UNFINISHED
    assert "node       | trouble\n" in recorder.out.getvalue()
    assert "node       | tail \ufffd\n" in recorder.out.getvalue()
    assert (tmp_path / "logs" / "node.log").read_bytes() == b"trouble\ntail \xff"


SCRIPT = """
import asyncio, sys
from pathlib import Path
from inril_bringup.programs import Program
from inril_bringup.run_dir import lock_run_dir
from inril_bringup.supervisor import Supervisor
command = (sys.executable, "-S", "-c", "import signal; signal.pause()")
programs = [Program(name, command) for name in ("one", "two")]
async def run():
    return await Supervisor(programs, Path(sys.argv[1])).run()
with lock_run_dir(Path(sys.argv[1])):
    sys.exit(asyncio.run(run()))
"""


def start_script(run_dir: Path) -> tuple[subprocess.Popen[bytes], list[int]]:
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(run_dir)], stdout=subprocess.DEVNULL)

    def pids() -> list[int]:
        if not (run_dir / "supervisor.json").exists():
            return []
        found = [node["pid"] for node in status(run_dir)["nodes"].values()]
        return found if all(found) else []

    return process, wait_for(pids, "both programs to start")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_supervisor_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    """Pins Ctrl-C that leaves processes behind, or that reports a plan as done."""
    process, pids = start_script(tmp_path)
    process.send_signal(number)
    assert process.wait(DEADLINE_S) == 128 + number
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_kill_9_of_the_supervisor_leaves_no_orphans(tmp_path: Path) -> None:
    """Pins nodes that keep driving the arm after their supervisor was killed."""
    process, pids = start_script(tmp_path)
    process.kill()
    process.wait(DEADLINE_S)
    wait_for(lambda: not any(_alive(pid) for pid in pids), "the children to die")
    lock_run_dir(tmp_path).close()  # and the lock it left behind does not block


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_second_launcher_on_the_same_run_folder_is_refused(tmp_path: Path) -> None:
    """Pins two graphs that write the same episodes."""
    with lock_run_dir(tmp_path), pytest.raises(RunDirInUse, match=f"process id {os.getpid()}"):
        lock_run_dir(tmp_path)
    lock_run_dir(tmp_path).close()


def test_texts_stay_texts_in_parameter_files(tmp_path: Path) -> None:
    """Pins a text such as 1e3 or `on` that ROS reads as something else, and a float that turns integer."""
    path = parameter_file("node", {"label": "1e3", "flag": True, "rate": 1.0, "names": ["on"]}, tmp_path)
    text = path.read_text()
    assert '"label": "1e3"' in text or 'label: "1e3"' in text
    assert "flag: true" in text and "rate: 1.0" in text and '- "on"' in text
