"""Pins: a message that ends a node, a silent error, and a link called stale that is silent by design."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from inril_common.diagnostics import control_health, link_health
from inril_common.links import LinkMonitor
from inril_common.node import InrilPlainNode, NodeFinished
from inril_msgs.srv import Arm

S = 1_000_000_000


class Turned(InrilPlainNode):
    """A clock that the test turns, and what the node logs."""

    def __init__(self) -> None:
        super().__init__("turned")
        self.now_ns, self.logged = S, []

    def mono_ns(self) -> int:
        return self.now_ns

    def get_logger(self) -> Turned:  # type: ignore[override]
        return self

    def error(self, text: str) -> None:
        self.logged.append(text)


@pytest.fixture
def node(domain: int) -> Iterator[Turned]:
    rclpy.init(domain_id=domain)
    made = Turned()
    yield made
    made.end()
    made.destroy_node()
    rclpy.shutdown()


def lines(node: Turned) -> dict[str, DiagnosticStatus]:
    return {status.name.removeprefix("turned: "): status for status in node.diagnostics.statuses()}


def test_what_a_message_makes_a_callback_raise_is_logged_counted_and_reported(node: Turned) -> None:
    def on_message(message: object) -> None:
        raise KeyError("leg")

    heard = node.guarded(on_message)
    for _ in range(50):
        heard("message")
    assert len(node.logged) == 1 and "on_message failed" in node.logged[0] and "Traceback" in node.logged[0]
    node.now_ns += S
    heard("message")
    assert len(node.logged) == 2 and "51 times" in node.logged[1]
    status = lines(node)["callbacks"]
    assert status.level == DiagnosticStatus.ERROR and "KeyError: 'leg'" in status.message
    assert lines(node)["callbacks"].level == DiagnosticStatus.WARN, "nothing since the last report"


def test_a_request_that_fails_is_answered(node: Turned) -> None:
    def serve(request: Arm.Request, response: Arm.Response) -> Arm.Response:
        response.success = True
        raise ZeroDivisionError("by zero")

    response = node.guarded(serve)(Arm.Request(), Arm.Response())
    assert not response.success and "ZeroDivisionError: by zero" in response.message


def test_what_comes_after_the_end_is_left_out_and_a_node_that_begins_again_hears(node: Turned) -> None:
    """Pins: weights announced while a node ends, which meet what was closed; an error in the log of every good run."""
    heard: list[str] = []
    hear = node.guarded(heard.append)
    serve = node.guarded(lambda request, response: response)
    node.diagnostics.close()
    hear("late")
    response = serve(Arm.Request(), Arm.Response(success=True))
    assert not heard and not node.logged and not response.success and "turned has ended" in response.message
    node.guarded(print)
    hear("again")
    assert heard == ["again"]


def test_a_node_may_still_finish(node: Turned) -> None:
    def finish() -> None:
        raise NodeFinished

    with pytest.raises(NodeFinished):
        node.guarded(finish)()


def test_a_refused_message_is_named_and_lets_the_link_grow_stale(node: Turned) -> None:
    link = node.link("robot_state", 0.3)
    link.saw(node.now_ns)
    assert lines(node)["robot_state"].level == DiagnosticStatus.OK
    node.now_ns += S
    node.diagnostics.refuse(link, "tool_pose: NaN")
    status = lines(node)["robot_state"]
    assert status.level == DiagnosticStatus.ERROR and "tool_pose: NaN" in status.message
    assert node.logged == ["robot_state: message left out: tool_pose: NaN"]
    assert lines(node)["robot_state"].level == DiagnosticStatus.STALE, "by now no message came at all"
    assert {v.key: v.value for v in lines(node)["robot_state"].values}["refused"] == "1"


@pytest.mark.parametrize("heard", [False, True])
def test_silence_by_design_is_idle(heard: bool) -> None:
    idle = True
    link = LinkMonitor("observation", 0.3, lambda: idle)
    if heard:
        link.saw(0)
    health = link_health(link.report(10 * S))
    assert (health.level, health.message) == (DiagnosticStatus.OK, "idle")
    idle = False
    health = link_health(link.report(11 * S))
    assert (health.level, health.message) == (DiagnosticStatus.STALE, "stale")


def test_who_is_in_control_and_what_forbids_it_is_said() -> None:
    assert control_health(False, "hold", {}).message == "not armed"
    assert control_health(True, "policy", {}).message == "armed, policy in control"
    broken = control_health(False, "hold", {"robot_state_stale": "start the driver, then arm"})
    assert broken.level == DiagnosticStatus.ERROR
    assert broken.message == "robot_state_stale: start the driver, then arm"
    assert broken.values["armed"] is False and broken.values["faults"] == "robot_state_stale"
