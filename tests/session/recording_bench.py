"""A recorder and a store as processes of their own, and a client that plays the rest of the graph."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import rclpy
from inril_common.qos import EVENT, LATCHED, TICK
from inril_msgs import msg as messages
from inril_msgs.msg import EpisodeReady, RecorderStatus
from inril_msgs.srv import ListEpisodes
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor

from inril_core.blobs import Blob, pull_blob
from inril_core.data.schemas import EPISODE_EVENT, TOPICS
from inril_core.run import RunPaths, default_key_path
from inril_core.weights import load_or_create_key
from tests.data.synthetic import CONTRACT, Synthetic
from tests.domains import own_domain, spawn
from tests.graph.lifecycle import bring_up

START_S = 150.0
ANSWER_S = 2.0
"""Before a question is put again."""


class RecordingBench:
    """`start` and `kill` nodes, `publish` as the graph would, and `until` something was heard."""

    def __init__(self, run_dir: Path, contract: str = CONTRACT.text) -> None:
        self.paths = RunPaths(run_dir)
        self._contract = contract
        self.statuses: list[RecorderStatus] = []
        self.ready: list[EpisodeReady] = []
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._clients: dict[str, Any] = {}
        self._dead: set[bytes] = set()

    def __enter__(self) -> RecordingBench:
        self._stack = ExitStack()
        self.domain = self._stack.enter_context(own_domain())
        self._context = Context()
        rclpy.init(context=self._context, domain_id=self.domain)
        self._stack.callback(rclpy.shutdown, context=self._context)
        self.node = rclpy.create_node("bench", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._publishers = {
            topic: self.node.create_publisher(
                getattr(messages, name.rsplit("/", 1)[1]), topic, EVENT if topic == EPISODE_EVENT else TICK
            )
            for topic, name in TOPICS.items()
        }
        self.node.create_subscription(RecorderStatus, "/recorder_status", self.statuses.append, EVENT)
        self.node.create_subscription(EpisodeReady, "/episode_ready", self.ready.append, LATCHED)
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._processes):
            self.kill(name)
        self.node.destroy_node()
        self._executor.shutdown()
        self._stack.close()

    def start(self, name: str, **parameters: Any) -> None:
        """Start `recorder_node` or `store_node`; a recorder is configured and activated too."""
        command = [
            sys.executable,
            "-m",
            f"inril_session.{name}",
            "--ros-args",
            "-p",
            f"run_dir:={self.paths.root}",
        ]
        if name == "recorder_node":
            contract = self.paths.root / "contract.yaml"
            contract.parent.mkdir(parents=True, exist_ok=True)
            contract.write_text(self._contract)
            parameters["contract"] = contract
        for key, value in parameters.items():
            command += ["-p", f"{key}:={value}"]
        self._processes[name] = spawn(command, self.domain)
        if name == "recorder_node":
            bring_up(name, self._ask_once, START_S)
            self.until(self._matched, "the recorder's subscriptions")

    def _matched(self) -> bool:
        """Every topic goes to a recorder that is alive; a killed one stays known for the length of its
        lease."""
        for topic, publisher in self._publishers.items():
            known = {bytes(info.endpoint_gid) for info in self.node.get_subscriptions_info_by_topic(topic)}
            if not known - self._dead or publisher.get_subscription_count() < len(known):
                return False
        return True

    def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        """End a process; its exit code."""
        for topic in self._publishers:
            infos = self.node.get_subscriptions_info_by_topic(topic)
            self._dead |= {bytes(info.endpoint_gid) for info in infos if info.node_name == name}
        process = self._processes.pop(name)
        process.send_signal(number)
        code = process.wait(timeout=30)
        self.statuses.clear()
        return code

    def pid(self, name: str) -> int:
        """Process id."""
        return self._processes[name].pid

    def publish(self, pairs: Iterator[tuple[str, Any]] | list[tuple[str, Any]]) -> None:
        """Publish at the recorder's pace: a tick is answered before the next, as in the graph."""
        for topic, message in pairs:
            self._publishers[topic].publish(message)
            step = getattr(message, "step", 0)
            if topic == "/observation" and step:
                self.until(partial(self._reached, message.episode_id, step - 1), f"step {step} on disk")

    def publish_raw(self, topic: str, data: bytes) -> None:
        """Publish bytes as if they were a serialised message."""
        self._publishers[topic].publish(data)

    def _reached(self, episode_id: str, step: int) -> bool:
        return self.on_disk(episode_id) >= step

    def on_disk(self, episode_id: str) -> int:
        """last_step_on_disk of an episode, as last reported."""
        status = self.statuses[-1] if self.statuses else None
        return status.last_step_on_disk if status is not None and status.episode_id == episode_id else -1

    def until(self, condition: Callable[[], Any], what: str, timeout_s: float = START_S) -> Any:
        """Spin until the condition holds."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            value = condition()
            if value:
                return value
            self._executor.spin_once(timeout_sec=0.02)
            dead = {name: p.returncode for name, p in self._processes.items() if p.poll() is not None}
            assert not dead, f"{dead} ended while waiting for {what}"
        raise TimeoutError(f"no {what}; newest status: {self.statuses[-1:]}")

    def call(self, kind: Any, name: str, request: Any) -> Any:
        """The answer of a service that may be asked again: the first request may go to a server that was
        killed."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            answer = self._ask_once(kind, name, request)
            if answer is not None:
                return answer
        raise TimeoutError(f"no answer of {name}")

    def _ask_once(self, kind: Any, name: str, request: Any) -> Any:
        if name not in self._clients:
            self._clients[name] = self.node.create_client(kind, name)
        client = self._clients[name]
        self.until(client.service_is_ready, name)
        future = client.call_async(request)
        with suppress(TimeoutError):
            self.until(future.done, f"an answer of {name}", ANSWER_S)
            return future.result()
        client.remove_pending_request(future)
        return None

    def announced(self, episode_id: str) -> EpisodeReady:
        """Wait for an episode's announcement."""
        return self.until(
            lambda: next((e for e in reversed(self.ready) if e.episode_id == episode_id), None),
            f"{episode_id} ready",
        )

    def listed(self) -> list[EpisodeReady]:
        """What the store lists."""
        return list(self.call(ListEpisodes, "/store/list_episodes", ListEpisodes.Request(limit=100)).episodes)

    def pull(self, ready: EpisodeReady, path: Path) -> Path:
        """Pull an announced episode from where the store serves it."""
        listed = self.call(ListEpisodes, "/store/list_episodes", ListEpisodes.Request(limit=0))
        blob = Blob(bytes(ready.sha256), ready.size_bytes, hashlib.sha256)
        pull_blob(blob, listed.address, load_or_create_key(default_key_path()), path)
        return path

    def record(self, made: Synthetic) -> None:
        """Publish a whole episode."""
        self.publish(made.messages())
