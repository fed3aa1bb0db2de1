"""The nodes of a deployment in one process, without recorder and store: what a page sees and moves is real, at a tenth
of what ten interpreters cost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rclpy
from inril_common.executor import NodeExecutor
from inril_common.node import NodeFinished
from inril_common.qos import LATCHED, TICK
from inril_control.arbiter_node import ArbiterNode
from inril_control.observation_node import ObservationNode
from inril_control.policy_node import PolicyNode
from inril_hardware.sim_cell import SimCell
from inril_msgs.msg import ArbiterStatus, ExecutedAction, RobotState, SessionStatus, Target
from inril_session.console_node import ConsoleNode
from inril_session.session_node import SessionNode
from inril_session.teleop_node import TeleopNode

from inril_core.run import RunPaths
from inril_core.session.ledger import EpisodeResult, read_ledger
from tests.domains import own_domain
from tests.sim.nodes import ros_arguments

MANAGED = (SimCell, ObservationNode, ArbiterNode, PolicyNode, TeleopNode)
FACTS = {
    **{"real_time_factor": 1.0, "expects_session": True, "expects_device": True, "expects_learner": False},
    **{"device": "browser", "device_settings": "{max_age_s: 5.0}", "drive_timeout_s": 5.0, "graph_id": "g"},
    **{"expects_recorder": False, "plan": "train:50:episodes"},
}


class OneProcess:
    """Nodes that a thread spins; the test reads what they say."""

    def __init__(self, folder: Path, **parameters: Any) -> None:
        self.paths = RunPaths(folder / "run")
        socket = folder / "arbiter.sock"
        self._parameters = {"run_dir": str(self.paths.root), "control_socket": str(socket), **FACTS, **parameters}
        self._heard: dict[str, Any] = {}
        self.sources: list[int] = []
        self.targets = 0
        self.faults = 0
        """Statuses of the arbiter that name a fault."""
        self._over = threading.Event()
        self.trouble = ""

    def __enter__(self) -> OneProcess:
        self._domain = own_domain()
        rclpy.init(domain_id=self._domain.__enter__(), args=ros_arguments(self._parameters))
        self._nodes: list[Any] = []
        self._executor = NodeExecutor()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(120.0) and not self.trouble, self.trouble
        return self

    def _run(self, ready: threading.Event) -> None:
        """Make and spin the nodes in one thread, to which the renderer of the camera then belongs."""
        try:
            self._make()
        except Exception as error:
            self.trouble = f"{type(error).__name__}: {error}"
            raise
        finally:
            ready.set()
        self._spin()

    def _make(self) -> None:
        for kind in MANAGED:
            node = kind()
            self._nodes.append(node)
            assert node.trigger_configure().name == "SUCCESS", kind.__name__
            assert node.trigger_activate().name == "SUCCESS", kind.__name__
        self._session, self._console = SessionNode(), ConsoleNode()
        self._nodes += [self._session, self._console]
        for node in (self._session, self._console):
            node.setup()
        self.port = self._console._console.port
        observer = rclpy.create_node("test_observer")
        self._nodes.append(observer)
        observer.create_subscription(ArbiterStatus, "arbiter_status", self._count_faults, LATCHED)
        for name, kind, qos in (
            ("arbiter", ArbiterStatus, LATCHED),
            ("session", SessionStatus, LATCHED),
            ("robot", RobotState, TICK),
        ):
            take = lambda message, name=name: self._heard.__setitem__(name, message)  # noqa: E731
            observer.create_subscription(kind, f"{name}_status" if name != "robot" else "robot_state", take, qos)
        observer.create_subscription(ExecutedAction, "executed_action", lambda a: self.sources.append(a.source), TICK)
        observer.create_subscription(Target, "target", self._count, TICK)
        for node in self._nodes:
            self._executor.add_node(node)

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(20.0)
        for node in reversed(self._nodes):
            if hasattr(node, "end"):
                node.end()
            node.destroy_node()
        rclpy.shutdown()
        self._domain.__exit__(None, None, None)

    def _spin(self) -> None:
        while not self._over.is_set():
            try:
                self._executor.spin_once(timeout_sec=0.1)
            except NodeFinished as finished:
                self.trouble = f"a node has finished with {finished.code}"
                return
            except Exception as error:
                self.trouble = f"{type(error).__name__}: {error}"
                raise

    def _count(self, _: Target) -> None:
        self.targets += 1

    def _count_faults(self, said: ArbiterStatus) -> None:
        self.faults += bool(said.faults)

    def status(self, name: str) -> Any:
        """Newest status of arbiter or session, or robot state; None before the first."""
        return self._heard.get(name)

    def until(self, condition: Callable[[], Any], what: str, timeout_s: float = 90.0) -> Any:
        """Wait until the condition holds; fails the test after the time-out."""
        deadline = time.monotonic() + timeout_s
        waiting = threading.Event()
        while time.monotonic() < deadline:
            value = condition()
            if value:
                return value
            assert not self.trouble, self.trouble
            waiting.wait(0.03)
        arbiter, session = self.status("arbiter"), self.status("session")
        raise AssertionError(
            f"no {what} within {timeout_s:.0f} s; session {getattr(session, 'state', None)} waits for "
            f"{getattr(session, 'waiting_for', None)!r}; faults {getattr(arbiter, 'details', None)}"
        )

    def results(self) -> list[EpisodeResult]:
        """The session's ledger."""
        return read_ledger(self.paths.session).values

    def silence_session(self) -> None:
        """As if the session's process were stopped."""
        self._executor.remove_node(self._session)
