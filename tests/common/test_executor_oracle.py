"""Pins: any difference from rclpy's single-threaded executor in what is called with what, and in what order.

A scenario is generated, played with both executors, and compared. An entity's calls are compared source by source: in
what order two sources reach one entity is the executor's choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from inril_common.executor import NodeExecutor
from rclpy.callback_groups import CallbackGroup, MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.clock import ClockType, ROSClock
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.serialization import deserialize_message
from rclpy.task import Future
from rclpy.time import Time
from std_msgs.msg import String
from std_srvs.srv import SetBool

from tests.common.executor_bench import DEEP, ExecutorBench

TOPICS_N, SUBSCRIPTIONS_N, TIMERS_N, GUARDS_N, SERVICES_N = 3, 4, 3, 2, 2
REENTRANT = 2
"""Number of the group that is not exclusive; those before it are."""
NEW = "new subscription"
WAVE = "wave"
"""Source of the messages that tell that everything before them was served."""


@dataclass(frozen=True)
class Listener:
    """A subscription, and what it does in its first call."""

    topic: int
    group: int
    form: str


@dataclass(frozen=True)
class Action:
    """Something that happens, at the top level or in a callback."""

    what: str
    target: int


@dataclass(frozen=True)
class Scenario:
    """Entities, what their callbacks do by their number, and what happens in each step."""

    listeners: list[Listener]
    periods_s: list[int]
    reactions: dict[tuple[str, int], list[Action]]
    """By the entity's kind and number: done in its first call."""
    steps: list[list[Action]]

    def all_actions(self) -> list[Action]:
        """At the top level and in callbacks."""
        return [action for some in (*self.steps, *self.reactions.values()) for action in some]

    def ended(self) -> set[tuple[str, int]]:
        """Entities that are destroyed or cancelled at some time; what comes before that is the executor's choice."""
        kinds = {"unlisten": "subscription", "cancel": "timer"}
        return {(kinds[action.what], action.target) for action in self.all_actions() if action.what in kinds}

    def unordered(self) -> set[str]:
        """Who is called in an order of the executor's choice.

        Tasks: rclpy begins with the newest. Coroutines of a group that is not exclusive: one that waits may go on
        before or after the next message begins.
        """
        free = [i for i, one in enumerate(self.listeners) if one.form == "coroutine" and one.group == REENTRANT]
        return {"tasks", *(f"subscription {i}" for i in free)}


actions = st.one_of(
    st.builds(Action, st.just("publish"), st.integers(0, TOPICS_N - 1)),
    st.builds(Action, st.just("call"), st.integers(0, SERVICES_N - 1)),
    st.builds(Action, st.just("guard"), st.integers(0, GUARDS_N - 1)),
    st.builds(Action, st.just("task"), st.just(0)),
    st.builds(Action, st.just("listen"), st.integers(0, TOPICS_N - 1)),
    st.builds(Action, st.just("unlisten"), st.integers(0, SUBSCRIPTIONS_N - 1)),
    st.builds(Action, st.just("cancel"), st.integers(0, TIMERS_N - 1)),
)
top_actions = st.one_of(actions, st.builds(Action, st.just("clock"), st.integers(1, 4)))
entities = st.one_of(
    st.tuples(st.just("subscription"), st.integers(0, SUBSCRIPTIONS_N - 1)),
    st.tuples(st.just("timer"), st.integers(0, TIMERS_N - 1)),
    st.tuples(st.just("guard"), st.integers(0, GUARDS_N - 1)),
    st.tuples(st.just("service"), st.integers(0, SERVICES_N - 1)),
)
scenarios = st.builds(
    Scenario,
    listeners=st.lists(
        st.builds(
            Listener,
            st.integers(0, TOPICS_N - 1),
            st.integers(0, REENTRANT),
            st.sampled_from(["plain", "info", "raw", "coroutine"]),
        ),
        min_size=SUBSCRIPTIONS_N,
        max_size=SUBSCRIPTIONS_N,
    ),
    periods_s=st.lists(st.integers(1, 3), min_size=TIMERS_N, max_size=TIMERS_N),
    reactions=st.dictionaries(entities, st.lists(actions, max_size=3), max_size=4),
    steps=st.lists(st.lists(top_actions, max_size=12), min_size=1, max_size=4),
)


class Play:
    """One scenario with one executor."""

    def __init__(self, scenario: Scenario, executor_class: type[Executor], domain: int) -> None:
        self._scenario = scenario
        self.calls: dict[str, dict[str, list[str]]] = {}
        """By entity, then by source: what it was called with, in order."""
        self._ended: set[str] = set()
        self._sent: dict[str, int] = {}
        self._gate = Future()
        self._bench = bench = ExecutorBench(executor_class, domain)
        self._node = node = bench.node("n")
        self._seconds = 1
        self._clock = ROSClock()
        self._clock._set_ros_time_is_active(True)
        self._turn(0)
        exclusive = [MutuallyExclusiveCallbackGroup() for _ in range(REENTRANT)]
        self._groups: list[CallbackGroup] = [*exclusive, ReentrantCallbackGroup()]
        self._waiting = [0] * len(self._groups)
        self._publishers = [node.create_publisher(String, f"x{topic}", DEEP) for topic in range(TOPICS_N)]
        self._subscriptions: dict[str, Any] = {}
        for i, listener in enumerate(scenario.listeners):
            self._listen(f"subscription {i}", ("subscription", i), listener)
        self._timers = [
            node.create_timer(
                float(period_s), self._callback("timer", i), clock=self._clock, callback_group=self._groups[1]
            )
            for i, period_s in enumerate(scenario.periods_s)
        ]
        self._guards = [
            node.create_guard_condition(self._callback("guard", i), callback_group=self._groups[0])
            for i in range(GUARDS_N)
        ]
        for i in range(SERVICES_N):
            node.create_service(SetBool, f"s{i}", self._service(i), callback_group=self._groups[i])
        self._clients = [node.create_client(SetBool, f"s{i}") for i in range(SERVICES_N)]
        for client in self._clients:
            bench.until(client.service_is_ready, "service")

    def run(self) -> None:
        """Do the steps; after each, everything is served."""
        try:
            for step in self._scenario.steps:
                self._settle()
                self._gate = Future()
                for action in step:
                    self._do(action, "top")
                for _ in range(5):
                    self._bench.executor.spin_once(timeout_sec=0.0)  # some coroutines are waiting now
                self._settle()
        finally:
            self._bench.close()

    def _settle(self) -> None:
        """Open the gate and send waves until one meets nothing else: each entity has then been served to the end."""
        if not self._gate.done():
            self._gate.set_result(None)
        noted = -1
        while noted != self._noted():
            noted = self._noted()
            for topic, publisher in enumerate(self._publishers):
                heard = sum(subscription.topic == f"x{topic}" for subscription in self._subscriptions.values())
                self._bench.until(lambda n=heard, p=publisher: p.get_subscription_count() == n, "connections")
            before = {name: self._count(name, WAVE) for name in self._subscriptions}
            for publisher in self._publishers:
                publisher.publish(String(data=f"{WAVE}:0"))
            answers = [client.call_async(SetBool.Request(data=True)) for client in self._clients]
            self._bench.until(lambda b=before: all(self._reached(name, b[name]) for name in b), "wave")
            self._bench.until(lambda a=answers: all(answer.done() for answer in a), "answers")

    def _reached(self, name: str, count: int) -> bool:
        return name not in self._subscriptions or self._count(name, WAVE) > count

    def _count(self, name: str, source: str) -> int:
        return len(self.calls.get(name, {}).get(source, []))

    def _noted(self) -> int:
        return sum(len(of) for calls in self.calls.values() for source, of in calls.items() if source != WAVE)

    def _note(self, name: str, source: str, what: str, key: tuple[str, int] | None = None) -> None:
        assert name not in self._ended, f"{name} was called after its end"
        first = source != WAVE and not any(s != WAVE for s in self.calls.get(name, {}))
        self.calls.setdefault(name, {}).setdefault(source, []).append(what)
        if first and key not in self._scenario.ended():
            for action in self._scenario.reactions.get(key, []):  # type: ignore[arg-type]
                self._do(action, name)

    def _turn(self, seconds: int) -> None:
        self._seconds += seconds
        self._clock.set_ros_time_override(Time(seconds=self._seconds, clock_type=ClockType.ROS_TIME))

    def _do(self, action: Action, source: str) -> None:
        number = self._sent[source] = self._sent.get(source, 0) + 1
        target = action.target
        if action.what == "publish":
            self._publishers[target].publish(String(data=f"{source}:{number}"))
        elif action.what == "call":
            future = self._clients[target].call_async(SetBool.Request(data=False))
            future.add_done_callback(lambda _: self._note(f"answers {target}", source, f"{number}"))
        elif action.what == "guard":
            self._guards[target].trigger()
        elif action.what == "task":
            self._bench.executor.create_task(self._note, "tasks", source, f"{number}")
        elif action.what == "listen":
            self._listen(f"{NEW} of {source}, {number}", None, Listener(target, REENTRANT, "plain"))
        elif action.what == "unlisten" and f"subscription {target}" in self._subscriptions:
            self._node.destroy_subscription(self._subscriptions.pop(f"subscription {target}"))
            if self._scenario.listeners[target].form != "coroutine":  # one that waits goes on after that
                self._ended.add(f"subscription {target}")
        elif action.what == "cancel":
            self._timers[target].cancel()
            self._ended.add(f"timer {target}")
        elif action.what == "clock":
            self._turn(target)

    def _callback(self, kind: str, number: int) -> Any:
        return lambda: self._note(f"{kind} {number}", "itself", "called", (kind, number))

    def _service(self, number: int) -> Any:
        def serve(request: Any, response: Any) -> Any:
            source = WAVE if request.data else "clients"
            self._note(f"service {number}", source, "called", ("service", number))
            return response

        return serve

    def _listen(self, name: str, key: tuple[str, int] | None, listener: Listener) -> None:
        group = listener.group

        def note(text: str) -> None:
            source, _, number = text.partition(":")
            self._note(name, source, number, key)

        def plain(message: Any) -> None:
            assert group == REENTRANT or not self._waiting[group], "an exclusive group ran two callbacks"
            note(deserialize_message(message, String).data if listener.form == "raw" else message.data)

        def info(message: Any, about: dict[str, Any]) -> None:
            assert about["received_timestamp"] > 0
            plain(message)

        async def coroutine(message: Any) -> None:
            assert group == REENTRANT or not self._waiting[group], "an exclusive group ran two callbacks"
            self._waiting[group] += 1
            await self._gate
            self._waiting[group] -= 1
            note(message.data)

        self._subscriptions[name] = self._node.create_subscription(
            *(String, f"x{listener.topic}", {"info": info, "coroutine": coroutine}.get(listener.form, plain), DEEP),
            callback_group=self._groups[group],
            raw=listener.form == "raw",
        )


def played(scenario: Scenario, executor_class: type[Executor], domain: int) -> dict[str, dict[str, list[str]]]:
    """What each entity was called with, source by source, in order where there is one."""
    play = Play(scenario, executor_class, domain)
    play.run()
    calls = {n: {s: of for s, of in by.items() if s != WAVE} for n, by in play.calls.items()}
    for name in scenario.unordered() & calls.keys():
        calls[name] = {source: sorted(of) for source, of in calls[name].items()}
    return {name: by for name, by in calls.items() if by}


@settings(max_examples=40)
@given(scenario=scenarios)
def test_it_calls_what_rclpys_executor_calls(domain: int, scenario: Scenario) -> None:
    expected, found = (played(scenario, e, domain) for e in (SingleThreadedExecutor, NodeExecutor))
    loose = {f"{kind} {number}" for kind, number in scenario.ended()} | {f"guard {i}" for i in range(GUARDS_N)}
    for name in expected.keys() | found.keys():
        should, did = expected.get(name, {}), found.get(name, {})
        if name.startswith(NEW):
            continue  # which messages it is in time for is the executor's choice; that it is served, a wave has shown
        if name not in loose:
            assert did == should, name
        elif name not in scenario.unordered():
            for source in should.keys() & did.keys():  # ended earlier or later, or two triggers became one call
                common = min(len(should[source]), len(did[source]))
                assert did[source][:common] == should[source][:common], (name, source)
