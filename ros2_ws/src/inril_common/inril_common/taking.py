"""How each kind of entity is taken from the middleware, and what is to be called then."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from rclpy.exceptions import InvalidHandle
from rclpy.subscription import Subscription


class Call(NamedTuple):
    """A callback that is due."""

    callback: Callable[..., Any]
    """A function or a coroutine function."""
    arguments: tuple[Any, ...] = ()
    finish: Callable[[Any], None] | None = None
    """Takes the callback's result."""


def is_due(timer: Any) -> bool:
    """Whether a timer's time has come by its own clock; false if it was cancelled or destroyed."""
    try:
        with timer.handle:
            return bool(timer.handle.is_timer_ready())
    except InvalidHandle:
        return False


def _timer(timer: Any, node: Any) -> Call | None:
    with timer.handle:
        if not timer.handle.is_timer_ready():  # cancelled, reset or called since the wait
            return None
        timer.handle.call_timer()
    return Call(timer.callback)


def _subscription(subscription: Any, node: Any) -> Call | None:
    with subscription.handle:
        taken = subscription.handle.take_message(subscription.msg_type, subscription.raw)
    if taken is None:
        return None
    if subscription._callback_type is Subscription.CallbackType.MessageOnly:
        return Call(subscription.callback, (taken[0],))
    return Call(subscription.callback, tuple(taken))


def _guard_condition(guard: Any, node: Any) -> Call | None:
    if not guard._executor_triggered:  # served since the wait
        return None
    guard._executor_triggered = False
    return Call(guard.callback)


def _client(client: Any, node: Any) -> Call | None:
    with client.handle:
        header, response = client.handle.take_response(client.srv_type.Response)
    if header is None:
        return None
    try:
        future = client.get_pending_request(header.request_id.sequence_number)
    except KeyError:  # nobody waits for it any more
        return None
    future._set_executor(node.executor)
    return Call(future.set_result, (response,))


def _service(service: Any, node: Any) -> Call | None:
    with service.handle:
        request, header = service.handle.service_take_request(service.srv_type.Request)
    if header is None:
        return None

    def answer(response: Any) -> None:
        try:
            service.send_response(response, header)
        except InvalidHandle:
            node.get_logger().warning(f"{service.srv_name} was destroyed before it answered a request")

    return Call(service.callback, (request, service.srv_type.Response()), answer)


def _waitable(waitable: Any, node: Any) -> Call | None:
    data = waitable.take_data()
    for future in waitable._futures:
        future._set_executor(node.executor)
    return Call(waitable.execute, (data,))


TAKE: Mapping[str, Callable[[Any, Any], Call | None]] = {
    "timer": _timer,
    "subscription": _subscription,
    "guard_condition": _guard_condition,
    "client": _client,
    "service": _service,
    "waitable": _waitable,
}
"""By kind: called with the entity and its node; None if there is nothing to call.

Raises:
    InvalidHandle: the entity was destroyed.
"""
