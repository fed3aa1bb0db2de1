"""Listens to DDS in a process of its own: `python -m inril_bringup.probe TOKEN NAMESPACE`. Prints one JSON object.

Two of these with the same token must hear each other; then what they do not hear is not there. A process of its own,
because loading a middleware can end the process that tries it, or never come back: then it ends by itself, and says
where it was.
"""

from __future__ import annotations

import faulthandler
import json
import os
import secrets
import sys
import time
from typing import Any

import rclpy
from builtin_interfaces.msg import Time
from rcl_interfaces.srv import GetParameters
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

PREFIX = "inril_probe"
EXCHANGE_TIMEOUT_S = 10.0
LISTEN_S = 1.0
"""After the other probe was heard: who announces itself at the same rate is heard by then."""
ASK_TIMEOUT_S = 3.0
ACKNOWLEDGE_S = 5.0
LONGEST_S = 50.0
"""Until it ends by itself, before it has said anything."""
LEAVE_S = 10.0
"""Until it ends by itself afterwards."""
_HELLO, _HEARD = 0, 1
_QOS = QoSProfile(
    depth=10, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)  # of two probes, with two messages each


def main(words: list[str]) -> None:
    """Exchange a message with the other probe, then list who else is there."""
    token, namespace = words
    faulthandler.dump_traceback_later(LONGEST_S, exit=True)
    rclpy.init(args=["--ros-args", "--disable-external-lib-logs"])
    node = rclpy.create_node(
        f"{PREFIX}_{token}", namespace=namespace, enable_rosout=False, start_parameter_services=False
    )
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    me = secrets.randbits(29)
    said: dict[int, int] = {}  # probe to HELLO or HEARD
    topic = f"/{PREFIX}_{token}"
    node.create_subscription(Time, topic, lambda m: said.update({m.nanosec: m.sec}), _QOS)
    publisher = node.create_publisher(Time, topic, _QOS)

    def say(sec: int) -> None:
        publisher.publish(Time(sec=sec, nanosec=me))

    def wait(condition: Any, timeout_s: float) -> bool:
        deadline_s = time.monotonic() + timeout_s
        while not condition() and time.monotonic() < deadline_s:
            executor.spin_once(timeout_sec=0.05)
        return bool(condition())

    say(_HELLO)
    exchanged = wait(lambda: said.keys() - {me}, EXCHANGE_TIMEOUT_S)
    if exchanged:
        say(_HEARD)
        exchanged = wait(lambda: any(said[other] == _HEARD for other in said.keys() - {me}), EXCHANGE_TIMEOUT_S)
    if exchanged:
        wait(lambda: False, LISTEN_S)
    others = sorted(_full_names(node))
    print(
        json.dumps(
            {
                "rmw": rclpy.get_rmw_implementation_identifier(),
                "exchanged": exchanged,
                "others": others,
                "graph_ids": _graph_ids(node, others, namespace, wait),
            }
        ),
        flush=True,
    )
    faulthandler.dump_traceback_later(LEAVE_S, exit=True)
    publisher.wait_for_all_acked(Duration(seconds=ACKNOWLEDGE_S))  # the other one may be slower
    node.destroy_node()
    rclpy.try_shutdown()
    os._exit(0)  # threads of DDS can outlive a shutdown


def _full_names(node: Node) -> list[str]:
    names = [f"{space.rstrip('/')}/{name}" for name, space in node.get_node_names_and_namespaces()]
    return [name for name in names if not name.rpartition("/")[2].startswith((PREFIX, "inril_operator", "_"))]


def _graph_ids(node: Node, others: list[str], namespace: str, wait: Any) -> list[str]:
    """Whose nodes of this namespace are, as far as they say it."""
    inside = [name for name in others if name.rpartition("/")[0] == namespace.rstrip("/")]
    clients = [node.create_client(GetParameters, f"{name}/get_parameters") for name in inside]
    wait(lambda: all(client.service_is_ready() for client in clients), ASK_TIMEOUT_S if clients else 0.0)
    asked = [
        client.call_async(GetParameters.Request(names=["graph_id"])) for client in clients if client.service_is_ready()
    ]
    wait(lambda: all(future.done() for future in asked), ASK_TIMEOUT_S if asked else 0.0)
    values = [value.string_value for future in asked if future.done() for value in future.result().values]
    return sorted({value for value in values if value})


if __name__ == "__main__":
    main(sys.argv[1:])
