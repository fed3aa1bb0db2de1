"""Pins: an arm behind controllers of another process that is driven from an old pose, beside a second publisher,
through a reflex, or goes on by itself after its controllers were killed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("ruckig")

import rclpy
from geometry_msgs.msg import PoseStamped
from inril_common.convert import array_to_pose, ns_to_stamp, pose_to_array, stamp_to_ns
from inril_common.qos import NEWEST
from inril_hardware.arms.controllers import Config
from inril_hardware.arms.typed import message_type, mode_and_errors
from inril_hardware.sim_cell import SimCell
from inril_msgs.msg import Observation, RobotState, Target
from inril_msgs.srv import Arm, ResetCell
from std_srvs.srv import Trigger

from inril_core.errors import ConfigError
from inril_core.hardware.arms import base as arms
from tests.domains import spawn
from tests.graph.harness import patient_contract
from tests.sim.nodes import Bench, bench, ros_arguments

pytestmark = pytest.mark.timeout(600)
SETTINGS = (
    "{mode_topic: robot_mode, recovery: error_recovery, max_age_s: 5.0, gripper_max_age_s: 5.0, connect_s: 60.0, "
    "motion: {relative_dynamics_factor: 1.0}}"
)
PATIENT_S = 120.0
FAR_NS = 2 * 10**18


class Lab(Bench):
    """robot_node with arm ros2_control, and the controllers in a process of their own."""

    def start(self) -> None:
        """First the controllers: the arm is not found without them."""
        self.controllers: Any = None
        self.start_controllers()
        self.until(lambda: self.client.count_publishers("/current_pose"), "the controllers", 2 * PATIENT_S)
        super().start()
        self.robots: list[RobotState] = self.hear(RobotState, "/robot_state")
        self.targets = self.client.create_publisher(Target, "/target", 10)
        self.k = 0
        self.said: list[PoseStamped] = self.hear(PoseStamped, "/target_pose")
        self.until(self.hears_set_points, "the match with the set-points' publisher", PATIENT_S)
        self.until(lambda: self.robots and self.targets.get_subscription_count(), "a state of the arm", PATIENT_S)

    def hears_set_points(self) -> bool:
        """Nothing that the arm says from now on is lost to this test."""
        return bool(self.node._driver.hardware._target.get_subscription_count() > 1)

    def start_controllers(self) -> None:
        """In this domain, with this contract."""
        contract = self.node.get_parameter("contract").value if self.node.has_parameter("contract") else None
        self.contract = contract or self.contract
        command = [
            sys.executable,
            "-m",
            "inril_hardware.simulated_controllers",
            *ros_arguments({"contract": self.contract}),
        ]
        self.controllers = spawn(command, rclpy.get_default_context().get_domain_id())

    def kill_controllers(self) -> None:
        """As the power fails."""
        self.controllers.kill()
        self.controllers.wait()

    def close(self) -> None:
        """The controllers, too."""
        if self.controllers is not None:
            self.kill_controllers()
        super().close()

    @property
    def height_m(self) -> float:
        """Of the tool as robot_node says."""
        return float(self.robots[-1].tool_pose.position.z)

    def reset(self) -> None:
        """Begin an episode."""
        request = ResetCell.Request(reset_id="e", purpose=Observation.PURPOSE_DEMO)
        answer = self.call(ResetCell, "/cell/reset", request)
        assert answer.success, answer.message

    def arm(self) -> Arm.Response:
        """As a person does."""
        return self.call(Arm, "/robot/arm", Arm.Request(arm=True, operator_name="ann"))

    def aim(self, height_m: float, width_m: float = 0.0) -> None:
        """One Target at a height, with the tool's present orientation."""
        pose = pose_to_array(self.robots[-1].tool_pose)
        pose[2] = height_m
        self.k += 1
        goal = Target(boot_id="b", k=self.k, episode_id="e", valid_until=ns_to_stamp(FAR_NS), gripper_width_m=width_m)
        goal.header.frame_id = "base"
        goal.pose = array_to_pose(pose)
        self.targets.publish(goal)

    def go_to(self, height_m: float) -> None:
        """Targets until it is there."""

        def there() -> bool:
            self.aim(height_m)
            return abs(self.height_m - height_m) < 0.002

        self.until(there, f"the tool at {height_m:.3f} m", PATIENT_S)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    contract = str(patient_contract(tmp_path))

    def made(node: SimCell) -> Lab:
        one = Lab.__new__(Lab)
        one.contract = contract
        Lab.__init__(one, node)
        return one

    with bench(
        SimCell,
        made_as=made,
        arm="ros2_control",
        arm_settings=SETTINGS,
        contract=contract,
        real_time_factor=1.0,
        simulated_cell=False,
        state_rate_hz=30.0,
        cameras="{front: {source: tests.hardware.outside:CountingConfig}}",
    ) as one:
        yield one


def test_it_follows_smoothly_and_holds_where_targets_cease(lab: Lab) -> None:
    said, state = lab.said, lab.robots[-1]
    assert not state.simulated and state.mode == "move" and not state.fault and np.isnan(state.external_wrench).all()
    assert state.header.frame_id == "base" and state.joint_position_rad[3] < -0.5
    start_m = lab.height_m
    lab.reset()
    assert not said, "it moved before a Target"
    lab.go_to(start_m + 0.03)
    heights_m = np.array([message.pose.position.z for message in said])
    assert abs(heights_m[0] - start_m) < 0.002, "the first set-point is the measured pose"
    for old, new in pairwise(said):
        time_s = (stamp_to_ns(new.header.stamp) - stamp_to_ns(old.header.stamp)) * 1e-9
        way_m = abs(new.pose.position.z - old.pose.position.z)
        assert way_m <= 0.5 * (time_s + 0.02), f"a set-point jumps by {way_m} m in {time_s} s"
    lab.until(lambda: lab.robots[-1].needs_rearm, "the hold after the last Target", PATIENT_S)
    assert not lab.robots[-1].fault, "a watchdog's hold is no fault of the arm"
    held_m = lab.height_m
    for _ in range(20):
        lab.aim(start_m + 0.06)
        lab.robots.clear()
        lab.until(lambda: lab.robots, "states")
    assert abs(lab.height_m - held_m) < 0.003, "it followed without being armed"
    assert lab.arm().success
    lab.go_to(start_m + 0.05)


def test_reflex_second_publisher_and_killed_controllers_stop_it_by_name_until_a_person_arms(lab: Lab) -> None:
    start_m = lab.height_m
    lab.reset()
    lab.go_to(start_m + 0.02)

    assert lab.call(Trigger, "/simulate_reflex", Trigger.Request()).success
    lab.until(lambda: lab.robots[-1].mode == "reflex", "the reflex", PATIENT_S)
    state = lab.robots[-1]
    assert "cartesian_reflex" in state.fault and state.needs_rearm
    answer = lab.arm()
    assert answer.success, answer.message
    lab.go_to(start_m + 0.03)

    second = lab.client.create_publisher(PoseStamped, "/target_pose", NEWEST)
    lab.until(lambda: "second publisher" in lab.robots[-1].fault, "the second publisher named", PATIENT_S)
    assert "/bench" in lab.robots[-1].fault and lab.robots[-1].needs_rearm
    refused = lab.arm()
    assert not refused.success and "second publisher" in refused.message
    lab.client.destroy_publisher(second)
    lab.until(lambda: lab.arm().success, "an arming without it", PATIENT_S)
    lab.go_to(start_m + 0.02)

    lab.kill_controllers()
    lab.until(lambda: lab.node._driver.needs_rearm, "the loss of the controllers", PATIENT_S)
    lab.robots.clear()
    lab.start_controllers()
    restarted_ns = lab.client.get_clock().now().nanoseconds

    def sent_since() -> list[PoseStamped]:
        """Others may still lie in this test's queue."""
        return [message for message in lab.said if stamp_to_ns(message.header.stamp) > restarted_ns]

    lab.until(lambda: lab.robots, "states of the new controllers", PATIENT_S)
    lab.until(lab.hears_set_points, "the match with the new publisher", PATIENT_S)
    assert lab.robots[-1].needs_rearm, "nothing re-arms itself"
    began_m = lab.height_m
    for _ in range(20):
        lab.aim(began_m + 0.05)
        lab.robots.clear()
        lab.until(lambda: lab.robots, "states")
    assert not sent_since(), "it commanded the new controllers without a person"
    lab.until(lambda: lab.arm().success, "an arming", PATIENT_S)
    lab.go_to(lab.height_m + 0.02)
    assert abs(sent_since()[0].pose.position.z - began_m) < 0.005, "it began at an old pose"


def test_the_name_is_found_and_presets_can_be_changed_in_part() -> None:
    assert "ros2_control" in arms.KIND.known()
    config = arms.arm_config("ros2_control", "{preset: franka_ros2, namespace: left, wrench_topic: ''}")
    assert isinstance(config, Config)
    assert config.pose_topic == "franka_robot_state_broadcaster/current_pose" and config.pose_frame == "fr3_link0"
    assert config.wrench_topic == "" and config.motion.relative_dynamics_factor == 0.05
    for bad, words in (
        ("{preset: none}", "target_topic"),
        ("{preset: crisp}", "preset"),
        ("{gripper_command_topic: ''}", "gripper_command_topic"),
        ("{joint_names: [a, b]}", "joint_names"),
    ):
        with pytest.raises(ConfigError, match=words):
            arms.arm_config("ros2_control", bad)


def test_types_are_looked_up_and_a_missing_one_says_how_to_get_it() -> None:
    assert message_type("geometry_msgs/msg/PoseStamped", "x") is PoseStamped
    with pytest.raises(ConfigError, match="make setup"):
        message_type("franka_msgs/msg/FrankaRobotState", "mode_type")
    with pytest.raises(ConfigError, match="PACKAGE/msg/NAME"):
        message_type("os.path", "mode_type")


class FrankaLike:
    """The part of franka_msgs/FrankaRobotState that is read."""

    ROBOT_MODE_MOVE = 2
    ROBOT_MODE_USER_STOPPED = 5

    class Errors:
        """As franka_msgs/Errors."""

        cartesian_reflex = True
        joint_velocity_violation = False

        @classmethod
        def get_fields_and_field_types(cls) -> dict[str, str]:
            """As rosidl gives them."""
            return {"cartesian_reflex": "boolean", "joint_velocity_violation": "boolean"}

    robot_mode = 5
    current_errors = Errors()


def test_mode_and_errors_are_read_from_either_message() -> None:
    assert mode_and_errors(SimpleNamespace(data="reflex: a, b")) == ("reflex", ["a", "b"])
    assert mode_and_errors(SimpleNamespace(data="move")) == ("move", [])
    assert mode_and_errors(FrankaLike()) == ("user_stopped", ["cartesian_reflex"])
