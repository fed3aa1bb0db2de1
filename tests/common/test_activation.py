"""Pins: a node that speaks before anybody hears it, and one kept down for ever because another is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import rclpy
from inril_common.node import UNHEARD_TIMEOUT_NS, InrilNode
from inril_common.qos import TICK
from inril_msgs.msg import Target
from rclpy.lifecycle import TransitionCallbackReturn


class Speaker(InrilNode):
    """Has a publisher whose subscriber it expects, and a clock that the test turns."""

    def __init__(self) -> None:
        super().__init__("speaker")
        self.now_ns = 0

    def setup(self) -> None:
        self.create_publisher(Target, "/spoken", TICK)

    def mono_ns(self) -> int:
        return self.now_ns


@pytest.fixture
def speaker(domain: int) -> Iterator[Speaker]:
    rclpy.init(domain_id=domain, args=["--ros-args", "-p", "expected_subscribers:=/spoken:1"])
    node = Speaker()
    assert node.on_configure(None) == TransitionCallbackReturn.SUCCESS  # type: ignore[arg-type]
    yield node
    node.destroy_node()
    rclpy.shutdown()


def activated(node: Speaker) -> bool:
    return node.on_activate(None) == TransitionCallbackReturn.SUCCESS  # type: ignore[arg-type]


def test_it_waits_for_its_subscriber_but_not_for_ever(speaker: Speaker) -> None:
    assert not activated(speaker)
    speaker.now_ns = UNHEARD_TIMEOUT_NS - 1
    assert not activated(speaker)
    speaker.now_ns = UNHEARD_TIMEOUT_NS
    assert activated(speaker)


def test_it_is_active_at_once_when_it_is_heard(speaker: Speaker) -> None:
    speaker.create_subscription(Target, "/spoken", lambda message: None, TICK)
    assert activated(speaker)
