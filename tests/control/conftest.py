"""Real nodes in processes of their own, in a DDS domain of their own, and a test's eyes and hands."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rclpy
from inril_common.calls import Calls
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor

from tests.domains import own_domain, spawn
from tests.graph.lifecycle import bring_up

PATIENCE_S = 60.0
"""For a busy machine; nothing is asserted about it."""


class Bench:
    """A test's node. `start` runs a node of inril as a process and activates it."""

    def __init__(self, domain: int, folder: Path) -> None:
        self._domain = domain
        self._folder = folder
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain)
        self.node = rclpy.create_node("bench", context=self._context)
        self.calls = Calls(self.node)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, module: str, **parameters: object) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", module, "--ros-args"]
        for name, value in parameters.items():
            command += ["-p", f"{name}:={str(value).lower() if isinstance(value, bool) else value}"]
        name = module.rsplit(".", 1)[-1]
        environment = {"INRIL_KEY": str(self._folder / "weights.key"), "OMP_NUM_THREADS": "1"}
        process = spawn(command, self._domain, environment, cwd=self._folder)
        self._processes.append(process)
        bring_up(name, self.try_to_ask, PATIENCE_S)
        return process

    def until(self, condition: Callable[[], Any], what: str, timeout_s: float = PATIENCE_S) -> Any:
        """Spin until the condition holds."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            value = condition()
            if value:
                return value
            self._executor.spin_once(timeout_sec=0.02)
            self.calls.poll(time.monotonic_ns())
            dead = [process for process in self._processes if process.poll() not in (None, 0, -signal.SIGKILL)]
            assert not dead, f"{dead[0].args} ended while waiting for {what}"
        raise AssertionError(f"no {what} within {timeout_s:.0f} s")

    def ask(self, kind: Any, service: str, request: Any) -> Any:
        """Call a service as soon as it is served."""
        reply = self.try_to_ask(kind, service, request, PATIENCE_S)
        assert reply is not None, f"{service} did not answer"
        return reply

    def try_to_ask(self, kind: Any, service: str, request: Any, timeout_s: float = 5.0) -> Any:
        """Call a service; None if no reply comes: a node that was killed seems to serve for a while."""
        client = self.node.create_client(kind, service)
        self.until(client.service_is_ready, f"service {service}")
        future = client.call_async(request)
        deadline = time.monotonic() + timeout_s
        self.until(lambda: future.done() or time.monotonic() > deadline, f"reply of {service}")
        self.node.destroy_client(client)
        return future.result() if future.done() else None

    def hear(self, kind: Any, topic: str, qos: Any) -> list[Any]:
        """The list into which the topic's messages will come."""
        messages: list[Any] = []
        self.node.create_subscription(kind, topic, messages.append, qos)
        return messages

    def speak(self, kind: Any, topic: str, qos: Any, listeners: int = 1) -> Callable[[Any], None]:
        """A publisher that somebody listens to."""
        publisher = self.node.create_publisher(kind, topic, qos)
        self.until(lambda: publisher.get_subscription_count() >= listeners, f"listener of {topic}")
        return publisher.publish

    def end(self, process: subprocess.Popen[bytes], how: signal.Signals = signal.SIGTERM) -> int:
        """Signal a process and return its exit code."""
        process.send_signal(how)
        return process.wait(timeout=PATIENCE_S)

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
                process.wait(timeout=PATIENCE_S)
        self.node.destroy_node()
        self._executor.shutdown()
        rclpy.shutdown(context=self._context)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with own_domain() as domain:
        made = Bench(domain, tmp_path)
        try:
            yield made
        finally:
            made.close()
