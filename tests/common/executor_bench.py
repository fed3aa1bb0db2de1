"""One executor, its nodes and what their callbacks were called with, in a context of the test's own."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.executors import Executor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

PATIENCE_S = 60.0
"""For a busy machine; nothing is asserted about it."""

DEEP = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1000,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.VOLATILE,
)
"""No message is lost, however long a test does not spin."""


class ExecutorBench:
    """A context in a DDS domain of its own, with one executor."""

    def __init__(self, executor_class: Callable[..., Executor], domain: int) -> None:
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.executor = executor_class(context=self.context)
        self.log: list[Any] = []
        """What callbacks note."""
        self._nodes: list[Node] = []

    def node(self, name: str, node_class: type[Node] = Node, **arguments: Any) -> Any:
        """A node that the executor serves."""
        node = node_class(name, context=self.context, **arguments)
        self._nodes.append(node)
        self.executor.add_node(node)
        return node

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Spin until the condition holds."""
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            value = condition()
            if value:
                return value
            self.executor.spin_once(timeout_sec=0.01)
        raise AssertionError(f"no {what} within {PATIENCE_S:.0f} s; noted so far: {self.log}")

    def noted(self, *items: Any) -> None:
        """Spin until exactly these have been noted, in this order."""
        self.until(lambda: len(self.log) >= len(items), f"{len(items)} notes")
        assert self.log == list(items)

    def connected(self, publisher: Any, subscriptions: int = 1) -> Any:
        """The publisher, once it knows that many subscriptions."""
        self.until(lambda: publisher.get_subscription_count() >= subscriptions, f"listener of {publisher.topic_name}")
        return publisher

    def close(self) -> None:
        """End everything."""
        for node in self._nodes:
            node.destroy_node()
        self.executor.shutdown()
        self.context.try_shutdown()
