"""Pins: Joy, JointState and PoseStamped of another node reach a device over DDS; who says nothing is named before the
arm is armed; buttons reach the session."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("rclpy")

from geometry_msgs.msg import PoseStamped
from inril_common.convert import ns_to_stamp
from inril_msgs.msg import ExecutedAction
from inril_msgs.srv import Arm, SessionCommand
from rclpy.node import Node
from sensor_msgs.msg import JointState, Joy

from tests.teleop.cell import ARM, Cell, running

AXES = [0.0] * 6
PAD = [0] * 11
GRAB, HAND_BACK, SUCCESS = 5, 1, 3


class Peer:
    """A driver of somebody else."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.node = Node("driver")
        self._joy = self.node.create_publisher(Joy, "/joy", 10)
        self._joints = self.node.create_publisher(JointState, "/leader/joint_states", 10)
        self._pose = self.node.create_publisher(PoseStamped, "/hand/pose", 10)
        self.age_ns = 0
        self.said = self.taken = 0
        inbox = cell._nodes[0]._device.inbox
        self._put = inbox.put
        inbox.put = self._take

    def _take(self, *message: Any) -> None:
        self._put(*message)
        self.taken += 1

    def joy(self, axes: list[float] | None = None, *down: int) -> None:
        buttons = [int(index in down) for index in range(len(PAD))]
        self._say(self._joy, Joy(axes=axes or AXES, buttons=buttons))

    def joints(self, positions: list[float]) -> None:
        names = [f"fr3_joint{number}" for number in range(1, 8)]
        self._say(self._joints, JointState(name=names, position=positions))

    def pose(self, x_m: float) -> None:
        message = PoseStamped()
        message.pose.position.x = x_m
        self._say(self._pose, message)

    def _say(self, publisher: Any, message: Any) -> None:
        message.header.stamp = ns_to_stamp(self.cell.now_ns - self.age_ns)
        self.cell.until(publisher.get_subscription_count, "subscription")
        publisher.publish(message)
        self.said += 1


@contextmanager
def with_peer(**parameters: Any) -> Iterator[tuple[Cell, Peer]]:
    with running(expects_device=True, **parameters) as cell:
        peer = Peer(cell)
        try:
            yield cell, peer
        finally:
            peer.node.destroy_node()


def reads(cell: Cell, peer: Peer, say: Any, condition: Any, what: str) -> None:
    """Let time pass, with the driver's messages, until it holds."""

    def step() -> Any:
        say()
        cell.until(lambda: peer.taken >= peer.said, "messages of the driver")
        return cell.step() and condition()

    cell.until(step, what)


def test_a_joystick_drives_after_it_was_heard_and_says_how_the_episode_ends() -> None:
    with with_peer(device="joy") as (cell, peer):
        said: list[SessionCommand.Request] = []

        def serve(request: Any, response: Any) -> Any:
            said.append(request)
            response.success = True
            return response

        cell.client.create_service(SessionCommand, "/session/command", serve)
        cell.until(
            lambda: cell.pass_time() and cell.devices and "nothing was heard" in cell.devices[-1].trouble, "named"
        )
        cause = "topic joy (sensor_msgs/msg/Joy): nothing was heard; start it"
        refused = lambda: cell.pass_time() and cause in cell.call(Arm, "/arbiter/arm", ARM).message  # noqa: E731
        cell.until(refused, "a refusal that names the cause")
        reads(cell, peer, peer.joy, lambda: not cell.devices[-1].trouble, "joystick")
        reads(cell, peer, peer.joy, lambda: cell.call(Arm, "/arbiter/arm", ARM).success, "arming")
        up = [0.0, 0.0, 0.0, 0.0, 1.0, 0.0]
        reads(cell, peer, lambda: peer.joy(up, GRAB), lambda: cell.targets and not cell.targets[-1].hold, "motion")
        assert cell.said[-1].grab and cell.said[-1].action[2] == pytest.approx(1.0)
        assert cell.said[-1].device == "joy" and cell.said[-1].frame == "base"
        reads(cell, peer, lambda: peer.joy(AXES, SUCCESS), lambda: said, "success of the button")
        reads(cell, peer, lambda: peer.joy(AXES, SUCCESS), lambda: len(cell.said) > 3, "more readings")
        assert [request.command for request in said] == [SessionCommand.Request.SUCCESS]
        assert said[0].by == "joy"


def test_a_driver_that_dies_while_its_button_is_held_stops_the_arm_and_comes_back_idle() -> None:
    with with_peer(device="joy") as (cell, peer):
        reads(cell, peer, peer.joy, lambda: cell.devices and not cell.devices[-1].trouble, "joystick")
        reads(cell, peer, peer.joy, lambda: cell.call(Arm, "/arbiter/arm", ARM).success, "arming")
        up = [0.0, 0.0, 0.0, 0.0, 1.0, 0.0]
        reads(cell, peer, lambda: peer.joy(up, GRAB), lambda: cell.targets and not cell.targets[-1].hold, "motion")
        cell.until(lambda: cell.step() and "teleop_lost" in cell.faults, "fault")
        assert not any(cell.said[-1].action), "the last word before the silence is to hold"
        count = len(cell.said)
        reads(cell, peer, lambda: peer.joy(up, GRAB), lambda: len(cell.said) > count, "driver again")
        assert not cell.said[-1].grab and not any(cell.said[-1].action)
        held = lambda: "let go of it" in cell.devices[-1].trouble  # noqa: E731
        reads(cell, peer, lambda: peer.joy(up, GRAB), held, "a device that must be let go of")
        assert not cell.call(Arm, "/arbiter/arm", ARM).success
        reads(cell, peer, peer.joy, lambda: not cell.devices[-1].trouble, "rest")
        reads(cell, peer, peer.joy, lambda: cell.call(Arm, "/arbiter/arm", ARM).success, "arming")


def test_a_leader_arm_leads() -> None:
    with with_peer(device="leader") as (cell, peer):
        rest = [0.0, 0.2, 0.0, -2.1, 0.0, 2.3, 0.785]

        def say(*down: int) -> None:
            peer.joints(rest)
            peer.joy(AXES, *down)

        reads(cell, peer, say, lambda: cell.devices and not cell.devices[-1].trouble, "leader")
        reads(cell, peer, say, lambda: cell.call(Arm, "/arbiter/arm", ARM).success, "arming")
        reads(cell, peer, lambda: say(0), lambda: cell.said[-1].grab and any(cell.said[-1].action), "leading")
        peer.age_ns = 600_000_000
        reads(cell, peer, lambda: say(0), lambda: "teleop_lost" in cell.faults, "old messages refused")
        assert not any(cell.said[-1].action)


def test_a_tracked_hand_moves_the_tool_by_its_own_way() -> None:
    with with_peer(device="pose", device_settings="{frame: tool}") as (cell, peer):

        def say(x_m: float, *down: int) -> None:
            peer.pose(x_m)
            peer.joy(AXES, *down)

        reads(cell, peer, lambda: say(1.0), lambda: cell.devices and not cell.devices[-1].trouble, "tracker")
        reads(cell, peer, lambda: say(1.0), lambda: cell.call(Arm, "/arbiter/arm", ARM).success, "arming")
        reads(cell, peer, lambda: say(1.0, 0), lambda: cell.said[-1].grab, "grab")
        assert not any(cell.said[-1].action)
        reads(cell, peer, lambda: say(1.02, 0), lambda: any(cell.said[-1].action), "motion")
        assert cell.said[-1].action[0] > 0.0 and not any(cell.said[-1].action[1:])


def test_the_first_tick_after_a_grab_is_the_persons_and_is_marked() -> None:
    """Pins: the first second of a correction, lost to a hand-over that takes its time."""
    with with_peer(device="joy", expects_policy=True) as (cell, peer):
        reads(cell, peer, peer.joy, lambda: cell.devices and not cell.devices[-1].trouble, "joystick")
        reads(cell, peer, peer.joy, lambda: cell.call(Arm, "/arbiter/arm", ARM).success, "arming")
        forward = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
        cell.tick(forward)  # commanding begins at a pose that was measured in the episode
        cell.step()
        marks = [cell.tick(forward)]
        up = [0.0, 0.0, 0.0, 0.0, 1.0, 0.0]
        reads(cell, peer, lambda: peer.joy(up, GRAB), lambda: cell.said[-1].grab, "grab")
        marks += [cell.tick(forward), cell.tick(forward)]
        reads(cell, peer, lambda: peer.joy(AXES, HAND_BACK), lambda: cell.said[-1].released, "hand-back")
        marks.append(cell.tick(forward))
        assert [mark.source for mark in marks] == [0, 1, 1, 0]
        none, takeover, back = (ExecutedAction.HANDOVER_NONE, ExecutedAction.HANDOVER_TAKEOVER, 2)
        assert [mark.handover for mark in marks] == [none, takeover, none, back]
        # the policy in the shadow goes on: (1, 0, 0, ...) against (0, 0, 1, ...)
        assert marks[1].disagreement == pytest.approx((2 / 6) ** 0.5)
        cell.until(lambda: cell.step() and cell.statuses[-1].takeovers == 1, "count")
        assert cell.statuses[-1].disagreement == pytest.approx((2 / 6) ** 0.5)
