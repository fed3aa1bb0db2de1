"""Grippers of ros2_control controllers: a width is a wish, and the newest one wins."""

from __future__ import annotations

import threading
from typing import Any

from inril_common.qos import NEWEST
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from std_msgs.msg import Float64MultiArray

from inril_core.hardware.newest import NewestWins
from inril_hardware.arms.controllers import Config
from inril_hardware.arms.typed import message_type

ACTION = "control_msgs/action/GripperCommand"
GOAL_S = 10.0


def make_gripper(node: Node, config: Config) -> TopicGripper | ActionGripper | None:
    """The gripper that the settings ask for.

    Raises:
        ConfigError: the type of its action is not there.
    """
    if config.gripper == "none":
        return None
    return (TopicGripper if config.gripper == "topic" else ActionGripper)(node, config)


def _position(config: Config, width_m: float) -> float:
    return config.gripper_closed_at + (config.gripper_open_at - config.gripper_closed_at) * (
        min(max(width_m / config.gripper_max_width_m, 0.0), 1.0)
    )


class TopicGripper:
    """A position controller of one number."""

    failure = ""
    """A topic refuses nothing."""

    def __init__(self, node: Node, config: Config) -> None:
        self._config = config
        self._publisher = node.create_publisher(Float64MultiArray, config.gripper_command_topic, NEWEST)

    def command(self, width_m: float) -> None:
        """Go to a width; said each period, since the newest number counts."""
        self._publisher.publish(Float64MultiArray(data=[_position(self._config, width_m)]))

    def forget(self) -> None:
        """Nothing to do: each width is said anew."""

    def close(self) -> None:
        """Nothing to end: the node does it."""


class ActionGripper:
    """The action GripperCommand, which takes seconds: its goals are sent from a thread; a newer width cancels one."""

    def __init__(self, node: Node, config: Config) -> None:
        self._config, self._kind = config, message_type(ACTION, "gripper")
        self._node = Node(f"{node.get_name()}_gripper", namespace=config.namespace, use_global_arguments=False)
        self._client: Any = ActionClient(self._node, self._kind, config.gripper_command_topic)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._worker = NewestWins(self._go)

    @property
    def failure(self) -> str:
        """Why the newest width could not be asked for; empty: it could."""
        return self._worker.failure

    def command(self, width_m: float) -> None:
        """Go to a width, or grasp what is in the way; returns at once."""
        self._worker.ask(round(width_m, 4))

    def forget(self) -> None:
        """The next width is sent even if it is the last one again."""
        self._worker.forget()

    def close(self) -> None:
        """End the thread."""
        self._worker.close()
        self._executor.shutdown()
        self._node.destroy_node()

    def _go(self, width_m: float, superseded: threading.Event) -> None:
        if not self._client.wait_for_server(timeout_sec=1.0):
            raise RuntimeError(f"nobody serves {self._config.gripper_command_topic}")
        goal = self._kind.Goal()
        goal.command.position = _position(self._config, width_m)
        goal.command.max_effort = self._config.gripper_force_n
        sent = self._client.send_goal_async(goal)
        self._executor.spin_until_future_complete(sent, GOAL_S)
        handle = sent.result() if sent.done() else None
        if handle is None or not handle.accepted:
            raise RuntimeError(f"{self._config.gripper_command_topic} refused {width_m} m")
        result = handle.get_result_async()
        for _ in range(round(GOAL_S / 0.05)):
            self._executor.spin_until_future_complete(result, 0.05)
            if result.done():
                return
            if superseded.is_set():
                self._executor.spin_until_future_complete(handle.cancel_goal_async(), 1.0)
                return
