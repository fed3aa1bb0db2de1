"""Pins: the node of an arm and a camera from outside the package that dies, repeats old states or arms itself when one
of them is lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("rclpy")

from inril_common.convert import array_to_pose, image_to_array, ns_to_stamp, pose_to_array
from inril_hardware.sim_cell import SimCell
from inril_msgs.msg import Observation, RobotState, Target
from inril_msgs.srv import Arm, ResetCell
from sensor_msgs.msg import Image

from inril_core.hardware.arms.base import ArmLost
from tests.hardware.outside import Counting, Perfect
from tests.sim.nodes import Bench, bench

HERE = "tests.hardware.outside"
LOST = "its emergency stop is pressed; release it"
FAR_NS = 2 * 10**18


@pytest.fixture
def cell() -> Iterator[Bench]:
    with bench(
        SimCell,
        arm=f"{HERE}:PerfectConfig",
        arm_settings="{height_m: 0.3}",
        cameras=f"{{front: {{source: {HERE}:CountingConfig}}}}",
        real_time_factor=1.0,
        simulated_cell=False,
        state_rate_hz=10.0,
    ) as made:
        yield made


def arm_of(cell: Bench) -> Perfect:
    arm = cell.node._driver.hardware
    assert isinstance(arm, Perfect)
    return arm


def reset(cell: Bench, reset_id: str) -> ResetCell.Response:
    request = ResetCell.Request(reset_id=reset_id, purpose=Observation.PURPOSE_DEMO)
    return cell.call(ResetCell, "/cell/reset", request)


def arm(cell: Bench) -> Arm.Response:
    return cell.call(Arm, "/robot/arm", Arm.Request(arm=True, operator_name="ann"))


def comes_back(cell: Bench, robots: list[RobotState]) -> None:
    """The arm is found again, by itself, and is not armed by that."""
    arm_of(cell).broken = False
    robots.clear()
    cell.until(lambda: robots, "states of the arm that is back")
    assert robots[-1].needs_rearm, "nothing re-arms itself"


def test_it_publishes_follows_and_shows_what_is_not_simulated(cell: Bench) -> None:
    robots, images = cell.hear(RobotState, "/robot_state"), cell.hear(Image, "/camera/front/image")
    targets = cell.client.create_publisher(Target, "/target", 10)
    cell.until(lambda: robots and targets.get_subscription_count(), "a state")
    assert not robots[-1].simulated and robots[-1].tool_pose.position.z == 0.3
    assert reset(cell, "e").success
    shown = [image_to_array(image)[0, 0, 0] for image in cell.until(lambda: len(images) > 2 and list(images), "images")]
    assert shown == sorted(set(shown)), "each image once"
    goal = Target(boot_id="b", k=0, episode_id="e", valid_until=ns_to_stamp(FAR_NS))
    before = robots[-1].tool_pose
    goal.pose = array_to_pose(pose_to_array(before) + [0, 0, 0.01, 0, 0, 0, 0])
    goal.header.frame_id = "camera_front"
    targets.publish(goal)
    cell.until(lambda: cell.node._target_link.refused_total, "refusal of a Target in another frame")
    assert robots[-1].tool_pose == before
    goal.header.frame_id = "base"

    def followed() -> bool:
        goal.k += 1
        targets.publish(goal)
        return bool(robots[-1].tool_pose == goal.pose)

    cell.until(followed, "the arm at its Target")


@pytest.mark.parametrize("error", [ArmLost(LOST), ConnectionResetError(LOST)])
@pytest.mark.parametrize("found_by", ["period", "reset", "arm"])
def test_an_arm_that_is_lost_is_silent_found_again_and_armed_by_a_person(
    cell: Bench, found_by: str, error: Exception
) -> None:
    arm_of(cell).error = error
    robots = cell.hear(RobotState, "/robot_state")
    cell.until(lambda: robots, "a state")
    arm_of(cell).broken = True
    if found_by == "period":
        cell.until(lambda: cell.node._driver.needs_rearm, "the loss to be seen")
    elif found_by == "reset":
        answer = reset(cell, "e")
        assert not answer.success and LOST in answer.message
    else:
        answer = arm(cell)
        assert not answer.success and LOST in answer.message
    assert cell.node._driver.needs_rearm
    comes_back(cell, robots)
    refused = reset(cell, "e")
    assert not refused.success and "inril arm" in refused.message
    assert arm(cell).success
    assert reset(cell, "e").success
    cell.until(lambda: not robots[-1].needs_rearm, "an armed state")


def test_a_disarming_is_done_also_while_the_arm_is_lost(cell: Bench) -> None:
    arm_of(cell).broken = True
    assert cell.call(Arm, "/robot/arm", Arm.Request(arm=False, operator_name="ann")).success
    assert cell.node._driver.needs_rearm


def test_a_camera_that_is_lost_takes_nothing_with_it_and_comes_back(cell: Bench) -> None:
    robots, images = cell.hear(RobotState, "/robot_state"), cell.hear(Image, "/camera/front/image")
    assert reset(cell, "e").success
    cell.until(lambda: images, "an image")
    source = cell.node._cameras[0].source
    assert isinstance(source, Counting)
    source.broken = True
    cell.until(lambda: cell.node._cameras[0].reopen_ns is not None, "the loss to be seen")
    robots.clear()
    cell.until(lambda: len(robots) > 3, "states of the arm without a camera")
    source.broken = False
    images.clear()
    cell.until(lambda: images, "images of the camera that is back")
