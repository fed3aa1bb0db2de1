"""Service calls that never block and never wait for ever."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rclpy.client import Client
from rclpy.node import Node

NS_PER_S = 1_000_000_000


@dataclass
class _Pending:
    service: str
    future: Any
    client: Client
    deadline_ns: int
    on_reply: Callable[[Any], None]
    on_failure: Callable[[str], None]


class Calls:
    """Outstanding service calls of a node. `poll` must be called regularly, e.g. by a timer."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._clients: dict[str, Client] = {}
        self._pending: list[_Pending] = []

    @property
    def pending(self) -> bool:
        """Whether an answer is waited for."""
        return bool(self._pending)

    def call(
        self,
        service_type: Any,
        service: str,
        request: Any,
        now_ns: int,
        timeout_s: float,
        on_reply: Callable[[Any], None],
        on_failure: Callable[[str], None],
    ) -> None:
        """Send a request; exactly one of the callbacks follows, the failure at the time-out."""
        not_served = self.not_served(service_type, service)
        if not_served:
            on_failure(not_served)
            return
        client = self._clients[service]
        pending = _Pending(
            service,
            client.call_async(request),
            client,
            now_ns + round(timeout_s * NS_PER_S),
            on_reply,
            on_failure,
        )
        self._pending.append(pending)
        pending.future.add_done_callback(lambda _: self._finish(pending))

    def not_served(self, service_type: Any, service: str) -> str:
        """Why a call would fail at once, with the fix; empty if the service is there."""
        client = self._clients.get(service)
        if client is None:
            client = self._clients[service] = self._node.create_client(service_type, service)
        return "" if client.service_is_ready() else f"{service} is not served; is its node running? (`inril status`)"

    def poll(self, now_ns: int) -> None:
        """Give up the calls whose time is over. `now_ns` is monotonic, as in `call`."""
        for pending in [p for p in self._pending if now_ns > p.deadline_ns]:
            self._pending.remove(pending)
            pending.client.remove_pending_request(pending.future)
            pending.on_failure(f"{pending.service} did not answer in time")

    def cancel(self) -> None:
        """Forget all outstanding calls; no callback follows."""
        for pending in self._pending:
            pending.client.remove_pending_request(pending.future)
        self._pending.clear()

    def _finish(self, pending: _Pending) -> None:
        if pending not in self._pending:
            return
        self._pending.remove(pending)
        pending.on_reply(pending.future.result())
