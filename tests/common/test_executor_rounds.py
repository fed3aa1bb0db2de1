"""Pins: what the executor promises beyond rclpy's. Fairness, a kept wait set, entities that were destroyed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from inril_common import executor as executor_module
from inril_common.executor import NodeExecutor, chosen_executor, gather
from inril_common.wait_set import WaitSet
from rclpy.clock import ClockType, ROSClock
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.time import Time
from std_msgs.msg import Int64
from std_srvs.srv import Trigger

from inril_core.errors import ConfigError
from tests.common.executor_bench import DEEP, PATIENCE_S, ExecutorBench


@pytest.fixture
def bench(domain: int) -> Iterator[ExecutorBench]:
    made = ExecutorBench(NodeExecutor, domain)
    yield made
    made.close()


class Hand:
    """A clock that a test turns, for timers."""

    def __init__(self) -> None:
        self.clock = ROSClock()
        self.clock._set_ros_time_is_active(True)
        self.seconds = 0
        self.turn(1)

    def turn(self, seconds: int) -> None:
        self.seconds += seconds
        self.clock.set_ros_time_override(Time(seconds=self.seconds, clock_type=ClockType.ROS_TIME))


def test_a_timer_that_becomes_due_runs_before_the_next_message_of_a_flood(bench: ExecutorBench) -> None:
    """Ten topics with ten messages each are ready; the timer becomes due while the first message is handled."""
    node, hand = bench.node("n"), Hand()
    node.create_timer(1.0, lambda: bench.log.append("timer"), clock=hand.clock)

    def hear(message: Any) -> None:
        bench.log.append(message.data)
        if len(bench.log) == 1:
            hand.turn(1)

    publishers = []
    for topic in range(10):
        node.create_subscription(Int64, f"x{topic}", hear, DEEP)
        publishers.append(bench.connected(node.create_publisher(Int64, f"x{topic}", DEEP)))
    for value in range(100):
        publishers[value % 10].publish(Int64(data=value))
    bench.until(lambda: len(bench.log) == 101, "all messages and the timer")
    assert bench.log.index("timer") == 1


def test_a_timer_that_is_always_due_does_not_starve_messages(bench: ExecutorBench) -> None:
    """It becomes due while the first message is handled, and again while its own callback runs."""
    node, hand = bench.node("n"), Hand()

    def late() -> None:
        bench.log.append("timer")
        hand.turn(1)
        if bench.log.count("timer") == 100:
            timer.cancel()

    def hear(message: Any) -> None:
        bench.log.append(message.data)
        if message.data == 0:
            hand.turn(1)

    timer = node.create_timer(1.0, late, clock=hand.clock)
    publishers = []
    for topic in range(5):
        node.create_subscription(Int64, f"x{topic}", hear, DEEP)
        publishers.append(bench.connected(node.create_publisher(Int64, f"x{topic}", DEEP)))
    for value in range(20):
        publishers[value % 5].publish(Int64(data=value))
    bench.until(lambda: sum(item != "timer" for item in bench.log) == 20, "all messages")
    timer.cancel()
    last = max(index for index, item in enumerate(bench.log) if item != "timer")
    assert bench.log[:last].count("timer") <= 20, "once a round, and each round brought a message"


def test_a_flood_on_one_topic_leaves_others_their_turn(bench: ExecutorBench) -> None:
    node = bench.node("n")
    for topic in ("flood", "rare"):
        node.create_subscription(Int64, topic, lambda message, topic=topic: bench.log.append(topic), DEEP)
    flood = bench.connected(node.create_publisher(Int64, "flood", DEEP))
    rare = bench.connected(node.create_publisher(Int64, "rare", DEEP))
    for _ in range(100):
        flood.publish(Int64())
    rare.publish(Int64())
    bench.until(lambda: len(bench.log) == 101, "all")
    assert bench.log.index("rare") <= 1


def test_the_wait_set_is_built_only_when_entities_come_or_go(
    bench: ExecutorBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[int] = []

    class Counting(WaitSet):
        def __init__(self, context: Any, works: Any, wakers: Any) -> None:
            built.append(len(works))
            super().__init__(context, works, wakers)

    monkeypatch.setattr(executor_module, "WaitSet", Counting)
    node = bench.node("n")
    node.create_subscription(Int64, "x", lambda message: bench.log.append(message.data), DEEP)
    publisher = bench.connected(node.create_publisher(Int64, "x", DEEP))
    bench.executor.spin_once(timeout_sec=0.0)
    before = len(built)
    for value in range(10):
        publisher.publish(Int64(data=value))
        bench.executor.wake()
    bench.noted(*range(10))
    assert len(built) == before
    timer = node.create_timer(0.001, lambda: None)
    bench.executor.spin_once(timeout_sec=0.0)
    assert len(built) > before
    node.destroy_timer(timer)


def test_entities_destroyed_behind_the_executors_back_never_end_the_spin(bench: ExecutorBench) -> None:
    """`destroy` of an entity itself, not of its node's: the node still lists it, and nobody wakes the executor."""
    node = bench.node("n")
    node.create_service(Trigger, "s", lambda request, response: response)
    entities = [
        node.create_subscription(Int64, "gone", lambda message: bench.log.append("gone"), DEEP),
        node.create_timer(0.001, lambda: None),
        node.create_client(Trigger, "s"),
        node.create_guard_condition(lambda: None),
    ]
    node.create_subscription(Int64, "x", lambda message: bench.log.append(message.data), DEEP)
    publisher = bench.connected(node.create_publisher(Int64, "x", DEEP))
    for value, entity in enumerate(entities):
        publisher.publish(Int64(data=value))
        entity.destroy()
        bench.until(lambda value=value: value in bench.log, "message")
    assert bench.log == [0, 1, 2, 3]


def test_a_callback_that_destroys_what_is_ready_in_the_same_round(bench: ExecutorBench) -> None:
    """Also behind the executor's back, so that it finds out only when it takes the message."""
    node = bench.node("n")
    subscriptions: list[Any] = []

    def hear(message: Any) -> None:
        bench.log.append(message.data)
        for other in subscriptions[1:]:
            other.destroy()

    publishers = []
    for topic in range(3):
        subscriptions.append(node.create_subscription(Int64, f"x{topic}", hear, DEEP))
        publishers.append(bench.connected(node.create_publisher(Int64, f"x{topic}", DEEP)))
    for topic, publisher in enumerate(publishers):
        publisher.publish(Int64(data=topic))
    guard = node.create_guard_condition(lambda: bench.log.append("end"))
    bench.until(lambda: 0 in bench.log, "the first message")
    guard.trigger()
    bench.until(lambda: "end" in bench.log, "the end")
    assert bench.log == [0, "end"]


def test_a_service_destroyed_while_it_answers_does_not_end_the_spin(bench: ExecutorBench) -> None:
    node = bench.node("n")

    def serve(request: Any, response: Any) -> Any:
        bench.log.append("served")
        node.destroy_service(service)
        return response

    service = node.create_service(Trigger, "s", serve)
    client = node.create_client(Trigger, "s")
    bench.until(client.service_is_ready, "service")
    client.call_async(Trigger.Request())
    bench.noted("served")


def test_threads_that_make_and_destroy_while_it_spins(bench: ExecutorBench) -> None:
    node = bench.node("n")
    stop = threading.Event()

    def churn(number: int) -> None:
        while not stop.is_set():
            subscription = node.create_subscription(Int64, f"churn{number}", lambda message: None, DEEP)
            timer = node.create_timer(0.001, lambda: None)
            node.destroy_subscription(subscription)
            node.destroy_timer(timer)

    node.create_subscription(Int64, "x", lambda message: bench.log.append(message.data), DEEP)
    publisher = bench.connected(node.create_publisher(Int64, "x", DEEP))
    threads = [threading.Thread(target=churn, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        for value in range(200):
            publisher.publish(Int64(data=value))
            bench.until(lambda value=value: len(bench.log) > value, "message")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert bench.log == list(range(200))


def test_a_callback_may_spin(bench: ExecutorBench) -> None:
    """As with rclpy: others are served meanwhile, but nothing of the callback's own exclusive group."""
    node = bench.node("n")
    other = bench.node("other")

    def hear(message: Any) -> None:
        bench.log.append(f"begin {message.data}")
        for _ in range(20):
            bench.executor.spin_once(timeout_sec=0.0)
        bench.log.append(f"end {message.data}")

    node.create_subscription(Int64, "x", hear, DEEP)
    other.create_subscription(Int64, "x", lambda message: bench.log.append(f"other {message.data}"), DEEP)
    publisher = bench.connected(node.create_publisher(Int64, "x", DEEP), 2)
    publisher.publish(Int64(data=1))
    publisher.publish(Int64(data=2))
    bench.until(lambda: len(bench.log) == 6, "all")
    own = [item for item in bench.log if "other" not in item]
    assert own == ["begin 1", "end 1", "begin 2", "end 2"]


def test_the_executor_of_a_process_is_chosen_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INRIL_EXECUTOR", "none")
    with pytest.raises(ConfigError, match="rclpy"):
        chosen_executor()
    assert {"inril": NodeExecutor, "rclpy": SingleThreadedExecutor} == executor_module.EXECUTORS


def test_gathered_messages_wait_until_something_else_comes(domain: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would wait for an hour; a message of another topic is served at once, and they before it."""
    monkeypatch.setattr(executor_module, "LATER_PERIOD_NS", 3_600_000_000_000)
    bench = ExecutorBench(lambda context: NodeExecutor(context=context, gather_s=3600.0), domain)
    original = WaitSet.wait
    try:
        node = bench.node("n")
        sent: list[str] = []
        rests, too_early = threading.Event(), threading.Event()

        def wait(waited: WaitSet, timeout_ns: int, may_run: Any = None) -> Any:
            if waited is bench.executor._resting:
                rests.set()
            return original(waited, timeout_ns, may_run)

        def hear(message: Any) -> None:
            bench.log.append((message.data, len(sent)))
            if message.data and not sent:
                too_early.set()

        gather(node.create_subscription(Int64, "some", hear, DEEP))
        node.create_subscription(Int64, "other", lambda _: bench.log.append("other"), DEEP)
        some = bench.connected(node.create_publisher(Int64, "some", DEEP))
        other = bench.connected(node.create_publisher(Int64, "other", DEEP))
        some.publish(Int64(data=0))
        bench.until(lambda: len(bench.log) == 1, "the first message, after which it rests")
        for _ in range(3):  # what DDS has to say of publishers that it has just found would end the rest
            bench.executor.spin_once(0.0)
        monkeypatch.setattr(WaitSet, "wait", wait)

        def send() -> None:
            rests.wait(PATIENCE_S)
            for value in (1, 2):
                some.publish(Int64(data=value))
            assert some.wait_for_all_acked(Duration(seconds=PATIENCE_S))
            too_early.wait(0.3)  # gives an executor that does not gather the time to show it
            sent.append("other")
            other.publish(Int64(data=0))

        thread = threading.Thread(target=send)
        thread.start()
        while len(bench.log) < 4:
            bench.executor.spin_once(PATIENCE_S)
        thread.join()
        assert sorted(bench.log[1:], key=str) == [(1, 1), (2, 1), "other"]
    finally:
        bench.close()
