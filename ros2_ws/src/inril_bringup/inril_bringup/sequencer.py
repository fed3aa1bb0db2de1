"""The order in which lifecycle nodes come up, as plain data: no ROS, times are handed in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from inril_core.backoff import wait_s

UNKNOWN, UNCONFIGURED, INACTIVE, ACTIVE, FINALIZED = (
    "unknown",
    "unconfigured",
    "inactive",
    "active",
    "finalized",
)


class Ask(Enum):
    """What to ask of a node."""

    STATE = "get_state"
    CONFIGURE = "configure"
    ACTIVATE = "activate"


@dataclass
class Managed:
    """What is known of one node. Times are monotonic [ns]."""

    name: str
    state: str = UNKNOWN
    since_ns: int = 0
    """When `state` began, as far as it is known."""
    asked: Ask | None = None
    asked_ns: int = 0
    poll_ns: int = 0
    """It is not asked for its state before."""
    retry_ns: int = 0
    """No transition is asked of it before."""
    failures: int = 0
    was_active: bool = False


class Sequencer:
    """Configures all nodes in order, then activates all in order; later brings each one back on its own.

    `due` says what to ask next; the answers go to `answered`, `refused` and `appeared`. A question without
    answer is asked again after `timeout_s`. A node that cannot configure or activate is tried again with
    back-off.
    """

    def __init__(
        self,
        names: Sequence[str],
        now_ns: int,
        *,
        timeout_s: float = 20.0,
        state_timeout_s: float = 1.0,
        poll_s: float = 0.5,
        active_poll_s: float = 2.0,
        retry_s: float = 1.0,
        retry_max_s: float = 10.0,
    ) -> None:
        """Nothing is known yet.

        Args:
            names: in starting order.
            timeout_s: for a configure or activate to be answered.
            state_timeout_s: for a question for the state to be answered.
            poll_s: between two questions to a node that is not active.
            active_poll_s: between two questions to an active node, to see that it is still there.
            retry_s: first wait after a refused transition; doubles up to retry_max_s.
        """
        self.nodes = {name: Managed(name, since_ns=now_ns) for name in names}
        self.brought_up = False
        """All nodes have been active at the same time once."""
        self._timeout_ns = {Ask.STATE: _ns(state_timeout_s)}
        self._timeout_ns |= dict.fromkeys((Ask.CONFIGURE, Ask.ACTIVATE), _ns(timeout_s))
        self._poll_ns, self._active_poll_ns = _ns(poll_s), _ns(active_poll_s)
        self._retry_s, self._retry_max_s = retry_s, retry_max_s

    def due(self, now_ns: int) -> list[tuple[str, Ask]]:
        """What to ask now; each answer of this counts as asked."""
        asks = []
        for node in self.nodes.values():
            if node.asked is not None and now_ns - node.asked_ns >= self._timeout_ns[node.asked]:
                self._set(node, UNKNOWN, now_ns)
                node.asked = None
            ask = self._next(node)
            if node.asked is None and now_ns >= (node.poll_ns if ask is Ask.STATE else node.retry_ns):
                node.asked, node.asked_ns = ask, now_ns
                asks.append((node.name, ask))
        return asks

    def _next(self, node: Managed) -> Ask:
        before = self._before(node)
        if node.state == UNCONFIGURED and all(_is_up(other) for other in before):
            return Ask.CONFIGURE
        everybody = self.nodes.values() if not self.brought_up else ()
        ready = all(_is_up(other) for other in everybody) and all(other.state == ACTIVE for other in before)
        return Ask.ACTIVATE if node.state == INACTIVE and ready else Ask.STATE

    def _before(self, node: Managed) -> list[Managed]:
        """Who must come first; nobody once all have been up, so that a lost node cannot hold up another."""
        if self.brought_up:
            return []
        names = list(self.nodes)
        return [self.nodes[name] for name in names[: names.index(node.name)]]

    def answered(self, name: str, state: str, now_ns: int) -> None:
        """The node says its state, or a transition led to it."""
        node = self.nodes[name]
        moved = node.asked in (Ask.CONFIGURE, Ask.ACTIVATE)
        node.asked = None
        self._set(node, state, now_ns)
        node.failures = 0 if moved else node.failures
        node.was_active |= state == ACTIVE
        node.poll_ns = now_ns + (self._active_poll_ns if state == ACTIVE else self._poll_ns)
        self.brought_up |= all(other.state == ACTIVE for other in self.nodes.values())

    def refused(self, name: str, now_ns: int) -> float:
        """A transition failed; the wait before it is tried again [s]."""
        node = self.nodes[name]
        node.asked = None
        wait = wait_s(node.failures, self._retry_s, self._retry_max_s)
        node.failures += 1
        self._set(node, UNKNOWN, now_ns)
        node.retry_ns, node.poll_ns = now_ns + _ns(wait), now_ns
        return wait

    def appeared(self, name: str, now_ns: int) -> None:
        """A process with this node has come or gone: ask at once, and believe the old state until then."""
        node = self.nodes[name]
        node.asked, node.poll_ns = None, now_ns
        if node.state != ACTIVE:
            self._set(node, UNKNOWN, now_ns)

    def waiting_for(self) -> list[Managed]:
        """Nodes that are not active, in order."""
        return [node for node in self.nodes.values() if node.state != ACTIVE]

    def _set(self, node: Managed, state: str, now_ns: int) -> None:
        if node.state != state:
            node.state, node.since_ns = state, now_ns


def _is_up(node: Managed) -> bool:
    return node.state in (INACTIVE, ACTIVE)


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
