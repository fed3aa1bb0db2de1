"""Whether a lifecycle node belongs to the manager's graph: its state and transitions are asked by name alone."""

from __future__ import annotations

from collections.abc import Callable

from rcl_interfaces.srv import GetParameters
from rclpy.node import Node
from rclpy.task import Future

SILENCE_NS = 5_000_000_000
"""A node that serves no parameters for so long is taken for a vendor's, which has no graph_id."""


class Ownership:
    """Asks each node once for its parameter graph_id. Nodes that have none belong to whoever is there."""

    def __init__(self, node: Node, names: list[str], graph_id: str, changed: Callable[[str], None]) -> None:
        """Make the clients.

        Args:
            graph_id: of the manager; empty: every node is its own.
            changed: called with a node's name once it is known whose it is.
        """
        self._graph_id, self._changed = graph_id, changed
        self._clients = {name: node.create_client(GetParameters, f"{name}/get_parameters") for name in names}
        self._asked: dict[str, Future] = {}
        self._since_ns: dict[str, int] = {}
        self.foreign: dict[str, str] = {}
        """Node name to the graph that it says it belongs to."""
        self._own: set[str] = set()

    def forget(self, name: str) -> None:
        """Another process may have the name now."""
        self._own.discard(name)
        self.foreign.pop(name, None)
        self._since_ns.pop(name, None)
        future = self._asked.pop(name, None)
        if future is not None:
            self._clients[name].remove_pending_request(future)

    def is_own(self, name: str, now_ns: int) -> bool:
        """Whether the node may be managed; asks it where that is not known yet."""
        if not self._graph_id or name in self._own:
            return True
        since_ns = self._since_ns.setdefault(name, now_ns)
        client = self._clients[name]
        if name not in self._asked and client.service_is_ready():
            self._asked[name] = client.call_async(GetParameters.Request(names=["graph_id"]))
            self._asked[name].add_done_callback(lambda future: self._answered(name, future))
        elif now_ns - since_ns > SILENCE_NS and name not in self.foreign:
            self._own.add(name)
        return name in self._own

    def _answered(self, name: str, future: Future) -> None:
        if self._asked.get(name) is not future:
            return
        del self._asked[name]
        said = next((value.string_value for value in future.result().values), "")
        if said in ("", self._graph_id):
            self._own.add(name)
            self.foreign.pop(name, None)
        else:
            self.foreign[name] = said
        self._changed(name)
