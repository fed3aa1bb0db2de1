"""Pins: a kind of entity that the executor forgets, and behaviour that differs from rclpy's single-threaded executor.

Every test runs with that executor too: it says what is right. Over 400 lines: one test for each kind of entity.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from inril_common.executor import NodeExecutor
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.clock import ClockType, ROSClock
from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.executors import Executor, ExternalShutdownException, SingleThreadedExecutor
from rclpy.guard_condition import GuardCondition
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rclpy.task import Future
from rclpy.time import Time
from rclpy.waitable import NumberOfEntities, Waitable
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Int64, String
from std_srvs.srv import SetBool, Trigger

from tests.common.executor_bench import DEEP, PATIENCE_S, ExecutorBench


@pytest.fixture(params=[SingleThreadedExecutor, NodeExecutor], ids=["rclpy", "inril"])
def bench(request: pytest.FixtureRequest, domain: int) -> Iterator[ExecutorBench]:
    made = ExecutorBench(request.param, domain)
    yield made
    made.close()


def test_messages_come_in_order(bench: ExecutorBench) -> None:
    node = bench.node("n")
    node.create_subscription(Int64, "x", lambda message: bench.log.append(message.data), DEEP)
    publisher = bench.connected(node.create_publisher(Int64, "x", DEEP))
    for value in range(20):
        publisher.publish(Int64(data=value))
    bench.noted(*range(20))


def test_a_short_queue_keeps_the_newest(bench: ExecutorBench) -> None:
    node = bench.node("n")
    node.create_subscription(Int64, "x", lambda message: bench.log.append(message.data), 3)
    node.create_subscription(Int64, "end", lambda message: bench.log.append("end"), DEEP)
    publisher = bench.connected(node.create_publisher(Int64, "x", DEEP))
    end = bench.connected(node.create_publisher(Int64, "end", DEEP))
    for value in range(10):
        publisher.publish(Int64(data=value))
    bench.until(lambda: len(bench.log) >= 3, "the newest three")
    end.publish(Int64())
    bench.noted(7, 8, 9, "end")


def test_raw_messages_and_message_info(bench: ExecutorBench) -> None:
    node = bench.node("n")

    def with_info(message: Any, info: dict[str, Any]) -> None:
        bench.log.append((message.data, info["source_timestamp"] > 0))

    node.create_subscription(Int64, "x", lambda raw: bench.log.append(raw), DEEP, raw=True)
    node.create_subscription(Int64, "x", with_info, DEEP)
    publisher = bench.connected(node.create_publisher(Int64, "x", DEEP), 2)
    publisher.publish(Int64(data=5))
    bench.until(lambda: len(bench.log) == 2, "both")
    assert deserialize_message(bench.log[0], Int64).data == 5
    assert bench.log[1] == (5, True)


def test_a_message_that_cannot_be_decoded_is_dropped(bench: ExecutorBench) -> None:
    node = bench.node("n")
    node.create_subscription(String, "x", lambda message: bench.log.append(message.data), DEEP)
    publisher = bench.connected(node.create_publisher(String, "x", DEEP))
    publisher.publish(b"\x00\x01\x00\x00\xff\xff\xff\xff")  # a string of 4 GB, which is not there
    publisher.publish(String(data="good"))
    bench.until(lambda: "good" in bench.log, "the good message")


def test_service_and_client(bench: ExecutorBench) -> None:
    node = bench.node("n")

    def serve(request: Any, response: Any) -> Any:
        response.success, response.message = request.data, "served"
        return response

    node.create_service(SetBool, "s", serve)
    client = node.create_client(SetBool, "s")
    bench.until(client.service_is_ready, "service")
    futures = [client.call_async(SetBool.Request(data=bool(i % 2))) for i in range(4)]
    futures[0].add_done_callback(lambda future: bench.log.append(future.result().message))
    for future in futures:
        bench.executor.spin_until_future_complete(future, PATIENCE_S)
    assert [future.result().success for future in futures] == [False, True, False, True]
    bench.noted("served")


def test_an_answer_that_nobody_waits_for_is_dropped(bench: ExecutorBench) -> None:
    node = bench.node("n")
    node.create_service(Trigger, "s", lambda request, response: response)
    client = node.create_client(Trigger, "s")
    bench.until(client.service_is_ready, "service")
    forgotten, other = client.call_async(Trigger.Request()), client.call_async(Trigger.Request())
    client.remove_pending_request(forgotten)
    bench.executor.spin_until_future_complete(other, PATIENCE_S)
    assert other.done() and not forgotten.done()


def test_steady_timers_run_and_stop(bench: ExecutorBench) -> None:
    node = bench.node("n")

    def run() -> None:
        bench.log.append(len(bench.log))
        if len(bench.log) == 3:
            timer.cancel()

    timer = node.create_timer(0.001, run)
    bench.noted(0, 1, 2)
    other = node.create_timer(0.001, lambda: bench.log.append("other"))
    bench.until(lambda: bench.log.count("other") == 3, "the other timer")
    assert [item for item in bench.log if item != "other"] == [0, 1, 2]
    other.cancel()
    timer.reset()
    bench.until(lambda: bench.log[-1] != "other", "the timer again")


def test_timers_of_simulated_time_follow_its_jumps(bench: ExecutorBench) -> None:
    node = bench.node("n")
    clock = ROSClock()
    clock._set_ros_time_is_active(True)
    clock.set_ros_time_override(Time(seconds=10, clock_type=ClockType.ROS_TIME))
    node.create_timer(1.0, lambda: bench.log.append(clock.now().nanoseconds), clock=clock)
    guard = node.create_guard_condition(lambda: bench.log.append("spun"))
    for seconds in (10.5, 11.0, 11.5, 17.0, 18.0):
        clock.set_ros_time_override(Time(nanoseconds=int(seconds * 1e9), clock_type=ClockType.ROS_TIME))
        guard.trigger()
        spun = bench.log.count("spun")
        bench.until(lambda spun=spun: bench.log.count("spun") > spun, "round")
        due = [x for x in (11.0, 17.0, 18.0) if x <= seconds]
        bench.until(lambda due=due: len([x for x in bench.log if x != "spun"]) >= len(due), "timer")
    assert [x for x in bench.log if x != "spun"] == [11_000_000_000, 17_000_000_000, 18_000_000_000]


def test_simulated_time_comes_over_the_clock_topic(bench: ExecutorBench) -> None:
    node = bench.node("n", parameter_overrides=[Parameter("use_sim_time", Parameter.Type.BOOL, True)])
    publisher = bench.connected(node.create_publisher(Clock, "/clock", 10))
    node.create_timer(1.0, lambda: bench.log.append(node.get_clock().now().nanoseconds))
    for seconds in (1, 2, 3):
        publisher.publish(Clock(clock=Time(seconds=seconds).to_msg()))
        bench.until(lambda seconds=seconds: seconds * 10**9 in bench.log, f"timer at {seconds} s")
    assert sorted(set(bench.log)) == bench.log


def test_guard_conditions(bench: ExecutorBench) -> None:
    node = bench.node("n")
    guard = node.create_guard_condition(lambda: bench.log.append("guard"))
    guard.trigger()
    guard.trigger()
    bench.noted("guard")
    thread = threading.Thread(target=guard.trigger)
    thread.start()
    bench.noted("guard", "guard")
    thread.join()


def test_qos_events_of_users(bench: ExecutorBench) -> None:
    node = bench.node("n")
    node.create_subscription(
        *(Int64, "x", lambda message: None, DEEP),
        event_callbacks=SubscriptionEventCallbacks(
            matched=lambda info: bench.log.append(("heard", info.current_count))
        ),
    )
    publisher = node.create_publisher(
        *(Int64, "x", DEEP),
        event_callbacks=PublisherEventCallbacks(matched=lambda info: bench.log.append(("hears", info.current_count))),
    )
    bench.until(lambda: len(bench.log) >= 2, "both events")
    assert sorted(bench.log) == [("heard", 1), ("hears", 1)]
    node.destroy_publisher(publisher)
    bench.until(lambda: len(bench.log) >= 3, "the end of the connection")
    assert bench.log[2] == ("heard", 0)


def test_the_warning_of_incompatible_qos(bench: ExecutorBench) -> None:
    node = bench.node("n")
    subscription = node.create_subscription(Int64, "x", lambda message: None, DEEP)
    handlers = subscription.event_handlers
    for handler in handlers:  # still defined where rclpy's are, so looked at as rarely as they are
        handler.callback = _noting(handler.callback, bench.log)
    node.create_publisher(Int64, "x", QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))
    bench.until(lambda: bench.log, "the warning")
    assert bench.log == ["rclpy.event_handler"]


def _noting(callback: Any, log: list[Any]) -> Any:
    def note(event: Any) -> None:
        log.append(callback.__module__)

    note.__module__ = callback.__module__
    return note


class Counted(Waitable):
    """A waitable around a guard condition, as an action is one around its services."""

    def __init__(self, node: Any, log: list[Any]) -> None:
        super().__init__(node.default_callback_group)
        self.guard = GuardCondition(None, None, context=node.context)
        self._index, self._ready, self._log, self._taken = 0, False, log, 0

    def __enter__(self) -> None:
        self.guard.handle.__enter__()

    def __exit__(self, *args: Any) -> None:
        self.guard.handle.__exit__(*args)

    def get_num_entities(self) -> NumberOfEntities:
        return NumberOfEntities(num_gcs=1)

    def add_to_wait_set(self, wait_set: Any) -> None:
        self._index = wait_set.add_guard_condition(self.guard.handle)

    def is_ready(self, wait_set: Any) -> bool:
        self._ready = self._ready or wait_set.is_ready("guard_condition", self._index)
        return self._ready

    def take_data(self) -> Any:
        if not self._ready:
            return None
        self._ready = False
        self._taken += 1
        return self._taken

    async def execute(self, taken_data: Any) -> None:
        if taken_data is not None:
            self._log.append(taken_data)


def test_waitables(bench: ExecutorBench) -> None:
    node = bench.node("n")
    waitables = [Counted(node, bench.log), Counted(node, bench.log)]
    for waitable in waitables:
        node.add_waitable(waitable)
    waitables[0].guard.trigger()
    bench.noted(1)
    waitables[1].guard.trigger()
    bench.noted(1, 1)
    node.remove_waitable(waitables[0])
    waitables[0].guard.trigger()
    waitables[1].guard.trigger()
    bench.noted(1, 1, 2)


class Managed(LifecycleNode):
    """Notes its transitions."""

    log: list[Any]

    def on_configure(self, state: Any) -> TransitionCallbackReturn:
        self.log.append("configure")
        self.create_subscription(Int64, "x", lambda message: self.log.append(message.data), DEEP)
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: Any) -> TransitionCallbackReturn:
        self.log.append("activate")
        return super().on_activate(state)


def test_lifecycle_and_parameter_services(bench: ExecutorBench) -> None:
    managed = bench.node("managed", Managed)
    managed.log = bench.log
    managed.declare_parameter("speed", 1.5)
    asker = bench.node("asker")

    def ask(kind: Any, service: str, request: Any) -> Any:
        client = asker.create_client(kind, f"/managed/{service}")
        bench.until(client.service_is_ready, service)
        future = client.call_async(request)
        bench.executor.spin_until_future_complete(future, PATIENCE_S)
        asker.destroy_client(client)
        return future.result()

    for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        request = ChangeState.Request()
        request.transition.id = transition
        assert ask(ChangeState, "change_state", request).success
    assert ask(GetState, "get_state", GetState.Request()).current_state.id == State.PRIMARY_STATE_ACTIVE
    assert ask(GetParameters, "get_parameters", GetParameters.Request(names=["speed"])).values[0].double_value == 1.5
    wanted = Parameter("speed", Parameter.Type.DOUBLE, 2.0).to_parameter_msg()
    assert ask(SetParameters, "set_parameters", SetParameters.Request(parameters=[wanted])).results[0].successful
    assert managed.get_parameter("speed").value == 2.0
    bench.connected(asker.create_publisher(Int64, "x", DEEP)).publish(Int64(data=3))
    bench.noted("configure", "activate", 3)


def test_entities_made_and_destroyed_in_callbacks(bench: ExecutorBench) -> None:
    node = bench.node("n")
    second = node.create_subscription(Int64, "x", lambda message: bench.log.append(("second", message.data)), DEEP)

    def first(message: Any) -> None:
        bench.log.append(("first", message.data))
        if message.data == 0:
            node.destroy_subscription(second)
            node.create_timer(0.001, late)

    def late() -> None:
        bench.log.append("late")
        node.destroy_timer(next(node.timers))

    node.destroy_subscription(second)
    node.create_subscription(Int64, "x", first, DEEP)
    second = node.create_subscription(Int64, "x", lambda message: bench.log.append(("second", message.data)), DEEP)
    publisher = bench.connected(node.create_publisher(Int64, "x", DEEP), 2)
    publisher.publish(Int64(data=0))
    publisher.publish(Int64(data=1))
    bench.until(lambda: len(bench.log) >= 3, "all")
    assert sorted(map(str, bench.log)) == sorted(map(str, [("first", 0), ("first", 1), "late"]))


def test_a_callback_that_destroys_its_own_entity(bench: ExecutorBench) -> None:
    node = bench.node("n")
    entities: dict[str, Any] = {}

    def own(message: Any) -> None:
        bench.log.append("subscription")
        node.destroy_subscription(entities["subscription"])

    def end() -> None:
        bench.log.append("timer")
        node.destroy_timer(entities["timer"])

    entities["subscription"] = node.create_subscription(Int64, "x", own, DEEP)
    publisher = bench.connected(node.create_publisher(Int64, "x", DEEP))
    publisher.publish(Int64())
    publisher.publish(Int64())
    bench.noted("subscription")
    bench.until(lambda: publisher.get_subscription_count() == 0, "the end of the subscription in the middleware")
    entities["timer"] = node.create_timer(0.001, end)
    bench.noted("subscription", "timer")


def test_entities_made_by_another_thread_while_waiting(bench: ExecutorBench) -> None:
    """The spinning thread has nothing to wake it but the news that something was made."""
    node = bench.node("n")
    done = Future(executor=bench.executor)

    def make() -> None:
        node.create_timer(0.001, lambda: done.set_result(None))

    thread = threading.Thread(target=make)
    thread.start()
    bench.executor.spin_until_future_complete(done, PATIENCE_S)
    thread.join()
    assert done.done()


def test_nodes_come_and_go(bench: ExecutorBench) -> None:
    one, two = bench.node("one"), bench.node("two")
    for node in (one, two):
        node.create_subscription(Int64, "x", lambda message, node=node: bench.log.append(node.get_name()), DEEP)
    publisher = bench.connected(one.create_publisher(Int64, "x", DEEP), 2)
    bench.executor.remove_node(two)
    publisher.publish(Int64())
    bench.noted("one")
    bench.executor.add_node(two)
    bench.noted("one", "two")
    assert set(bench.executor.get_nodes()) == {one, two}
    two.destroy_node()
    publisher.publish(Int64())
    bench.noted("one", "two", "one")


@pytest.mark.parametrize("kind", ["subscription", "timer", "service", "guard", "task"])
def test_exceptions_come_out_of_spin_once_and_nothing_else_is_lost(bench: ExecutorBench, kind: str) -> None:
    node = bench.node("n")

    def fail(*args: Any) -> Any:
        if kind == "timer":
            timer.cancel()
        raise ValueError(kind)

    node.create_subscription(Int64, "other", lambda message: bench.log.append(message.data), DEEP)
    other = bench.connected(node.create_publisher(Int64, "other", DEEP))
    if kind == "subscription":
        node.create_subscription(Int64, "x", fail, DEEP)
        bench.connected(node.create_publisher(Int64, "x", DEEP)).publish(Int64())
    elif kind == "timer":
        timer = node.create_timer(0.001, fail)
    elif kind == "service":
        node.create_service(Trigger, "s", fail)
        client = node.create_client(Trigger, "s")
        bench.until(client.service_is_ready, "service")
        client.call_async(Trigger.Request())
    elif kind == "guard":
        node.create_guard_condition(fail).trigger()
    else:
        bench.executor.create_task(fail)
    for value in range(3):
        other.publish(Int64(data=value))
    with pytest.raises(ValueError, match=kind):
        bench.until(lambda: False, "exception")
    bench.noted(0, 1, 2)


def test_tasks_and_coroutines(bench: ExecutorBench) -> None:
    node = bench.node("n")
    node.create_service(Trigger, "s", lambda request, response: response, callback_group=ReentrantCallbackGroup())
    client = node.create_client(Trigger, "s", callback_group=ReentrantCallbackGroup())
    bench.until(client.service_is_ready, "service")

    async def ask(message: Any) -> None:
        bench.log.append("asked")
        await client.call_async(Trigger.Request())
        bench.log.append("answered")

    async def task(word: str) -> str:
        await client.call_async(Trigger.Request())
        return word

    node.create_subscription(Int64, "x", ask, DEEP)
    publisher = bench.connected(node.create_publisher(Int64, "x", DEEP))
    publisher.publish(Int64())
    publisher.publish(Int64())
    bench.noted("asked", "answered", "asked", "answered")
    made = bench.executor.create_task(task, "word")
    plain = bench.executor.create_task(lambda a, b: a + b, 1, b=2)
    bench.executor.spin_until_future_complete(made, PATIENCE_S)
    assert made.result() == "word" and plain.result() == 3


def test_a_coroutine_keeps_its_exclusive_group_and_no_other(bench: ExecutorBench) -> None:
    node = bench.node("n")
    gate = Future()
    exclusive, reentrant = MutuallyExclusiveCallbackGroup(), ReentrantCallbackGroup()

    def listen(name: str, group: Any, waits: bool) -> None:
        async def wait(message: Any) -> None:
            bench.log.append(f"{name} waits")
            await gate
            bench.log.append(f"{name} goes on")

        def note(message: Any) -> None:
            bench.log.append(name)

        node.create_subscription(Int64, name, wait if waits else note, DEEP, callback_group=group)

    for name, group, waits in (
        ("first", exclusive, True),
        ("second", exclusive, False),
        ("third", reentrant, True),
        ("fourth", reentrant, False),
    ):
        listen(name, group, waits)
        bench.connected(node.create_publisher(Int64, name, DEEP)).publish(Int64())
    bench.until(lambda: len(bench.log) >= 3, "the coroutines and the fourth")
    for _ in range(10):
        bench.executor.spin_once(timeout_sec=0.0)
    assert sorted(bench.log) == ["first waits", "fourth", "third waits"]
    gate.set_result(None)
    bench.until(lambda: len(bench.log) >= 6, "all")
    assert sorted(bench.log[3:]) == ["first goes on", "second", "third goes on"]
    assert bench.log.index("first goes on") < bench.log.index("second")


def test_time_outs(bench: ExecutorBench) -> None:
    node = bench.node("n")
    bench.executor.spin_once(timeout_sec=0.0)
    bench.executor.spin_once(timeout_sec=0.001)
    future = Future()
    bench.executor.spin_until_future_complete(future, 0.01)
    assert not future.done()
    node.create_timer(0.001, lambda: future.set_result(None) if not future.done() else None)
    bench.executor.spin_until_future_complete(future)
    assert future.done()


def test_wake_ends_nothing_and_future_of_another_thread_ends_the_spin(bench: ExecutorBench) -> None:
    bench.node("n")
    future = Future()
    thread = threading.Thread(target=lambda: (bench.executor.wake(), future.set_result(None)))
    thread.start()
    bench.executor.spin_until_future_complete(future)
    thread.join()
    assert future.done()


def test_shutdown_ends_the_spin(bench: ExecutorBench) -> None:
    node = bench.node("n")
    timer = node.create_timer(0.001, lambda: (bench.log.append("timer"), bench.executor.shutdown()))
    bench.executor.spin()
    assert bench.log == ["timer"]
    bench.executor.spin_once(timeout_sec=0.0)
    timer.cancel()


def test_the_end_of_the_context_ends_the_spin(bench: ExecutorBench) -> None:
    bench.node("n")
    thread = threading.Thread(target=bench.context.shutdown)
    thread.start()
    with suppress(ExternalShutdownException):  # not raised if the context ends between two waits
        bench.executor.spin()
    thread.join()
    assert not bench.context.ok()


def test_it_is_an_executor_of_rclpy() -> None:
    assert issubclass(NodeExecutor, Executor)
