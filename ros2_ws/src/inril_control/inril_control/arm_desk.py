"""Arms and disarms arm and arbiter for the people at this machine: one request, no discovery on the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inril_common.calls import Calls
from inril_common.control_socket import ControlSocket, Reply, Request
from inril_common.node import InrilNode
from inril_msgs.srv import Arm

from inril_core.errors import ConfigError
from inril_core.people import sayable
from inril_core.safety.faults import Fault

POLL_S = 0.02
"""While a request is under way; else nothing is polled."""
TRY_PERIOD_S = 0.1
ROBOT_TIMEOUT_S = 5.0
REARM_TIMEOUT_S = 5.0
"""Far longer than an arm takes to publish a state without needs_rearm after it was armed."""

PASSING_FAULTS = (Fault.ROBOT_NEEDS_REARM, Fault.ROBOT_FAULT, Fault.TELEOP_LOST)
"""The arm, or the person's device, may say within that time that it is ready."""

SetArmed = Callable[[bool, str], tuple[bool, str]]


class ArmDesk:
    """Serves `arm`, `disarm` and `status` on the graph's control socket, beside the service arbiter/arm.

    Arming asks the arm's own watchdog (robot/arm, where it is served), waits until the arm's state says that it lets
    go, and arms the arbiter. Disarming disarms the arbiter first, in the same callback, and then tells the arm.
    """

    def __init__(self, node: InrilNode, set_armed: SetArmed, status: Callable[[], dict[str, Any]]) -> None:
        """Listen, if the launcher gives a socket.

        Args:
            set_armed: arms (True) or disarms the arbiter for a person of that name; success and message.
            status: the arbiter's state as JSON values.

        Raises:
            ConfigError: the socket cannot be made.
        """
        self._node, self._set_armed, self._status = node, set_armed, status
        self._calls = Calls(node)
        self._calls.not_served(Arm, "robot/arm")  # makes the client, so that it is matched long before it is needed
        self._arming: tuple[str, Reply, int] | None = None
        self._asks_robot = False
        self._next_try_ns = 0
        path = node.param("control_socket", "", "Unix socket of `inril arm` and `inril disarm`; empty: none")
        self._timer = node.steady_timer(POLL_S, node.guarded(self._poll))
        try:
            self._socket = ControlSocket(node, Path(path), self._on_request) if path else None
        except OSError as error:
            raise ConfigError(f"control_socket = {path}: {error}; give a short path in a writable folder") from error

    def close(self) -> None:
        """Stop listening; nobody is armed or disarmed by it."""
        self._calls.cancel()
        self._node.destroy_timer(self._timer)
        if self._socket is not None:
            self._socket.close()

    def _on_request(self, request: Request, reply: Reply) -> None:
        self._timer.reset()
        name = sayable(request.get("operator_name", ""))
        other = self._node.meant_for_another(sayable(request.get("graph_id", "")))
        asked = request.get("ask")
        if other:
            reply(False, other)
        elif asked == "arm":
            self._arm(name, reply)
        elif asked == "disarm":
            self._disarm(name, reply)
        elif asked == "status":
            reply(True, json.dumps(self._status()))
        else:
            reply(False, f"ask = {asked!r:.40}: give arm, disarm or status")

    def _arm(self, name: str, reply: Reply) -> None:
        self._give_up("somebody else asked to arm meanwhile")
        deadline_ns = self._node.mono_ns() + round((ROBOT_TIMEOUT_S + REARM_TIMEOUT_S) * 1e9)
        arming = self._arming = (name, reply, deadline_ns)

        def answered(answer: Arm.Response) -> None:
            if self._arming is arming:
                if answer.success:
                    self._try_arbiter()
                else:
                    self._give_up(f"robot/arm: {answer.message or 'refused without a reason'}")

        def failed(reason: str) -> None:
            if self._arming is arming:
                self._give_up(reason)

        if self._calls.not_served(Arm, "robot/arm"):
            self._try_arbiter()  # an arm without a watchdog of its own; the arbiter refuses where one holds
            return
        self._asks_robot = True
        self._call_robot(True, name, answered, failed)

    def _try_arbiter(self) -> None:
        """Arm the arbiter; while it has not heard that arm and device are ready, `_poll` tries again."""
        self._asks_robot = False
        self._next_try_ns = self._node.mono_ns() + round(TRY_PERIOD_S * 1e9)
        if self._arming is None:
            return
        name, reply, deadline_ns = self._arming
        success, message = self._set_armed(True, name)
        passing = any(fault in message for fault in PASSING_FAULTS)
        if not success and passing and self._node.mono_ns() < deadline_ns:
            return
        self._arming = None
        reply(success, message)

    def _disarm(self, name: str, reply: Reply) -> None:
        success, message = self._set_armed(False, name)
        self._give_up(f"{name!r} disarmed meanwhile")

        def answered(answer: Arm.Response) -> None:
            told = message if answer.success else f"{message}; robot/arm: {answer.message}"
            reply(success and answer.success, told)

        if self._calls.not_served(Arm, "robot/arm"):
            reply(success, f"{message}; robot/arm is not served")
            return
        self._call_robot(False, name, answered, lambda reason: reply(False, f"{message}; but {reason}"))

    def _give_up(self, reason: str) -> None:
        if self._arming is not None:
            reply, self._arming = self._arming[1], None
            reply(False, f"not armed: {reason}")

    def _call_robot(self, arm: bool, name: str, answered: Callable[[Any], None], failed: Callable[[str], None]) -> None:
        request = Arm.Request(graph_id=self._node.graph_id, arm=arm, operator_name=name)
        self._calls.call(Arm, "robot/arm", request, self._node.mono_ns(), ROBOT_TIMEOUT_S, answered, failed)

    def _poll(self) -> None:
        now_ns = self._node.mono_ns()
        self._calls.poll(now_ns)
        if self._arming is not None and not self._asks_robot and now_ns >= self._next_try_ns:
            self._try_arbiter()
        if self._arming is None and not self._calls.pending:
            self._timer.cancel()
