"""The executor of every node: rclpy's single-threaded one with a wait set that is kept.

`rclpy.executors.SingleThreadedExecutor` gathers all entities, enters each handle and allocates a wait set for each
wait; a lifecycle node has some sixty entities, so that costs more than what its callbacks do
(`python -m inril_common.executor_benchmark`).
"""

from __future__ import annotations

import inspect
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.clock import ClockType
from rclpy.context import Context
from rclpy.event_handler import EventHandler
from rclpy.exceptions import InvalidHandle
from rclpy.executors import Executor, ExternalShutdownException, SingleThreadedExecutor, TimeoutObject
from rclpy.node import Node
from rclpy.subscription import Subscription
from rclpy.task import Future, Task
from rclpy.time_source import TimeSource
from rclpy.timer import Timer
from rclpy.utilities import timeout_sec_to_nsec

from inril_common.taking import TAKE, Call, is_due
from inril_common.wait_set import KINDS, EntityDestroyed, WaitSet, Work, is_alive
from inril_core.errors import ConfigError

LATER_PERIOD_NS = 250_000_000
"""At least so far apart those entities are looked at that nobody waits for (`_may_come_late`): two thirds of a node's.
At most twice that."""

TIMERS_PERIOD_NS = 300_000
"""Within a round steady timers are looked at this often, where messages are short."""

_ALONG, _GATHERED = "_inril_read_along", "_inril_gathered"
_RARE_SERVICES = ("rcl_interfaces", "type_description_interfaces")
"""Packages whose services rclpy gives each node, about its parameters and types."""
_RARE_LIFECYCLE = ("GetAvailableStates", "GetAvailableTransitions")


class NodeExecutor(Executor):
    """Runs the callbacks of its nodes in the thread that spins.

    Differs from `rclpy.executors.SingleThreadedExecutor` in this:

    * It works in rounds. A round is one wait, then everything that was ready: one call of each timer, one message of
      each subscription (a longer queue is taken in order of arrival, one message a round), one request of each
      service, and so on. `spin_once` still runs one callback.
    * A timer that becomes due during a round runs before the next message, once a round: neither a flood of messages
      nor a slow timer can starve the other.
    * Tasks run in the order of their creation.
    * An entity that was destroyed is left out: it never raises `InvalidHandle` out of the executor.
    * QoS event callbacks of rclpy's own, which log a warning, those with an attribute `may_come_late`, and services
      about parameters, types and possible transitions come up to 0.5 s late; others that a user gives do not.
    * A subscription given to `read_along` wakes nobody: see there. `/clock` is one unless a timer follows it.

    gather_s: after everything that was ready, messages of subscriptions given to `gather` may wait so long, so that
    what comes meanwhile costs one wake-up. Whatever else becomes ready ends that, and is served with what has waited.
    """

    def __init__(self, *, context: Context | None = None, gather_s: float = 0.0) -> None:
        super().__init__(context=context)
        self._gather_ns = round(gather_s * 1e9)
        self._gathers = False
        """Whether something was served since it last rested."""
        self._changed = True
        """Whether entities may have come or gone since they were gathered."""
        self._entities: list[tuple[Any, bool]] | None = None
        """Those that were gathered, and whether they are read along."""
        self._main: WaitSet | None = None
        self._later: WaitSet | None = None
        self._resting: WaitSet | None = None
        """What ends a rest: the main one without the subscriptions that are gathered; None: there are none."""
        self._later_at_ns = 0
        self._along: list[Work] = []
        """Subscriptions that are read along with others."""
        self._ready: deque[Work] = deque()
        self._timers_at_ns = 0
        self._late_timers: list[Work] = []
        """Timers that have not run in this round."""
        self._late_ros_timers: list[Work] = []
        """Those among them that follow simulated time, which any message may have moved."""
        self._round_begun = False
        """Whether something of this round has been served, so that a timer may have become due since the wait."""
        self._tasks_collected = False
        self._depth = 0
        """Callbacks that are running: more than one where a callback spins."""

    def add_node(self, node: Node) -> bool:
        """Serve a node; false if it was served already."""
        added = super().add_node(node)
        self.wake()
        return added

    def remove_node(self, node: Node) -> None:
        """Do not serve a node any more."""
        super().remove_node(node)
        self.wake()

    def wake(self) -> None:
        """Look again which entities there are; nodes call it from any thread when entities come or go."""
        self._changed = True
        guard = self._guard
        if guard is not None:
            with suppress(InvalidHandle):  # another thread may be shutting the executor down
                guard.trigger()

    def shutdown(self, timeout_sec: float | None = None) -> bool:
        """Serve nothing more; a thread that spins returns."""
        done = super().shutdown(timeout_sec)
        self._main = self._later = self._resting = None
        self._entities, self._along = None, []
        self._late_timers, self._late_ros_timers = [], []
        self._ready.clear()
        return done

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """Run one callback; wait for it for at most `timeout_sec` (None or negative: without limit).

        Raises:
            ExternalShutdownException: the context was shut down.
            Exception: whatever the callback raises.
        """
        self._spin_once(timeout_sec, lambda: False)

    def spin_once_until_future_complete(self, future: Future, timeout_sec: float | TimeoutObject | None = None) -> None:
        """As `spin_once`, but returns when the future is done."""

        def wake(_: Future) -> None:
            self.wake()

        future.add_done_callback(wake)
        try:
            self._spin_once(timeout_sec, future.done)
        finally:
            future.remove_done_callback(wake)

    def _spin_once(self, timeout_sec: float | TimeoutObject | None, condition: Callable[[], bool]) -> None:
        given = timeout_sec.timeout if isinstance(timeout_sec, TimeoutObject) else timeout_sec
        timeout_ns = timeout_sec_to_nsec(given)
        deadline_ns = time.monotonic_ns() + timeout_ns
        waited = False
        while not self._is_shutdown and not condition():
            work = self._next()
            if work is not None:
                self._depth += 1
                try:
                    if self._serve(work):
                        return
                finally:
                    self._depth -= 1
            elif not self._collect_tasks():
                left_ns = -1 if timeout_ns < 0 else max(0, deadline_ns - time.monotonic_ns())
                if left_ns == 0 and waited:
                    return
                self._wait(left_ns)
                waited = True

    def _next(self) -> Work | None:
        """What to serve next in this round; None at its end."""
        if self._changed:
            self._refresh()
        if not self._ready:
            return None
        if self._round_begun and self._late_timers:
            now_ns = time.monotonic_ns()
            looked_at = self._late_ros_timers
            if now_ns >= self._timers_at_ns:
                self._timers_at_ns = now_ns + TIMERS_PERIOD_NS
                looked_at = self._late_timers
            for work in looked_at:
                if is_due(work.entity) and self.can_execute(work.entity):
                    self._set_late([late for late in self._late_timers if late is not work])
                    return work
        self._round_begun = True
        return self._ready.popleft()

    def _collect_tasks(self) -> bool:
        """Once a round: run what `create_task` was given, and let the coroutines that wait look again."""
        if self._tasks_collected or not self._tasks:
            return False
        self._tasks_collected = True
        nodes = self.get_nodes()
        with self._tasks_lock:
            self._tasks = [item for item in self._tasks if not item[0].done() and not item[0].cancelled()]
            self._ready.extend(
                Work("task", task, node) for task, _, node in self._tasks if node is None or node in nodes
            )
        return True

    def _wait(self, timeout_ns: int) -> None:
        """Begin a round: wait until there is something to serve, at most `timeout_ns`."""
        main, later = self._main, self._later
        if main is None:  # another thread shuts the executor down
            return
        # Only a coroutine that waits, or a callback that spins, keeps others of its callback group from running.
        may_run = self.can_execute if self._tasks or self._depth else None
        self._tasks_collected = self._round_begun = False
        try:
            now_ns = time.monotonic_ns()
            if now_ns >= self._later_at_ns:
                self._later_at_ns = now_ns + LATER_PERIOD_NS
                self._ready.extend(self._along)
                if later is not None:
                    self._ready.extend(later.wait(0, may_run)[0])
            # no wake-up of its own for them where the caller waits no longer than that anyway
            longest_ns = 0 if self._ready else LATER_PERIOD_NS
            timeout_ns = longest_ns if timeout_ns < 0 else min(timeout_ns, longest_ns)
            if self._resting is not None and self._gathers and timeout_ns:
                ready, late = main.wait(0, may_run)
                if not ready:
                    self._gathers = False
                    rest_ns = min(timeout_ns, self._gather_ns)
                    self._resting.wait(rest_ns, may_run)  # what it finds is still there for the next wait
                    ready, late = main.wait(timeout_ns - rest_ns, may_run)
            else:
                ready, late = main.wait(timeout_ns, may_run)
            self._set_late(late)
        except EntityDestroyed:
            self._entities, self._changed = None, True
            return
        if not self._is_shutdown and not self._context.ok():
            raise ExternalShutdownException()
        if ready:
            self._gathers = True
            self._ready.extend(self._along)
            self._ready.extend(ready)

    def _set_late(self, timers: list[Work]) -> None:
        self._late_timers = timers
        self._late_ros_timers = [work for work in timers if _follows_ros_time(work.entity)]

    def _refresh(self) -> None:
        """Build the wait sets again if entities have come or gone."""
        self._changed = False  # before looking: what changes meanwhile is looked at again
        found = [work for node in self.get_nodes() for work in _works_of(node)]
        entities = [(work.entity, getattr(work.entity, _ALONG, False)) for work in found]
        if self._entities is not None and list(map(_identity, entities)) == list(map(_identity, self._entities)):
            return
        guard, sigint_guard = self._guard, self._sigint_gc
        if guard is None or sigint_guard is None:  # another thread shuts the executor down
            return
        self._entities = entities
        found = [work for work in found if is_alive(work)]
        clock_wakes = any(work.kind == "timer" and _follows_ros_time(work.entity) for work in found)
        along = [work for work in found if _is_along(work, clock_wakes)]
        self._along = [replace(work, along=_queue_length(work.entity)) for work in along]
        later = [work for work in found if _may_come_late(work)]
        apart = {id(work.entity) for work in (*self._along, *later)}
        main = [work for work in found if id(work.entity) not in apart]
        hurried = [work for work in main if not getattr(work.entity, _GATHERED, False)]
        gathers = self._gather_ns > 0 and len(hurried) < len(main)
        self._main = WaitSet(self._context, main, [guard, sigint_guard])
        self._resting = WaitSet(self._context, hurried, [guard, sigint_guard]) if gathers else None
        self._later = WaitSet(self._context, later, []) if later else None
        known = {id(entity) for entity, _ in entities}
        self._ready = deque(work for work in self._ready if work.kind == "task" or id(work.entity) in known)
        self._set_late([work for work in self._late_timers if id(work.entity) in known])

    def _serve(self, work: Work) -> bool:
        """Take what is ready and run its callback, a coroutine up to where it waits; false if nothing was there.

        What is read along is taken as far as it goes and counts as nothing: the caller waits for something else.
        """
        if work.kind == "task":
            return _step(work.entity)
        if work.along:
            for _ in range(work.along):
                if not self._serve_one(work):
                    break
            return False
        return self._serve_one(work)

    def _serve_one(self, work: Work) -> bool:
        entity, group = work.entity, work.entity.callback_group
        if not group.beginning_execution(entity):
            return False
        try:
            call = TAKE[work.kind](entity, work.node)
        except InvalidHandle:
            call = None
        if call is None:
            group.ending_execution(entity)
            return False
        if _is_coroutine(call.callback):
            task = Task(_finish, (call, group, entity), executor=self)
            with self._tasks_lock:
                self._tasks.append((task, entity, work.node))
            return _step(task)
        try:
            result = call.callback(*call.arguments)
            if call.finish is not None:
                call.finish(result)
        finally:
            group.ending_execution(entity)
        return True


def read_along(subscription: Subscription, along: bool = True) -> None:
    """Let a subscription wake nobody: what it has is read before the next thing that is ready, at most 0.5 s later.

    For news that matter only beside others, such as the time. Its queue must hold what can come in between. An
    executor that serves it already must be woken (`Executor.wake`) to take notice.
    """
    setattr(subscription, _ALONG, along)


def gather(subscription: Subscription) -> None:
    """Let messages of a subscription wait for others, for as long as its node's `gather_s` says.

    For what nobody waits for. Its queue must hold what can come in between. Before an executor serves it.
    """
    setattr(subscription, _GATHERED, True)


EXECUTORS: dict[str, type[Executor]] = {"inril": NodeExecutor, "rclpy": SingleThreadedExecutor}


def chosen_executor(gather_s: float = 0.0) -> Executor:
    """The executor of a node's process: `NodeExecutor`; for measurements another one of `EXECUTORS`.

    gather_s: as for `NodeExecutor`.

    Raises:
        ConfigError: the environment variable `INRIL_EXECUTOR` names none.
    """
    name = os.environ.get("INRIL_EXECUTOR", "inril")
    if name not in EXECUTORS:
        raise ConfigError(f"INRIL_EXECUTOR = {name!r}: give one of {list(EXECUTORS)}, or unset it")
    return NodeExecutor(gather_s=gather_s) if name == "inril" else EXECUTORS[name]()


async def _finish(call: Call, group: CallbackGroup, entity: Any) -> None:
    try:
        result = await call.callback(*call.arguments)
        if call.finish is not None:
            call.finish(result)
    finally:
        group.ending_execution(entity)


def _step(task: Task) -> bool:
    """Run a task, or its coroutine up to where it waits again; raises what it raised."""
    if task.done() or task.cancelled() or task.executing():
        return False
    task()
    if task.done():
        task.result()
    return True


def _works_of(node: Node) -> Iterator[Work]:
    """What rclpy keeps in a node's lists, in the order of its creation."""
    for kind, entities in zip(
        (*KINDS, "waitable"),
        (node.timers, node.subscriptions, node.guards, node.clients, node.services, node.waitables),
        strict=True,
    ):
        for entity in entities:
            yield Work(kind, entity, node)


def _identity(entity: tuple[Any, bool]) -> tuple[int, bool]:
    return id(entity[0]), entity[1]


def _may_come_late(work: Work) -> bool:
    """Whether nobody waits for it: a QoS event callback that rclpy adds by itself, or one that says so; a service about
    parameters, types or possible transitions."""
    if work.kind == "service":
        service = work.entity.srv_type
        return service.__module__.split(".")[0] in _RARE_SERVICES or service.__name__ in _RARE_LIFECYCLE
    if not isinstance(work.entity, EventHandler):
        return False
    callback = work.entity.callback
    return getattr(callback, "__module__", "") == EventHandler.__module__ or getattr(callback, "may_come_late", False)


def _is_along(work: Work, clock_wakes: bool) -> bool:
    """Whether it is a subscription that wakes nobody; that of the time source is one where no timer follows it."""
    if work.kind != "subscription":
        return False
    of_time = isinstance(getattr(work.entity.callback, "__self__", None), TimeSource)
    return (of_time and not clock_wakes) or getattr(work.entity, _ALONG, False)


def _follows_ros_time(timer: Timer) -> bool:
    return timer.clock.clock_type == ClockType.ROS_TIME


def _queue_length(subscription: Subscription) -> int:
    return max(1, subscription.qos_profile.depth)


def _is_coroutine(callback: Callable[..., Any]) -> bool:
    """As `inspect.iscoroutinefunction`, at once for functions and methods."""
    code = getattr(getattr(callback, "__func__", callback), "__code__", None)
    return inspect.iscoroutinefunction(callback) if code is None else bool(code.co_flags & inspect.CO_COROUTINE)
