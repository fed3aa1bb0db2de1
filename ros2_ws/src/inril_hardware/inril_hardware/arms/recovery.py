"""Clearing the errors of an arm's controller, when a person has armed."""

from __future__ import annotations

from typing import Any

from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from inril_core.hardware.arms.base import ArmLost
from inril_hardware.arms.controllers import Config
from inril_hardware.arms.typed import message_type

TIMEOUT_S = 1.0
"""Of each of up to three answers: whoever asked to arm waits for 5 s in all."""


class Recovery:
    """A service or an action, called with an empty request.

    Raises:
        ConfigError: its type is not there.
    """

    def __init__(self, node: Node, config: Config) -> None:
        self._node, self._name = node, config.recovery
        self._kind = message_type(config.recovery_type, "recovery_type")
        self._is_action = "/action/" in config.recovery_type
        self._client: Any = (
            ActionClient(node, self._kind, self._name)
            if self._is_action
            else node.create_client(self._kind, self._name)
        )

    def call(self) -> None:
        """Call it, and wait until it has ended.

        Raises:
            ArmLost: nobody serves it, it does not answer, or it says no.
        """
        waits = self._client.wait_for_server if self._is_action else self._client.wait_for_service
        if not waits(timeout_sec=TIMEOUT_S):
            raise ArmLost(f"nobody serves {self._name}, which clears the arm's errors")
        if not self._is_action:
            answer = self._finish(self._client.call_async(self._kind.Request()))
            if getattr(answer, "success", True) is False:
                raise ArmLost(f"{self._name}: {getattr(answer, 'message', '') or 'refused'}")
            return
        handle = self._finish(self._client.send_goal_async(self._kind.Goal()))
        if not handle.accepted:
            raise ArmLost(f"{self._name} was refused; look at the arm's own page (Desk)")
        self._finish(handle.get_result_async())

    def _finish(self, future: Any) -> Any:
        executor = SingleThreadedExecutor()
        executor.add_node(self._node)
        try:
            executor.spin_until_future_complete(future, TIMEOUT_S)
        finally:
            executor.remove_node(self._node)
            executor.shutdown()
        if not future.done():
            raise ArmLost(f"{self._name} does not answer within {TIMEOUT_S:g} s; look at the arm's own page (Desk)")
        return future.result()
