"""A wait set that is built once for a list of entities and filled again for each wait."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import call
from typing import Any

from rclpy.context import Context
from rclpy.event_handler import EventHandler
from rclpy.exceptions import InvalidHandle
from rclpy.impl.implementation_singleton import rclpy_implementation as _rclpy
from rclpy.waitable import NumberOfEntities

KINDS = ("timer", "subscription", "guard_condition", "client", "service")
"""What rcl itself can wait for, in the order in which it is served."""


@dataclass(frozen=True, eq=False, slots=True)
class Work:
    """Something that can become ready."""

    kind: str
    """One of `KINDS`, `waitable` (QoS events, actions) or `task`."""
    entity: Any
    node: Any
    """The node that owns it; None for a task that belongs to no node."""
    along: int = 0
    """Above 0: it wakes nobody, and so many messages of it are read along with others at most."""


class EntityDestroyed(Exception):
    """An entity of the wait set does not exist any more: the set must be built again."""


def is_alive(work: Work) -> bool:
    """Whether the middleware's part of an entity still exists."""
    held = work.entity if work.kind == "waitable" else work.entity.handle
    try:
        held.__enter__()
    except InvalidHandle:
        return False
    held.__exit__(None, None, None)
    return True


class WaitSet:
    """The C wait set of one list of entities.

    rcl overwrites a wait set while it waits, so it must be filled again from the C handles; what is saved is to gather
    and count the entities and to allocate the set. Handles are held only while it waits: where another thread destroys
    an entity meanwhile, that takes effect when the wait ends; where a callback does, at once.

    Args:
        works: what to wait for.
        wakers: guard conditions that only end the wait.
    """

    def __init__(self, context: Context, works: Sequence[Work], wakers: Sequence[Any]) -> None:
        self._context = context
        self._works = {kind: [work for work in works if work.kind == kind] for kind in KINDS}
        self._waitables = [work for work in works if work.kind == "waitable"]
        self._only_events = all(isinstance(work.entity, EventHandler) for work in self._waitables)
        """Whether no waitable can have more entities than before."""
        self._wakers = [waker.handle for waker in wakers]
        self._handles = self._handles_of(self._works)
        self._by_pointer = {work.entity.handle.pointer: work for some in self._works.values() for work in some}
        held = [context.handle, *(handle for handles in self._handles.values() for handle in handles)]
        held += [work.entity for work in self._waitables]
        self._enters = [one.__enter__ for one in held]
        self._exits = [one.__exit__ for one in held]
        self._size: tuple[int, ...] = ()
        self._set: Any = None
        self._adders: dict[str, Callable[[Any], Any]] = {}

    def wait(self, timeout_ns: int, may_run: Callable[[Any], bool] | None = None) -> tuple[list[Work], list[Work]]:
        """Wait until an entity is ready, at most `timeout_ns`; without limit if that is negative.

        Args:
            may_run: entities for which it is false are left out; None: all may run.

        Returns:
            What is ready, in the order in which to serve it, and the timers that are not ready.

        Raises:
            EntityDestroyed: an entity does not exist any more.
        """
        entered: list[Any] = []
        try:
            entered.extend(map(call, self._enters))  # loops in C; keeps what came before an exception
            waitables = self._fill(may_run)
            self._set.wait(timeout_ns)
            return self._ready(waitables)
        except InvalidHandle as error:
            raise EntityDestroyed from error
        finally:
            for leave in self._exits[: len(entered)]:
                leave(None, None, None)

    def _fill(self, may_run: Callable[[Any], bool] | None) -> Sequence[Work]:
        works, handles, waitables = self._works, self._handles, self._waitables
        if may_run is not None:
            works = {kind: [work for work in works[kind] if may_run(work.entity)] for kind in KINDS}
            handles = self._handles_of(works)
            waitables = [work for work in waitables if may_run(work.entity)]
        for work in works["guard_condition"]:
            if work.entity._executor_triggered:  # seen before, but its callback was not allowed to run then
                work.entity.trigger()
        if self._set is None or not self._only_events:
            self._make_room(self._waitables)
        self._set.clear_entities()
        for kind, add in self._adders.items():
            deque(map(add, handles[kind]), maxlen=0)
        for work in waitables:
            work.entity.add_to_wait_set(self._set)
        return waitables

    def _handles_of(self, works: Mapping[str, list[Work]]) -> dict[str, list[Any]]:
        handles = {kind: [work.entity.handle for work in works[kind]] for kind in KINDS}
        handles["guard_condition"] += self._wakers
        return handles

    def _make_room(self, waitables: Sequence[Work]) -> None:
        """Build the set for all entities; again if a waitable has more of them than before."""
        of_kind = {kind: len(handles) for kind, handles in self._handles.items()}
        count = NumberOfEntities(
            num_subs=of_kind["subscription"],
            num_gcs=of_kind["guard_condition"],
            num_timers=of_kind["timer"],
            num_clients=of_kind["client"],
            num_services=of_kind["service"],
        )
        for work in waitables:
            count += work.entity.get_num_entities()
        size = tuple(getattr(count, name) for name in NumberOfEntities.__slots__)
        if self._set is None or any(need > have for need, have in zip(size, self._size, strict=True)):
            self._size = size
            self._set = _rclpy.WaitSet(*size, self._context.handle)
            self._adders = {kind: getattr(self._set, f"add_{kind}") for kind in KINDS}

    def _ready(self, waitables: Sequence[Work]) -> tuple[list[Work], list[Work]]:
        timers = self._ready_of("timer")
        guards = self._ready_of("guard_condition")
        for work in guards:
            work.entity._executor_triggered = True  # rcl has reset it: what is not served now must not be lost
        ready = [
            *timers,
            *(work for work in waitables if work.entity.is_ready(self._set)),
            *self._ready_of("subscription"),
            *guards,
            *self._ready_of("client"),
            *self._ready_of("service"),
        ]
        return ready, [work for work in self._works["timer"] if work not in timers]

    def _ready_of(self, kind: str) -> list[Work]:
        if not self._works[kind]:
            return []
        found = map(self._by_pointer.get, self._set.get_ready_entities(kind))
        return [work for work in found if work is not None]
