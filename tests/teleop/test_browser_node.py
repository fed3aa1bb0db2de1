"""Pins: what a page says that does not reach teleop_action, or that reaches it without its operator's name."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("rclpy")

from inril_common.qos import LATCHED, TICK
from inril_msgs.msg import PageInput, TeleopAction, TeleopStatus
from inril_session.teleop_node import TeleopNode

from tests.sim.nodes import bench


def test_a_page_drives_through_teleop_node() -> None:
    with bench(TeleopNode, device="browser", device_settings="{max_age_s: 5.0}") as teleop:
        actions = teleop.hear(TeleopAction, "teleop_action")
        statuses: list[TeleopStatus] = []
        teleop.client.create_subscription(TeleopStatus, "teleop_status", statuses.append, LATCHED)
        teleop.until(lambda: statuses and "Take control" in statuses[-1].trouble, "a device that nobody is at")
        assert not actions
        pages = teleop.client.create_publisher(PageInput, "page_input", TICK)
        seq = 0

        def says(grab: bool, released: bool = False) -> None:
            nonlocal seq
            seq += 1
            message = PageInput(client_id="1-a", operator_name="Ada", seq=seq, grab=grab, released=released)
            message.header.stamp = teleop.client.get_clock().now().to_msg()
            message.motion, message.gripper = [0.5 * grab, 0.0, 0.0, 0.0, 0.0, 0.0], math.nan
            pages.publish(message)

        def hears(grab: bool, released: bool = False) -> TeleopAction:
            def heard() -> bool:
                says(grab, released)
                return bool(actions) and (actions[-1].grab, actions[-1].released) == (grab, released)

            teleop.until(heard, f"grab {grab}, released {released}")
            return actions[-1]

        hears(False)
        teleop.until(lambda: statuses[-1].trouble == "", "a device that works")
        said = hears(True)
        assert said.action[0] == pytest.approx(0.5) and said.operator_name == "Ada" and said.frame == "base"
        assert said.device == "browser" and not said.synchronous
        assert hears(False, released=True).action[0] == 0.0
