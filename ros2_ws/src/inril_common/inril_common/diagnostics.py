"""What a node says of itself on /diagnostics, once a second: links, refused messages, errors, quality of service."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.qos import QoSProfile, qos_policy_name_from_kind

from inril_common.links import LinkMonitor, LinkReport
from inril_common.qos import EVENT, incompatible_policies

PERIOD_S = 1.0
REPEAT_NS = 1_000_000_000
"""The same complaint is logged once in this time, and counted always."""

OK, WARN, ERROR, STALE = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR, DiagnosticStatus.STALE


@dataclass(frozen=True)
class Health:
    """One line of /diagnostics."""

    level: bytes
    """One of OK, WARN, ERROR, STALE."""
    message: str
    values: Mapping[str, object] = field(default_factory=dict)


def control_health(armed: bool, in_control: str, faults: Mapping[str, str]) -> Health:
    """Who is in control of the arm. faults: what happened and the fix, by name; empty: none."""
    values = {"armed": armed, "in_control": in_control, "faults": ", ".join(faults) or "none", **faults}
    if faults:
        return Health(ERROR, "; ".join(f"{name}: {detail}" for name, detail in faults.items()), values)
    return Health(OK, f"armed, {in_control} in control" if armed else "not armed", values)


def link_health(link: LinkReport) -> Health:
    """A link that is silent by design is well; one whose messages are left out is not, whatever its age."""
    values = {
        "rate_hz": f"{link.rate_hz:.2f}",
        "age_s": "never heard" if link.age_s is None else f"{link.age_s:.3f}",
        "worst_gap_s": f"{link.worst_gap_s:.4f}",
        "drops": link.drops,
        "refused": link.refused,
        "timeout_s": f"{link.timeout_s:.3f}",
    }
    if link.refusal:
        return Health(ERROR, f"left out: {link.refusal}", values)
    if not link.stale:
        return Health(OK, "ok", values)
    return Health(OK, "idle", values) if link.idle else Health(STALE, "stale", values)


@dataclass
class _Caught:
    count: int = 0
    newest: str = ""
    fresh: bool = False


class _Event:
    """A QoS event callback, one of each publisher and subscription."""

    may_come_late = True
    """The executor looks at it five times a second and not at every message."""

    def __init__(self, report: Callable[..., None], topic: str, publishes: bool, profile: QoSProfile) -> None:
        self._report, self._arguments = report, (topic, publishes, profile)

    def __call__(self, event: Any) -> None:
        self._report(*self._arguments, event)


def _refusal(arguments: tuple[Any, ...], reason: str) -> Any:
    """The reply to a service's request, which says that nothing was done; None to a message."""
    response = arguments[1] if len(arguments) == 2 else None
    if hasattr(response, "success"):
        response.success = False
    if hasattr(response, "message"):
        response.message = reason
    return response


class Diagnostics:
    """A node's lines of /diagnostics. It publishes as soon as there is a line.

    on_incompatible_qos: called with topic and what does not fit, at each endpoint that cannot be connected to.
    passing: exceptions that a guarded callback may end the node with.
    """

    def __init__(
        self, node: Any, on_incompatible_qos: Callable[[str, str], None], passing: tuple[type[Exception], ...] = ()
    ) -> None:
        self._node = node
        self._passing = passing
        self._on_incompatible_qos = on_incompatible_qos
        self._links: dict[str, LinkMonitor] = {}
        self._lines: dict[str, Callable[[], Health]] = {}
        self._caught: dict[str, _Caught] = {}
        self._unfit: dict[tuple[str, bool], QoSProfile] = {}
        self._logged_ns: dict[str, int] = {}
        self._publisher: Any = None
        self._timer: Any = None
        self._closed = False

    def link(self, name: str, timeout_s: float, idle: Callable[[], bool]) -> LinkMonitor:
        """Watch a link."""
        self._begin()
        return self._links.setdefault(name, LinkMonitor(name, timeout_s, idle))

    def line(self, name: str, health: Callable[[], Health]) -> None:
        """Ask `health` before each publication."""
        self._begin()
        self._lines[name] = health

    def complain(self, key: str, text: str) -> None:
        """Log an error, the same `key` at most once a second of the monotonic clock."""
        now_ns = self._node.mono_ns()
        if now_ns - self._logged_ns.get(key, -REPEAT_NS) >= REPEAT_NS:
            self._logged_ns[key] = now_ns
            self._node.get_logger().error(text)

    def refuse(self, link: LinkMonitor, reason: str) -> None:
        """A message of a link is left out: count it, say so, and let the link grow stale."""
        link.refused(reason)
        self.complain(f"link {link.name}", f"{link.name}: message left out: {reason}")

    def guarded(self, callback: Callable[..., Any], on_caught: Callable[[str], None]) -> Callable[..., Any]:
        """`callback` at the boundary of the node: what it raises is logged and counted, and ends nothing.

        A service's request is answered with success = False and the reason where its reply has these fields. What comes
        after `close`, while the executor still has it in hand, finds nothing to work with: it is left out.
        on_caught: called with the callback's name while its exception is handled.
        """
        name = getattr(callback, "__qualname__", type(callback).__name__).replace("<locals>.", "")
        self._begin()

        def boundary(*arguments: Any) -> Any:
            if self._closed:
                return _refusal(arguments, f"{self._node.get_name()} has ended")
            try:
                return callback(*arguments)
            except self._passing:
                raise
            except Exception as error:
                self._catch(name, error)
                on_caught(name)
            newest = self._caught[name].newest
            return _refusal(arguments, f"{name}: {newest}; the node's log has the traceback")

        return boundary

    def subscription_events(self, topic: str, requested: QoSProfile) -> SubscriptionEventCallbacks:
        """Events that report publishers which offer less than `requested`."""
        return SubscriptionEventCallbacks(incompatible_qos=_Event(self._incompatible, topic, False, requested))

    def publisher_events(self, topic: str, offered: QoSProfile) -> PublisherEventCallbacks:
        """Events that report subscriptions which request more than `offered`."""
        return PublisherEventCallbacks(incompatible_qos=_Event(self._incompatible, topic, True, offered))

    def incompatible(self, topics: Collection[str]) -> str:
        """What cannot be connected to now, of `topics`; empty where all is well, or whoever did not fit has gone."""
        unfit = [(topic, publishes, profile) for (topic, publishes), profile in self._unfit.items() if topic in topics]
        return "; ".join(text for of_one in unfit for text in self._misfits(*of_one))

    def statuses(self) -> list[DiagnosticStatus]:
        """All lines as they are now."""
        now_ns = self._node.mono_ns()
        lines = {link.name: link_health(link.report(now_ns)) for link in self._links.values()}
        lines |= {name: self._health(name, health) for name, health in self._lines.items()}
        if self._caught:
            lines["callbacks"] = self._callbacks()
        if self._unfit:
            lines["quality of service"] = self._quality()
        return [self._status(name, health) for name, health in lines.items()]

    def _health(self, name: str, health: Callable[[], Health]) -> Health:
        try:
            return health()
        except Exception as error:
            self._catch(f"health of {name}", error)
            return Health(ERROR, f"{type(error).__name__}: {error}")

    def close(self) -> None:
        """End the publication and forget the lines."""
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
            self._node.destroy_publisher(self._publisher)
            self._timer = None
        self._closed = True
        for kept in (self._links, self._lines, self._caught, self._unfit):
            kept.clear()

    def _begin(self) -> None:
        self._closed = False
        if self._timer is None:
            self._publisher = self._node.create_publisher(DiagnosticArray, "/diagnostics", EVENT)
            self._timer = self._node.steady_timer(PERIOD_S, self._publish)

    def _publish(self) -> None:
        message = DiagnosticArray(status=self.statuses())
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)

    def _catch(self, name: str, error: Exception) -> None:
        caught = self._caught.setdefault(name, _Caught())
        caught.count += 1
        caught.newest, caught.fresh = f"{type(error).__name__}: {error}", True
        self.complain(
            f"callback {name}",
            f"{name} failed ({caught.count} times so far) and goes on with what comes next:\n{traceback.format_exc()}",
        )

    def _callbacks(self) -> Health:
        fresh = [f"{name}: {caught.newest}" for name, caught in self._caught.items() if caught.fresh]
        values = {name: f"{caught.count} times, newest {caught.newest}" for name, caught in self._caught.items()}
        for caught in self._caught.values():
            caught.fresh = False
        if fresh:
            return Health(ERROR, "; ".join(fresh), values)
        return Health(WARN, "errors before; see the log", values)

    def _incompatible(self, topic: str, publishes: bool, profile: QoSProfile, event: Any) -> None:
        self._begin()
        self._unfit[topic, publishes] = profile
        found = self._misfits(topic, publishes, profile)
        if not found:  # the other side is not in the graph's list yet, or has gone
            policy = qos_policy_name_from_kind(event.last_policy_kind).lower()
            other = "a subscription requests" if publishes else "a publisher offers"
            found = [f"{topic}: {other} another {policy} than this node's; compare with `ros2 topic info -v`"]
        for text in found:
            self._node.get_logger().error(text)
        self._on_incompatible_qos(topic, "; ".join(found))

    def _misfits(self, topic: str, publishes: bool, profile: QoSProfile) -> list[str]:
        node = self._node
        name = node.resolve_topic_name(topic)
        others = node.get_subscriptions_info_by_topic(name) if publishes else node.get_publishers_info_by_topic(name)
        texts = []
        for other in others:
            theirs = other.qos_profile
            policies = incompatible_policies(profile, theirs) if publishes else incompatible_policies(theirs, profile)
            for policy, offered, requested in policies:
                if publishes:
                    text = f"requests {policy} {requested}, this node offers {offered}: it hears nothing; "
                    text += f"let it subscribe with {policy} {offered}"
                else:
                    text = f"offers {policy} {offered}, this node requests {requested}: nothing is heard from it; "
                    text += f"let it publish with {policy} {requested}"
                texts.append(f"{name}: {other.node_namespace.rstrip('/')}/{other.node_name} {text}")
        return texts

    def _quality(self) -> Health:
        text = self.incompatible([topic for topic, _ in self._unfit])
        return Health(ERROR, text) if text else Health(OK, "what did not fit has gone")

    def _status(self, name: str, health: Health) -> DiagnosticStatus:
        node_name = self._node.get_name()
        return DiagnosticStatus(
            level=health.level,
            name=f"{node_name}: {name}",
            message=health.message,
            hardware_id=self._node.get_fully_qualified_name().lstrip("/"),  # /diagnostics is shared by all namespaces
            values=[KeyValue(key=key, value=str(value)) for key, value in health.values.items()],
        )
