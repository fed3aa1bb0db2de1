"""Nodes in this process, in a DDS domain of their own, and a client that waits with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import rclpy
from inril_common.node import InrilNode, InrilPlainNode
from inril_common.qos import RECORD
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter

from tests.domains import own_domain


class Bench:
    """A node under test, active, and a client with what it heard."""

    def __init__(self, node: InrilNode | InrilPlainNode) -> None:
        self.node = node
        self.client = Node("bench")
        self.heard: dict[str, list[Any]] = {}
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.client)
        self._executor.add_node(node)

    def hear(self, message_type: Any, topic: str) -> list[Any]:
        """All messages of a topic from now on."""
        messages: list[Any] = []
        self.client.create_subscription(message_type, topic, messages.append, RECORD)
        return messages

    def until(self, condition: Callable[[], Any], what: str, timeout_s: float = 60.0) -> Any:
        """Spin until the condition holds, at most `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            value = condition()
            if value:
                return value
            self._executor.spin_once(timeout_sec=0.02)
        raise AssertionError(f"no {what} within {timeout_s} s")

    def call(self, service_type: Any, name: str, request: Any) -> Any:
        """A service's answer."""
        client = self.client.create_client(service_type, name)
        self.until(client.service_is_ready, name)
        future = client.call_async(request)
        self.until(future.done, f"answer of {name}")
        return future.result()


@contextmanager
def bench(node_class: type[InrilNode], **parameters: Any) -> Iterator[Bench]:
    """Configure and activate a node, and take everything down again."""
    with own_domain() as domain:
        rclpy.init(domain_id=domain, args=ros_arguments(parameters))
        yield from _active(node_class)


def _active(node_class: type[InrilNode]) -> Iterator[Bench]:
    node = node_class()  # type: ignore[call-arg]
    try:
        bench = Bench(node)
        assert node.trigger_configure().name == "SUCCESS"
        assert node.trigger_activate().name == "SUCCESS"
        yield bench
    finally:
        node.end()
        node.destroy_node()
        rclpy.shutdown()


def ros_arguments(parameters: dict[str, Any]) -> list[str]:
    """The parameters as a command line gives them."""
    arguments = ["--ros-args"]
    for name, value in parameters.items():
        text = Parameter(name, value=value).get_parameter_value()
        shown = {1: text.bool_value, 2: text.integer_value, 3: text.double_value, 4: repr(text.string_value)}[text.type]
        arguments += ["-p", f"{name}:={str(shown).lower() if text.type == 1 else shown}"]
    return arguments
