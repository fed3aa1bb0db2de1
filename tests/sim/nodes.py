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

    def start(self) -> None:
        """Configure and activate a node with a lifecycle, set up one without."""
        if isinstance(self.node, InrilPlainNode):
            self.node.setup()
            return
        assert self.node.trigger_configure().name == "SUCCESS"
        assert self.node.trigger_activate().name == "SUCCESS"

    def close(self) -> None:
        """Destroy both nodes and end ROS in this process."""
        self.node.end()
        self.node.destroy_node()
        self.client.destroy_node()
        rclpy.shutdown()


@contextmanager
def bench(
    node_class: Callable[[], Any], made_as: Callable[[Any], Any] = Bench, namespace: str = "/", **parameters: Any
) -> Iterator[Any]:
    """Make a node work, and take everything down again."""
    with own_domain() as domain:
        rclpy.init(domain_id=domain, args=[*ros_arguments(parameters), "-r", f"__ns:={namespace}"])
        made = made_as(node_class())
        try:
            made.start()
            yield made
        finally:
            made.close()


def ros_arguments(parameters: dict[str, Any]) -> list[str]:
    """The parameters as a command line gives them."""
    arguments = ["--ros-args"]
    for name, value in parameters.items():
        text = Parameter(name, value=value).get_parameter_value()
        shown = {1: text.bool_value, 2: text.integer_value, 3: text.double_value, 4: repr(text.string_value)}[text.type]
        arguments += ["-p", f"{name}:={str(shown).lower() if text.type == 1 else shown}"]
    return arguments
