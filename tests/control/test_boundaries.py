"""Pins: a message, a request or a name that ends the arbiter instead of holding the arm."""

import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")

from inril_control.arbiter_node import ArbiterNode
from inril_msgs.srv import Arm

from inril_core.people import sayable
from tests.sim.nodes import Bench, bench

EVERYTHING = {"expects_recorder": True, "expects_session": True, "expects_device": True, "expects_monitor": True}
CALLBACKS = sorted(name for name in vars(ArbiterNode) if name.startswith("_on_"))
NAMES = ["\ud800x", "a\0b", "j\udcf6rg", "\n\x1b[2J", "x" * 10_000]


def raising(name: str) -> type[ArbiterNode]:
    """The arbiter, one of whose callbacks has an error."""

    def fails(*_: Any) -> Any:
        raise ValueError("unforeseen")

    return type("Raising", (ArbiterNode,), {name: fails})


def faults(arbiter: Bench) -> list[str]:
    return list(arbiter.node._arbiter.faults.named())


@pytest.mark.parametrize("name", CALLBACKS)
def test_whatever_a_callback_raises_is_a_latched_fault(name: str) -> None:
    with bench(raising(name), real_time_factor=1.0, **EVERYTHING) as arbiter:
        heard = [one for one in arbiter.node.subscriptions if one.topic_name == f"/{name.removeprefix('_on_')}"]
        speakers = [arbiter.client.create_publisher(one.msg_type, one.topic_name, one.qos_profile) for one in heard]
        arm = arbiter.client.create_client(Arm, "arbiter/arm")

        def failed() -> bool:
            for speaker in speakers:
                speaker.publish(speaker.msg_type())
            if name == "_on_arm" and arm.service_is_ready():
                arm.call_async(Arm.Request(operator_name="ada"))
            return "internal_error" in faults(arbiter)

        arbiter.until(failed, f"internal_error of {name}")
        arbiter.until(lambda: arbiter.call(Arm, "arbiter/arm", Arm.Request()) is not None, "life afterwards")


@pytest.mark.parametrize("name", NAMES)
def test_no_name_ends_the_arbiter(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with bench(ArbiterNode, real_time_factor=1.0, control_socket=str(path)) as arbiter:
        for request in ({"ask": "arm", "operator_name": name}, {"ask": "disarm", "operator_name": name}, {"ask": name}):
            assert said(arbiter, path, request)["message"]
        assert "internal_error" not in faults(arbiter)


def test_a_request_that_fails_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.sock"
    with bench(raising("_set_armed"), real_time_factor=1.0, control_socket=str(path)) as arbiter:
        assert said(arbiter, path, {"ask": "arm"}) == {
            "success": False,
            "message": "ValueError: unforeseen; the node's log has the traceback",
        }
        assert "internal_error" in faults(arbiter)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_can_be_written_anywhere(name: str) -> None:
    text = sayable(name)
    assert text.encode() and text.isprintable() and 0 < len(text) <= 100


def said(arbiter: Bench, path: Path, request: dict[str, str]) -> Any:
    """What a request on the control socket is answered."""
    answers: list[bytes] = []
    threading.Thread(target=lambda: answers.append(_asked(path, request)), daemon=True).start()
    arbiter.until(lambda: answers, "answer")
    return json.loads(answers[0])


def _asked(path: Path, request: dict[str, str]) -> bytes:
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(60.0)
        caller.connect(str(path))
        caller.sendall(json.dumps(request)[:4000].encode() + b"\n")
        return caller.recv(65536)
