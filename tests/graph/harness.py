"""A graph of real nodes in a DDS domain of its own, and a test's eyes and hands in it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Any

import rclpy
import yaml
from inril_common.calls import Calls
from inril_common.executor import NodeExecutor
from inril_common.qos import EVENT, LATCHED, TICK
from inril_msgs.msg import (
    ArbiterStatus,
    EpisodeEvent,
    LearnerStatus,
    PolicyStatus,
    RecorderStatus,
    RobotState,
    SessionStatus,
    Target,
)
from inril_msgs.srv import Arm
from rclpy.context import Context

from inril_core.data import read_episode
from inril_core.data.episode import Episode
from inril_core.data.store import EpisodeStore
from inril_core.run import RunPaths
from inril_core.session.ledger import EpisodeResult, read_ledger
from tests.domains import own_domain, spawn

START_S = 90.0
"""Ten interpreters on two busy cores; nothing is asserted about it."""
STALE_S = 5.0
PATIENT_S = 60.0
STALENESS = {
    **dict.fromkeys(("robot_state_s", "part_poses_s", "policy_action_s", "teleop_s", "target_s"), STALE_S),
    "monitor_s": STALE_S,
    "recorder_s": 30.0,
    "session_s": 30.0,
}
PARAMETERS = {
    "arbiter_node": {"lockstep_deadline_s": PATIENT_S, "lockstep_observation_timeout_s": PATIENT_S},
    "sim_cell": {"lockstep_timeout_s": PATIENT_S},
    "console_node": {"drive_timeout_s": STALE_S},
}


def patient_contract(folder: Path) -> Path:
    """The shipped insert_leg, with the same interface, and limits that a machine keeps that stalls for seconds."""
    shipped = yaml.safe_load((resources.files("inril_core.contract") / "tasks" / "insert_leg.yaml").read_text())
    shipped["staleness"] |= STALENESS
    path = folder / "patient.yaml"
    path.write_text(yaml.safe_dump(shipped))
    return path


def patient_graph(graph: str, folder: Path, respawn_s: Mapping[str, float]) -> Path:
    """A graph that waits longer for its nodes; those in ``respawn_s`` are started again only after so long.

    graph: name of a shipped one, or a path.
    """
    graphs = resources.files("inril_bringup") / "graphs"
    file = yaml.safe_load((Path(graph) if graph.endswith(".yaml") else graphs / f"{graph}.yaml").read_text())
    for name in PARAMETERS.keys() & set(file["nodes"]):
        file.setdefault("parameters", {}).setdefault(name, {}).update(PARAMETERS[name])
    nodes = yaml.safe_load((graphs / "nodes.yaml").read_text())["nodes"]
    file["define"] = {
        "nodes": {name: {**nodes[name], "respawn": {"initial_s": wait_s}} for name, wait_s in respawn_s.items()}
    }
    path = folder / f"{Path(graph).stem}.yaml"
    path.write_text(yaml.safe_dump(file))
    return path


class GraphRun:
    """`inril up` as a child process, and a node that hears its statuses and can call its services.

    Its time-outs are those of a slow machine, so that no fault comes but from what a test does.
    """

    def __init__(
        self,
        graph: str,
        run_dir: Path,
        respawn_s: Mapping[str, float] | None = None,
        domain: int | None = None,
        **arguments: object,
    ) -> None:
        """Nothing is started yet; without a domain it takes one of its own."""
        self.domain = domain
        self._namespace = str(arguments.get("namespace", ""))
        self.paths = RunPaths(run_dir)
        self._folder = Path(tempfile.mkdtemp(prefix="inril-graph-"))
        self._graph = patient_graph(graph, self._folder, respawn_s or {})
        self._arguments = {"run_dir": run_dir, "contract": patient_contract(self._folder), **arguments}
        self._statuses: dict[str, Any] = {}
        self.events: list[EpisodeEvent] = []
        self.targets = 0
        """Targets heard so far."""
        self._log = self._folder / "log"

    def __enter__(self) -> GraphRun:
        self._own_domain = own_domain() if self.domain is None else nullcontext(self.domain)
        self.domain = domain = self._own_domain.__enter__()
        self._environment = {**os.environ, "ROS_DOMAIN_ID": str(domain)}
        command = [sys.executable, "-m", "inril_bringup.cli", "up", str(self._graph)]
        command += [f"{key}:={_text(value)}" for key, value in self._arguments.items()]
        self._process = spawn(command, domain, stdout=self._log.open("w"), stderr=subprocess.STDOUT)
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain)
        self.node = rclpy.create_node("test_observer", context=self._context, namespace=f"/{self._namespace}")
        self.calls = Calls(self.node)
        self._executor = NodeExecutor(context=self._context)
        self._executor.add_node(self.node)
        for name, kind, qos in (
            ("arbiter", ArbiterStatus, LATCHED),
            ("policy", PolicyStatus, LATCHED),
            ("learner", LearnerStatus, LATCHED),
            ("session", SessionStatus, LATCHED),
            ("recorder", RecorderStatus, EVENT),
        ):
            self.node.create_subscription(kind, f"{name}_status", self._keep(name), qos)
        self.node.create_subscription(RobotState, "robot_state", self._keep("robot"), TICK)
        self.node.create_subscription(Target, "target", self._count_target, TICK)
        self.node.create_subscription(EpisodeEvent, "episode_event", self.events.append, EVENT)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self.node.destroy_node()
        self._executor.shutdown()
        rclpy.shutdown(context=self._context)
        self._own_domain.__exit__(None, None, None)
        if kind is None:
            shutil.rmtree(self._folder)
        else:
            print(f"--- log of the graph ({self._log}) ---")
            print(self._log.read_text(errors="replace")[-8000:])

    def _keep(self, name: str) -> Callable[[Any], None]:
        def keep(message: Any) -> None:
            self._statuses[name] = message

        return keep

    def _count_target(self, _: Target) -> None:
        self.targets += 1

    def status(self, name: str) -> Any:
        """Newest status of arbiter, policy, learner, session or recorder, or robot state; None before the first."""
        return self._statuses.get(name)

    def until(self, condition: Callable[[], Any], what: str, timeout_s: float = 60.0) -> Any:
        """Spin until the condition holds; fails the test with the graph's state after the time-out."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self._executor.spin_once(timeout_sec=0.05)
            self.calls.poll(time.monotonic_ns())
            value = condition()
            if value:
                return value
            if self._process.poll() is not None:
                raise AssertionError(f"the graph ended with {self._process.returncode} while waiting for {what}")
        session, arbiter = self.status("session"), self.status("arbiter")
        print(f"--- log of the graph ---\n{self._log.read_text(errors='replace')[-8000:]}")
        raise AssertionError(
            f"no {what} within {timeout_s:.0f} s; session waits for "
            f"{getattr(session, 'waiting_for', None)!r}; faults {getattr(arbiter, 'faults', None)}"
        )

    def graph_id(self) -> str:
        """Of this launch, as its supervisor says."""

        def read() -> str:
            try:
                return str(json.loads((self.paths.root / "supervisor.json").read_text())["graph_id"])
            except (OSError, ValueError, KeyError):
                return ""

        return str(self.until(read, "the graph's id"))

    def inril(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command in another terminal of the same person."""
        return self.python("-m", "inril_bringup.cli", *words)

    def python(self, *words: str) -> subprocess.CompletedProcess[str]:
        """This interpreter in the graph's domain."""
        command = [sys.executable, *words]
        return subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=120)

    def finished(self, timeout_s: float) -> int:
        """Wait for the graph to end by itself and return its exit code."""
        return self._process.wait(timeout=timeout_s)

    def stop(self) -> int:
        """Ctrl-C; the exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(timeout=40)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(timeout=10)
        return self._process.returncode

    def pid(self, name: str) -> int | None:
        """Process id of a node, None while it is not running."""
        try:
            content = json.loads((self.paths.root / "supervisor.json").read_text())
            return content["nodes"][name]["pid"]
        except (OSError, ValueError, KeyError):
            return None

    def kill(self, name: str) -> int:
        """kill -9 of a node, without warning; its process id."""
        pid = self.until(lambda: self.pid(name), f"process of {name}")
        os.kill(pid, signal.SIGKILL)
        return pid

    def restarted(self, name: str, old_pid: int, timeout_s: float = 60.0) -> int:
        """Wait until the supervisor has started it again."""
        return self.until(lambda: (p := self.pid(name)) and p != old_pid and p, f"restart of {name}", timeout_s)

    def arm(self) -> None:
        """A person arms the arm and the arbiter: asks until both agree or the time is over."""
        for service in ("robot/arm", "arbiter/arm"):
            self._ask(service, arm=True)

    def disarm(self) -> None:
        """A person disarms the arbiter."""
        self._ask("arbiter/arm", arm=False)
        self.until(lambda: not self.status("arbiter").armed, "the disarming")

    def _ask(self, service: str, arm: bool) -> None:
        request = Arm.Request(graph_id=self.graph_id(), arm=arm, operator_name="test")
        answers: list[tuple[bool, str]] = [(False, "not asked")]
        asked = 0

        def agreed() -> bool:
            nonlocal asked
            if not answers[-1][0] and len(answers) > asked:
                asked = len(answers)
                self.calls.call(
                    *(Arm, service, request, time.monotonic_ns(), 2.0),
                    lambda reply: answers.append((reply.success, reply.message)),
                    lambda reason: answers.append((False, reason)),
                )
            return answers[-1][0]

        try:
            self.until(agreed, service, START_S)
        except AssertionError as error:
            raise AssertionError(f"{error}; last answer: {answers[-1][1]}") from error

    def results(self) -> list[EpisodeResult]:
        """The session's ledger."""
        return read_ledger(self.paths.session).values

    def episode(self, episode_id: str) -> Episode:
        """An episode, once it is in the store."""

        def stored() -> EpisodeStore | None:
            store = EpisodeStore(self.paths.episodes)
            return store if any(entry.episode_id == episode_id for entry in store.entries()) else None

        return read_episode(self.until(stored, f"{episode_id} in the store").path(episode_id))

    def episodes(self) -> list[Episode]:
        """Every episode in the store, read."""
        store = EpisodeStore(self.paths.episodes)
        return [read_episode(store.path(entry.episode_id)) for entry in store.entries()]


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
