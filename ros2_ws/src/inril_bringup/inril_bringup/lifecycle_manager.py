"""Brings the lifecycle nodes up in order, a respawned one back, and all down in reverse order.

It starts no process and judges no health: nodes watch their own links and hold by themselves. It manages the nodes of
its own graph only, and nobody at all while another lifecycle_manager is heard in its namespace.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from inril_common.executor import NodeExecutor
from inril_common.node import InrilPlainNode
from inril_common.process import run_node
from inril_common.qos import EVENT
from lifecycle_msgs.msg import Transition, TransitionEvent
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.task import Future

from inril_bringup.ownership import Ownership
from inril_bringup.sequencer import ACTIVE, FINALIZED, INACTIVE, UNCONFIGURED, UNKNOWN, Ask, Sequencer
from inril_core.errors import ConfigError

_TRANSITIONS = {Ask.CONFIGURE: Transition.TRANSITION_CONFIGURE, Ask.ACTIVATE: Transition.TRANSITION_ACTIVATE}
_AFTER = {Ask.CONFIGURE: INACTIVE, Ask.ACTIVATE: ACTIVE}
_STATES = {UNCONFIGURED, INACTIVE, ACTIVE, FINALIZED}
_TICK_S = 0.25
_REPORT_S = 1.0
_REMIND_S = 5.0
_LISTEN_S = 1.0
"""No transition before: another manager would be heard by then."""


class LifecycleManager(InrilPlainNode):
    """Configures and activates `managed_nodes` in their order, and shuts them down in reverse."""

    def __init__(self) -> None:
        super().__init__("lifecycle_manager")
        self._names: list[str] = []
        self._ready = self._stopping = False

    def setup(self) -> None:
        """Read parameters, make clients."""
        self._names = self.param("managed_nodes", [""], "lifecycle nodes in starting order")
        if not all(self._names) or len(set(self._names)) != len(self._names):
            raise ConfigError(f"lifecycle_manager: managed_nodes = {self._names}; give node names, each once")
        self._stop_timeout_s = self.param("stop_timeout_s", 8.0, "for shutting all nodes down", 0.1, 60.0)
        self._sequencer = Sequencer(self._names, self.mono_ns())
        self._state_clients = {name: self.create_client(GetState, f"{name}/get_state") for name in self._names}
        self._change_clients = {name: self.create_client(ChangeState, f"{name}/change_state") for name in self._names}
        # A (re)started node shows at once as a publisher of its transition events; polling backs this up.
        for name in self._names:
            self.create_subscription(
                TransitionEvent,
                f"{name}/transition_event",
                lambda message: None,
                EVENT,
                event_callbacks=SubscriptionEventCallbacks(matched=partial(self._on_matched, name)),
            )
        self._ownership = Ownership(self, self._names, self.graph_id, lambda name: self._tick())
        self._told_foreign: set[str] = set()
        self._pending: dict[str, Future] = {}
        self._reminded_ns = self._began_ns = self._listens_since_ns = self.mono_ns()
        self._all_active = False
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", EVENT)
        self.steady_timer(_TICK_S, self._tick)
        self.steady_timer(_REPORT_S, self._report)
        self._ready = True

    def _on_matched(self, name: str, status: Any) -> None:
        if status.current_count_change:
            self._pending.pop(name, None)
            self._ownership.forget(name)
            self._sequencer.appeared(name, self.mono_ns())
            self._tick()

    def _tick(self) -> None:
        if self._stopping or self._alone() is False:
            return
        for name, ask in self._sequencer.due(self.mono_ns()):
            self._ask(name, ask)
        self._tell_progress()

    def _alone(self) -> bool | None:
        """Whether no other manager is heard in this namespace; None while it is too early to know.

        Raises:
            ConfigError: one is heard before this one has brought its nodes up: this graph gives way.
        """
        own = (self.get_name(), self.get_namespace())
        others = self.get_node_names_and_namespaces().count(own) > 1
        if others and not self._sequencer.brought_up:
            raise ConfigError(
                f"lifecycle_manager: another one is heard in namespace {self.get_namespace()} of this ROS domain: two "
                "graphs there would serve each other's requests. Give one of them namespace:=NAME or another "
                "ROS_DOMAIN_ID, or stop one (inril down)"
            )
        if others:
            self.get_logger().error(
                "another lifecycle_manager is heard in this namespace: nothing is brought up or shut down until it has "
                "gone; stop it, or give it another namespace",
                throttle_duration_sec=10.0,
            )
            return False
        return True if self.mono_ns() - self._listens_since_ns > _LISTEN_S * 1e9 else None

    def _is_own(self, name: str) -> bool:
        if self._ownership.is_own(name, self.mono_ns()):
            return True
        whose = self._ownership.foreign.get(name)
        if whose is not None and name not in self._told_foreign:
            self._told_foreign.add(name)
            self.get_logger().error(f"{name} belongs to graph {whose!r}, not to {self.graph_id!r}: it is left alone")
        return False

    def _ask(self, name: str, ask: Ask) -> None:
        client = self._state_clients[name] if ask is Ask.STATE else self._change_clients[name]
        self._drop_pending(name)
        too_early = ask is not Ask.STATE and self._alone() is None
        if too_early or not client.service_is_ready() or not self._is_own(name):
            self._sequencer.answered(name, UNKNOWN, self.mono_ns())
            return
        if ask is Ask.STATE:
            future = client.call_async(GetState.Request())
        else:
            future = client.call_async(ChangeState.Request(transition=Transition(id=_TRANSITIONS[ask])))
        self._pending[name] = future
        future.add_done_callback(partial(self._on_answer, name, ask))

    def _drop_pending(self, name: str) -> None:
        future = self._pending.pop(name, None)
        if future is not None and not future.done():
            self._state_clients[name].remove_pending_request(future)
            self._change_clients[name].remove_pending_request(future)

    def _on_answer(self, name: str, ask: Ask, future: Future) -> None:
        if self._pending.get(name) is not future:
            return  # answered too late; it was asked again
        del self._pending[name]
        now_ns = self.mono_ns()
        answer = future.result()
        if ask is Ask.STATE:
            label = answer.current_state.label
            self._on_state(name, label if label in _STATES else UNKNOWN, now_ns)
        elif answer.success:
            self._sequencer.answered(name, _AFTER[ask], now_ns)
            self.get_logger().info(f"{name} is {_AFTER[ask]}")
        else:
            wait_s = self._sequencer.refused(name, now_ns)
            self.get_logger().error(f"{name} cannot {ask.value}, its own log says why; again in {wait_s:.0f} s")
        self._tick()  # the next one need not wait for the timer

    def _on_state(self, name: str, state: str, now_ns: int) -> None:
        node = self._sequencer.nodes[name]
        if node.was_active and state in (UNCONFIGURED, INACTIVE):
            self.get_logger().warning(f"{name} has come back {state}; activating it again")
            node.was_active = False
        self._sequencer.answered(name, state, now_ns)

    def _tell_progress(self) -> None:
        now_ns = self.mono_ns()
        waiting = self._sequencer.waiting_for()
        if waiting and self._all_active:
            self._began_ns = self._reminded_ns = now_ns
        elif waiting and now_ns - self._reminded_ns >= _REMIND_S * 1e9:
            self._reminded_ns = now_ns
            self.get_logger().info(f"waiting for {self._describe(now_ns)}")
        elif not waiting and not self._all_active:
            took_s = (now_ns - self._began_ns) * 1e-9
            self.get_logger().info(f"all {len(self._names)} nodes are active after {took_s:.1f} s")
        self._all_active = not waiting

    def _describe(self, now_ns: int) -> str:
        """Who is not active, in which state, and since when."""
        nodes = self._sequencer.waiting_for()
        return ", ".join(f"{node.name} ({node.state} for {(now_ns - node.since_ns) * 1e-9:.1f} s)" for node in nodes)

    def _report(self) -> None:
        waiting = self._sequencer.waiting_for()
        status = DiagnosticStatus(
            level=DiagnosticStatus.WARN if waiting else DiagnosticStatus.OK,
            name=f"{self.get_fully_qualified_name()}: nodes",
            message=f"waiting for {self._describe(self.mono_ns())}" if waiting else "all active",
            hardware_id=self.get_fully_qualified_name().lstrip("/"),
            values=[KeyValue(key=node.name, value=node.state) for node in self._sequencer.nodes.values()],
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    def teardown(self) -> None:
        """Shut the nodes down, the last one first; each step and the whole are bounded in time."""
        if not self._ready:
            return  # setup failed: there is nobody to shut down
        self._stopping = True  # or it would bring up again what goes down
        for name in self._names:
            self._drop_pending(name)
        executor = NodeExecutor()
        executor.add_node(self)
        deadline_s = time.monotonic() + self._stop_timeout_s
        if self.get_node_names_and_namespaces().count((self.get_name(), self.get_namespace())) > 1:
            self.get_logger().warning("another lifecycle_manager is heard: the nodes end by signal")
            return
        share_s = self._stop_timeout_s / 4.0
        for name in reversed(self._names):
            client = self._change_clients[name]
            if client.service_is_ready() and self._is_own(name):
                answered = self._shut_down(name, client, executor, min(deadline_s, time.monotonic() + share_s))
                # One that is silent was mostly ended together with the others: do not wait for each of them.
                share_s = share_s if answered else 0.25

    def _shut_down(self, name: str, client: Any, executor: NodeExecutor, deadline_s: float) -> bool:
        future = client.call_async(ChangeState.Request(transition=Transition(label="shutdown")))
        while not future.done() and time.monotonic() < deadline_s and client.service_is_ready():
            executor.spin_once(timeout_sec=0.05)
        if future.done() and future.result().success:
            self.get_logger().info(f"{name} is shut down")
        else:
            self.get_logger().warning(f"{name} was not shut down; it ends by signal")
        return bool(future.done())


def main() -> None:
    """Entry point."""
    run_node(LifecycleManager)


if __name__ == "__main__":
    main()
