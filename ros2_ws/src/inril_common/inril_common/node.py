"""The two node bases: typed parameters, diagnostics, guarded callbacks, and one teardown path."""

from __future__ import annotations

import difflib
import time
import traceback
import uuid
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.service import Service
from rclpy.subscription import Subscription
from rclpy.timer import Timer

from inril_common.deadline_timer import DeadlineTimer
from inril_common.decoding import decoder
from inril_common.diagnostics import Diagnostics, Health
from inril_common.links import LinkMonitor
from inril_common.realtime import keep_what_is_there
from inril_core.contract import Contract, load_contract
from inril_core.errors import ConfigError, InrilError

UNHEARD_TIMEOUT_NS = 5_000_000_000
"""Longest that an activation waits for `expected_subscribers`."""

T = TypeVar("T", bool, int, float, str, list[str])

_TYPES: dict[type, Parameter.Type] = {
    bool: Parameter.Type.BOOL,
    int: Parameter.Type.INTEGER,
    float: Parameter.Type.DOUBLE,
    str: Parameter.Type.STRING,
    list: Parameter.Type.STRING_ARRAY,
}


class _Shared:
    """What both bases do. Mixed into an rclpy node."""

    boot_id: str
    exit_code_when_stopped: int = 0
    """Of a process that is told to stop; above 0 where that leaves work undone."""

    gather_s: float = 0.0
    """How long messages of subscriptions given to `gather` may wait for others (`NodeExecutor`)."""

    realtime: bool
    cores: str

    graph_id: str
    """Of the graph that started this node; empty for a node that was started on its own."""

    owns_arguments = False
    """Whether the parameters on the command line are for this node alone, not for others in its process too."""

    def _init_shared(self) -> None:
        self.boot_id = uuid.uuid4().hex
        self.configuration_failed = False
        self.graph_id = self.param("graph_id", "", "graph that this node belongs to; its launcher gives it")
        self.realtime = self.param("realtime", False, "run before ordinary processes, memory locked, where permitted")
        self.cores = self.param("cores", "", "processors to run on, as 0,2-3; empty: all")
        self.diagnostics = Diagnostics(self, self.on_incompatible_qos, (NodeFinished,))

    def param(
        self,
        name: str,
        default: T,
        description: str,
        low: float | None = None,
        high: float | None = None,
        choices: Sequence[str] | None = None,
    ) -> T:
        """Declare a read-only, typed, described and bounded parameter and return its value.

        Raises:
            ConfigError: the value is of another type, out of bounds or not a choice.
        """
        node: Any = self
        descriptor = ParameterDescriptor(description=description, read_only=True, dynamic_typing=False)
        if low is not None and high is not None:
            if isinstance(default, float):
                descriptor.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high))]
            else:
                descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high))]
        if choices is not None:
            descriptor.additional_constraints = f"one of {list(choices)}"
        allowed = f"{_TYPES[type(default)].name.lower()}"
        allowed += f" in [{low}, {high}]" if low is not None else ""
        try:
            if not node.has_parameter(name):
                node.declare_parameter(name, default, descriptor)
            value = node.get_parameter(name).value
        except Exception as error:
            raise ConfigError(f"{node.get_name()}: parameter {name}: {error}; give {allowed}: {description}") from error
        if isinstance(value, float) and value != value:
            raise ConfigError(f"{node.get_name()}: parameter {name} is NaN; give {allowed}: {description}")
        if choices is not None and value not in choices:
            raise ConfigError(f"{node.get_name()}: parameter {name} = {value!r}; give one of {list(choices)}")
        return value  # type: ignore[no-any-return]

    def refuse_unknown_parameters(self) -> None:
        """Called after `setup`: a misspelt parameter would leave its default in force, in silence.

        Raises:
            ConfigError: somebody gives a parameter that this node does not have.
        """
        node: Any = self
        for name in node._parameter_overrides if self.owns_arguments else ():
            if not node.has_parameter(name) and not name.startswith("qos_overrides."):
                near = difflib.get_close_matches(name, node._parameters, 1)
                meant = f"; did you mean {near[0]}?" if near else ""
                raise ConfigError(f"{node.get_name()} has no parameter {name!r}{meant}")

    def contract_param(self) -> Contract:
        """Declare `contract` and load it."""
        return load_contract(self.param("contract", "insert_leg", "packaged task name or path of a contract YAML"))

    def link(self, name: str, timeout_s: float, idle: Callable[[], bool] = lambda: False) -> LinkMonitor:
        """Watch a link; its rate, age, drops and refused messages go to /diagnostics once a second.

        idle: whether it may be silent now by design, for instance because no episode runs.
        """
        return self.diagnostics.link(name, timeout_s, idle)

    def diagnose(self, name: str, health: Callable[[], Health]) -> None:
        """Add a line to /diagnostics that `health` gives once a second."""
        self.diagnostics.line(name, health)

    def guarded(self, callback: Callable[..., Any]) -> Callable[..., Any]:
        """`callback`, of which nothing that it raises ends the node: it is logged, counted and in /diagnostics.

        Subscriptions and services have it already; for timers and whatever else works on what others sent.
        """
        return self.diagnostics.guarded(callback, self.on_caught)

    def on_caught(self, where: str) -> None:
        """Called while an exception that a guarded callback raised is handled, with the callback's name.

        A node for which more follows from it overrides this.
        """

    def on_incompatible_qos(self, topic: str, text: str) -> None:
        """Called when an endpoint of `topic` elsewhere cannot be connected to this node's; `text` says why.

        It is an error in the log and in /diagnostics already. A node for which it is more than that overrides this.
        """

    def create_publisher(self, kind: Any, topic: str, qos: Any, **options: Any) -> Publisher:
        """As rclpy's, and a subscription that requests more than is offered is an error."""
        if hasattr(self, "diagnostics") and isinstance(qos, QoSProfile):  # rclpy itself publishes before
            options.setdefault("event_callbacks", self.diagnostics.publisher_events(topic, qos))
        base: Any = super()
        return base.create_publisher(kind, topic, qos, **options)  # type: ignore[no-any-return]

    def create_subscription(self, kind: Any, topic: str, callback: Any, qos: Any, **options: Any) -> Subscription:
        """As rclpy's, but a message comes as a named tuple (`decoding`), a callback that raises ends nothing, and a
        publisher that offers less than is requested is an error.
        """
        if hasattr(self, "diagnostics"):  # rclpy itself subscribes before
            if isinstance(qos, QoSProfile):
                options.setdefault("event_callbacks", self.diagnostics.subscription_events(topic, qos))
            callback = self.guarded(callback)
            if not options.get("raw"):
                options["raw"], callback = True, self._decoding(kind, topic, callback)
        base: Any = super()
        return base.create_subscription(kind, topic, callback, qos, **options)  # type: ignore[no-any-return]

    def create_service(self, kind: Any, name: str, callback: Any, **options: Any) -> Service:
        """As rclpy's; a callback that raises answers that it failed."""
        base: Any = super()
        if hasattr(self, "diagnostics"):  # rclpy itself serves before
            callback = self.guarded(callback)
        return base.create_service(kind, name, callback, **options)  # type: ignore[no-any-return]

    def _decoding(self, kind: Any, topic: str, callback: Callable[[Any], Any]) -> Callable[[bytes], None]:
        decode = decoder(kind)

        def hear(data: bytes) -> None:
            try:
                message = decode(data)
            except Exception as error:  # rclpy does not say which, for one of the other byte order
                self.diagnostics.complain(f"decode {topic}", f"{topic}: message left out: {error}")
                return
            callback(message)

        return hear

    def steady_timer(self, period_s: float, callback: Callable[[], None]) -> Timer:
        """A timer on the steady clock: it fires on when the system clock is set, and when `/clock` stops.

        The one kind of timer that a node may use: a timer on the ROS clock is silent for as long as that clock
        was set back (rclpy issue 1490).
        """
        node: Any = self
        timer: Timer = node.create_timer(period_s, callback, clock=Clock(clock_type=ClockType.STEADY_TIME))
        return timer

    def deadline_timer(self, callback: Callable[[], int | None], first_s: float) -> DeadlineTimer:
        """A steady timer that fires when its callback and `DeadlineTimer.at` say, for the first time in `first_s`."""
        return DeadlineTimer(self.steady_timer, callback, first_s)

    def meant_for_another(self, graph_id: str, stop: bool = False) -> str:
        """Why a request that names this graph must be refused here; empty if it may be done.

        stop: it asks for less motion, and is obeyed from somebody who does not know the graph's id, too.
        """
        if not self.graph_id or graph_id == self.graph_id or (stop and not graph_id):
            return ""
        asked = f"the request is for graph {graph_id!r:.100}" if graph_id else "the request names no graph"
        return f"{asked}, this is {self.graph_id!r}; use the commands of one inril version, with the --namespace meant"

    def mono_ns(self) -> int:
        """The monotonic clock: liveness of processes, devices and people."""
        return time.monotonic_ns()

    def ros_ns(self) -> int:
        """The ROS clock: ages of data."""
        node: Any = self
        return int(node.get_clock().now().nanoseconds)

    def setup(self) -> None:
        """Read parameters, make publishers, subscriptions and services. MUST NOT move anything."""

    def teardown(self) -> None:
        """Close everything, also after a `setup` that failed half-way. MUST NOT raise."""

    def _safe_teardown(self) -> None:
        node: Any = self
        try:
            self.teardown()
        except Exception:
            node.get_logger().error(f"teardown failed:\n{traceback.format_exc()}")
        self.diagnostics.close()


class InrilNode(_Shared, LifecycleNode):
    """A hardware- or policy-facing node: does nothing until the lifecycle_manager activates it.

    Subclasses write `setup`, `start`, `stop` and `teardown`, never transitions.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._init_shared()
        self.active = False
        self._unheard_since_ns: int | None = None

    def start(self) -> None:
        """Begin to work. MUST NOT move the arm by itself."""

    def stop(self) -> None:
        """Cease to work; `start` may follow."""

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lifecycle transition: `setup`."""
        return self._attempt("configure", self._configure, undo=True)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lifecycle transition: `start`."""
        unheard = self._unheard()
        if unheard:
            now_ns = self.mono_ns()
            since_ns = self._unheard_since_ns = now_ns if self._unheard_since_ns is None else self._unheard_since_ns
            if now_ns - since_ns < UNHEARD_TIMEOUT_NS:
                self.get_logger().info(f"not active yet: waiting for subscribers of {unheard}")
                return TransitionCallbackReturn.FAILURE
            # Somebody is down for long: that must not keep this node, and a person's way to retract, down too.
            self.get_logger().warning(f"active without subscribers of {unheard}")
        self._unheard_since_ns = None
        outcome = self._attempt("activate", self.start)
        self.active = outcome == TransitionCallbackReturn.SUCCESS
        keep_what_is_there()
        return outcome

    def _configure(self) -> None:
        self._expected_subscribers = self.param(
            "expected_subscribers", "", "TOPIC:COUNT with commas; activation waits for them, for 5 s at most"
        )
        self.setup()
        self.refuse_unknown_parameters()

    def _unheard(self) -> str:
        """Topics whose expected subscribers DDS has not matched yet: what is said now would be lost to them."""
        lacking = []
        for item in filter(None, self._expected_subscribers.split(",")):
            topic, _, count = item.rpartition(":")
            if not topic or not count.isdigit():
                raise ConfigError(f"{self.get_name()}: expected_subscribers item {item!r}: give TOPIC:COUNT")
            full_name = self.resolve_topic_name(topic)
            heard_by = sum(p.get_subscription_count() for p in self.publishers if p.topic_name == full_name)
            if heard_by < int(count):
                lacking.append(f"{topic} ({heard_by} of {count})")
        return ", ".join(lacking)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lifecycle transition: `stop`."""
        self.active = False
        return self._attempt("deactivate", self.stop)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lifecycle transition: the one teardown path."""
        return self._end()

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lifecycle transition: the one teardown path."""
        return self._end()

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lifecycle transition: the one teardown path."""
        return self._end()

    def _end(self) -> TransitionCallbackReturn:
        if self.active:
            self.active = False
            self._attempt("stop", self.stop)
        self._safe_teardown()
        return TransitionCallbackReturn.SUCCESS

    def _attempt(self, what: str, action: Any, undo: bool = False) -> TransitionCallbackReturn:
        try:
            action()
        except ConfigError as error:
            self.get_logger().fatal(f"cannot {what}: {error}")
            self.configuration_failed = True
        except InrilError as error:
            self.get_logger().error(f"cannot {what}: {error}")
        except Exception:
            self.get_logger().error(f"cannot {what}:\n{traceback.format_exc()}")
        else:
            return TransitionCallbackReturn.SUCCESS
        if undo:
            self._safe_teardown()
        return TransitionCallbackReturn.FAILURE

    def end(self) -> None:
        """Called once when the process ends, from whatever state."""
        self._end()

    def destroy_node(self) -> None:
        """As rclpy's, and the lifecycle goes too: it would keep the node in the graph until its process ends."""
        super().destroy_node()
        self._state_machine.destroy_when_not_in_use()


class InrilPlainNode(_Shared, Node):
    """A node without a lifecycle: it works as soon as it is there."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._init_shared()

    def end(self) -> None:
        """Called once when the process ends."""
        self._safe_teardown()


class NodeFinished(Exception):
    """Raised in a callback by a node whose work is over: the process ends with this exit code."""

    def __init__(self, code: int = 0) -> None:
        super().__init__(f"finished with exit code {code}")
        self.code = int(code)
