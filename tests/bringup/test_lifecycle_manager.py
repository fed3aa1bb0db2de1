"""The lifecycle_manager with real lifecycle nodes over DDS: start in order, respawn, stop in reverse."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from inril_bringup.programs import parameter_file
from inril_common.process import EXIT_CONFIG

from tests.domains import own_domain, spawn

DEADLINE_S = 60.0

NODE = """
import sys
from inril_common.node import InrilNode
from inril_common.process import run_node
from inril_core.errors import InrilError
class Watched(InrilNode):
    tries = 0
    def __init__(self): super().__init__("watched")
    def setup(self):
        Watched.tries += 1
        if "stubborn" in sys.argv and Watched.tries == 1:
            raise InrilError("not yet")
        self.say("configured")
    def start(self): self.say("activated")
    def teardown(self): self.say("torn down")
    def say(self, text): print(self.get_name(), text, flush=True)
run_node(Watched)
"""


class Graph:
    """Processes that write to one log."""

    def __init__(self, folder: Path, domain: int) -> None:
        self.log = folder / "log"
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.domain = domain
        self.environment = {"PYTHONUNBUFFERED": "1", "ROS_LOG_DIR": str(folder / "ros")}

    def start(self, name: str, *command: str) -> None:
        ros = ["--ros-args", "-r", f"__node:={name}"]
        if name == "lifecycle_manager":
            ros += ["--params-file", str(self.folder / "lifecycle_manager.yaml")]
        with self.log.open("ab") as log:
            self.processes[name] = spawn(
                [sys.executable, *command, *ros], self.domain, self.environment, stdout=log, stderr=log
            )

    def text(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def wait_for(self, line: str, times: int = 1) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while self.text().count(line) < times:
            assert time.monotonic() < deadline, f"waited {DEADLINE_S} s in vain for {line!r} in:\n{self.text()}"
            time.sleep(0.02)

    def close(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait(10)


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[Graph]:
    with own_domain() as domain:
        made = Graph(tmp_path, domain)
        yield made
        made.close()


def test_start_respawn_and_stop(graph: Graph, tmp_path: Path) -> None:
    """Pins the order of start and stop, the second try after a refusal, and a node lost after kill -9."""
    parameter_file("lifecycle_manager", {"managed_nodes": ["first", "second"], "stop_timeout_s": 60.0}, tmp_path)
    graph.start("lifecycle_manager", "-m", "inril_bringup.lifecycle_manager")
    graph.start("second", "-c", NODE)
    graph.start("first", "-c", NODE, "stubborn")
    graph.wait_for("all 2 nodes are active")
    told = [line for line in graph.text().splitlines() if line.startswith(("first ", "second ")) and "torn" not in line]
    assert told == ["first configured", "second configured", "first activated", "second activated"]
    assert "first cannot configure" in graph.text()

    graph.processes["first"].send_signal(signal.SIGKILL)
    graph.processes["first"].wait(10)
    graph.start("first", "-c", NODE)
    graph.wait_for("first activated", times=2)
    assert graph.text().count("second activated") == 1

    graph.processes["lifecycle_manager"].send_signal(signal.SIGINT)
    assert graph.processes["lifecycle_manager"].wait(DEADLINE_S) == 0
    graph.wait_for("first is shut down")
    assert graph.text().index("second torn down") < graph.text().rindex("first torn down")


def test_without_nodes_to_manage_it_says_so(graph: Graph, tmp_path: Path) -> None:
    """Pins a manager that idles because its list got lost."""
    parameter_file("lifecycle_manager", {"managed_nodes": ["twice", "twice"]}, tmp_path)
    graph.start("lifecycle_manager", "-m", "inril_bringup.lifecycle_manager")
    assert graph.processes["lifecycle_manager"].wait(DEADLINE_S) == EXIT_CONFIG
    assert "managed_nodes" in graph.text() and "each once" in graph.text()
