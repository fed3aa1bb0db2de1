"""Brings a lifecycle node up by what it says of itself, so that an answer that is late or lost does no harm."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState

_NEXT = {
    State.PRIMARY_STATE_UNCONFIGURED: Transition.TRANSITION_CONFIGURE,
    State.PRIMARY_STATE_INACTIVE: Transition.TRANSITION_ACTIVATE,
}


Ask = Callable[[Any, str, Any], Any]
"""Asks (kind, service, request) once; None if no answer came within the time that the test gives it."""


def bring_up(name: str, ask: Ask, timeout_s: float) -> None:
    """Configure and activate the node; AssertionError if it refuses or is not active in time.

    A transition is asked for again only from the state that calls for it: one that was made, but
    answered too late, would be refused, and a refused transition is not answered at all.
    """
    deadline = time.monotonic() + timeout_s
    state: int | None = None
    while time.monotonic() < deadline:
        answer = ask(GetState, f"/{name}/get_state", GetState.Request())
        state = answer.current_state.id if answer is not None else None
        if state == State.PRIMARY_STATE_ACTIVE:
            return
        if state in _NEXT:
            request = ChangeState.Request(transition=Transition(id=_NEXT[state]))
            changed = ask(ChangeState, f"/{name}/change_state", request)
            assert changed is None or changed.success, f"{name} refuses transition {_NEXT[state]}"
    raise AssertionError(f"{name} is not active within {timeout_s:.0f} s; its last state is {state}")
