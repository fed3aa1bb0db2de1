"""Pins: the simulated arm follows its episode's targets only, never freezes the graph or re-arms itself."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

pytest.importorskip("rclpy")

from inril_common.convert import array_to_pose, ns_to_stamp, pose_to_array, stamp_to_ns
from inril_hardware.sim_cell import SimCell
from inril_msgs.msg import CellTruth, Observation, PartPoses, RobotState, Target
from inril_msgs.srv import Arm, ResetCell
from rosgraph_msgs.msg import Clock

from tests.sim.nodes import Bench, bench

FAR_NS = 2 * 10**18


def target(robot: RobotState, episode_id: str, k: int = 0, dz_m: float = 0.005) -> Target:
    """A target a little above the measured pose."""
    message = Target(boot_id="observer", k=k, episode_id=episode_id, valid_until=ns_to_stamp(FAR_NS))
    message.header.frame_id = "base"
    message.pose = array_to_pose(pose_to_array(robot.tool_pose) + np.array([0, 0, dz_m, 0, 0, 0, 0]))
    return message


def lay_out(bench: Bench, reset_id: str, seed: int = 3, purpose: int = Observation.PURPOSE_TRAIN) -> ResetCell.Response:
    request = ResetCell.Request(seed=seed, reset_id=reset_id, purpose=purpose)
    return bench.call(ResetCell, "/cell/reset", request)


def test_lockstep_moves_once_per_target_and_only_for_its_own_episode() -> None:
    with bench(SimCell, lockstep_timeout_s=30.0) as cell:
        truths, robots = cell.hear(CellTruth, "/cell_truth"), cell.hear(RobotState, "/robot_state")
        parts = cell.hear(PartPoses, "/part_poses")
        targets = cell.client.create_publisher(Target, "/target", 10)
        cell.until(lambda: targets.get_subscription_count() == 1, "subscription")
        assert lay_out(cell, "a").success
        cell.until(lambda: robots and parts and truths[-1].reset_id == "a", "state after the reset")
        first = robots[-1]
        targets.publish(target(first, "another"))
        targets.publish(target(first, "a", k=5))
        targets.publish(target(first, "a", k=5))  # a repetition
        targets.publish(target(first, "a", k=6, dz_m=0.01))
        cell.until(lambda: truths[-1].step == 2 and len(parts) == len(robots) == len(truths), "second step")
        assert [t.step for t in truths if t.reset_id == "a"] == [0, 1, 2]
        assert robots[-1].tool_pose.position.z > first.tool_pose.position.z + 0.005
        stamps = [stamp_to_ns(t.header.stamp) for t in truths]
        assert {b - a for a, b in itertools.pairwise(stamps)} == {100_000_000}
        assert stamps == [stamp_to_ns(r.header.stamp) for r in robots] == [stamp_to_ns(p.header.stamp) for p in parts]
        assert parts[-1].names == ["leg", "hole"]


def test_lockstep_republishes_while_paused_and_holds_while_running() -> None:
    with bench(SimCell, lockstep_timeout_s=0.05) as cell:
        truths, robots = cell.hear(CellTruth, "/cell_truth"), cell.hear(RobotState, "/robot_state")
        targets = cell.client.create_publisher(Target, "/target", 10)
        cell.until(lambda: targets.get_subscription_count() == 1, "subscription")
        assert lay_out(cell, "a").success
        cell.until(lambda: sum(t.reset_id == "a" for t in truths) >= 3, "repeated states")
        paused = [t for t in truths if t.reset_id == "a"]
        assert all(t.step == 0 and t.qpos == paused[0].qpos for t in paused)
        targets.publish(target(robots[-1], "a"))
        cell.until(lambda: truths[-1].step >= 3, "periods in hold")


def test_real_time_watchdog_holds_until_a_person_arms() -> None:
    with bench(SimCell, real_time_factor=1.0, target_timeout_s=0.25) as cell:
        robots, truths = cell.hear(RobotState, "/robot_state"), cell.hear(CellTruth, "/cell_truth")
        targets = cell.client.create_publisher(Target, "/target", 10)
        cell.until(lambda: targets.get_subscription_count() == 1 and robots, "subscription")
        assert not robots[-1].needs_rearm
        assert lay_out(cell, "a").success
        cell.until(lambda: truths[-1].reset_id == "a", "state after the reset")
        targets.publish(target(robots[-1], "a"))
        cell.until(lambda: robots[-1].needs_rearm and robots[-1].holding, "watchdog")
        height_m = robots[-1].tool_pose.position.z
        targets.publish(target(robots[-1], "a", k=9, dz_m=0.02))
        seen = len(robots)
        cell.until(lambda: len(robots) > seen + 3, "states")
        assert robots[-1].needs_rearm and abs(robots[-1].tool_pose.position.z - height_m) < 0.002
        assert not lay_out(cell, "b").success
        assert not cell.call(Arm, "/robot/arm", Arm.Request(arm=True, operator_name=" ")).success
        assert cell.call(Arm, "/robot/arm", Arm.Request(arm=True, operator_name="test")).success
        cell.until(lambda: not robots[-1].needs_rearm, "armed state")
        assert robots[-1].simulated
        assert lay_out(cell, "b").success


def test_in_real_time_the_arm_is_seen_on_its_way() -> None:
    """Pins states that come once a control period: a policy then acts on what was true a period ago."""
    with bench(SimCell, real_time_factor=1.0, target_timeout_s=60.0) as cell:
        robots = cell.hear(RobotState, "/robot_state")
        targets = cell.client.create_publisher(Target, "/target", 10)
        cell.until(lambda: targets.get_subscription_count() == 1 and robots, "subscription")
        assert lay_out(cell, "a").success
        cell.until(lambda: robots, "states")
        start_m = robots[-1].tool_pose.position.z
        targets.publish(target(robots[-1], "a", dz_m=0.01))
        cell.until(lambda: robots[-1].tool_pose.position.z > start_m + 0.009, "the arm at its target")
        assert any(0.002 < robot.tool_pose.position.z - start_m < 0.008 for robot in robots)


def test_images_come_in_recorded_purposes_only() -> None:
    from sensor_msgs.msg import Image

    with bench(SimCell, lockstep_timeout_s=0.05) as cell:
        truths, images = cell.hear(CellTruth, "/cell_truth"), cell.hear(Image, "/camera/front/image")
        assert lay_out(cell, "train").success
        cell.until(lambda: sum(t.reset_id == "train" for t in truths) >= 2, "states")
        assert not images
        assert lay_out(cell, "demo", purpose=Observation.PURPOSE_DEMO).success
        cell.until(lambda: images, "image")
        assert (images[0].height, images[0].width, images[0].encoding) == (84, 84, "rgb8")
        stamp = images[0].header.stamp
        cell.until(lambda: any(t.header.stamp == stamp for t in truths), "state of the image's stamp")
        assert not lay_out(cell, "x", purpose=9).success


def test_reset_start_depends_on_the_seed_alone() -> None:
    with bench(SimCell, lockstep_timeout_s=30.0) as cell:
        truths, robots = cell.hear(CellTruth, "/cell_truth"), cell.hear(RobotState, "/robot_state")
        targets = cell.client.create_publisher(Target, "/target", 10)
        cell.until(lambda: targets.get_subscription_count() == 1, "subscription")
        for reset_id in ("a", "b"):
            assert lay_out(cell, reset_id, seed=7).success
            cell.until(lambda reset_id=reset_id: truths and truths[-1].reset_id == reset_id, "state")
            targets.publish(target(robots[-1], reset_id))
            cell.until(lambda: truths[-1].step == 1, "step")
        after = {t.reset_id: t.qpos for t in truths if t.step == 1}
        assert after["a"] == after["b"]
        assert pose_to_array(robots[-1].tool_pose)[2] > 0.05


def test_other_speeds_publish_a_clock_that_never_runs_ahead_of_the_states() -> None:
    with bench(SimCell, real_time_factor=4.0, target_timeout_s=60.0) as cell:
        robots, clocks = cell.hear(RobotState, "/robot_state"), cell.hear(Clock, "/clock")
        cell.until(lambda: len(robots) >= 8 and len(clocks) >= 40, "clock and states")
        times_ns = [stamp_to_ns(clock.clock) for clock in clocks]
        states_ns = [stamp_to_ns(robot.header.stamp) for robot in robots]
        assert times_ns == sorted(times_ns)
        assert set(states_ns[1:-1]) <= set(times_ns)
        assert {later - earlier for earlier, later in itertools.pairwise(states_ns)} == {100_000_000}


@pytest.mark.parametrize("factor", [0.0, 1.0, 4.0])
def test_who_waits_for_the_arm_hears_at_once_that_it_was_armed(factor: float) -> None:
    """Pins: an arbiter that refuses `inril arm` until the next state, which in lockstep may be seconds away."""
    with bench(SimCell, real_time_factor=factor, target_timeout_s=60.0, lockstep_timeout_s=60.0) as cell:
        robots = cell.hear(RobotState, "/robot_state")
        cell.until(lambda: cell.node.count_subscribers("/robot_state"), "subscription")
        for arm in (False, True):
            assert cell.call(Arm, "/robot/arm", Arm.Request(arm=arm, operator_name="test")).success
            cell.until(lambda arm=arm: robots and robots[-1].needs_rearm != arm, "state")
        stamps = [stamp_to_ns(robot.header.stamp) for robot in robots]
        assert stamps == sorted(stamps)
        assert not robots[-1].holding and robots[-1].simulated


def test_lockstep_publishes_the_clock_of_its_stamps() -> None:
    with bench(SimCell, lockstep_timeout_s=0.05) as cell:
        robots, clocks = cell.hear(RobotState, "/robot_state"), cell.hear(Clock, "/clock")
        cell.until(lambda: len(robots) >= 5 and len(clocks) >= 5, "clock and states")
        times_ns = [stamp_to_ns(clock.clock) for clock in clocks]
        assert times_ns == sorted(times_ns)
        assert stamp_to_ns(robots[-2].header.stamp) in times_ns


def test_a_reset_that_is_cancelled_leaves_the_cell_as_it_is() -> None:
    with bench(SimCell, lockstep_timeout_s=30.0) as cell:
        truths = cell.hear(CellTruth, "/cell_truth")
        answer = lay_out(cell, "a")
        assert answer.success and not answer.working
        assert cell.call(ResetCell, "/cell/reset", ResetCell.Request(reset_id="a", cancel=True)).success
        assert lay_out(cell, "b").success
        cell.until(lambda: truths and truths[-1].reset_id == "b", "state")
        assert {truth.reset_id for truth in truths} <= {"", "a", "b"}


def test_who_joins_late_hears_the_arm_before_the_first_reset() -> None:
    """Pins: a session that waits for the first robot_state, said once, before it arms a simulated cell."""
    with bench(SimCell, lockstep_timeout_s=60.0) as cell:
        truths = cell.hear(CellTruth, "/cell_truth")
        cell.until(lambda: len(truths) >= 2, "states")
        for reset_id in ("a", "b"):
            assert lay_out(cell, reset_id).success
        cell.until(lambda: truths[-1].reset_id == "b", "state after the reset")
        heard = [truth.reset_id for truth in truths if truth.reset_id]
        assert heard == ["a", "b"], "from the first reset on, a state means that a period has passed"


def test_tracked_parts_are_late_by_their_stamps_and_the_cell_says_which_belong_to_a_state() -> None:
    with bench(SimCell, lockstep_timeout_s=30.0, part_noise="{position_m: 0.001, delay_s: 0.05, dropout: 0.4}") as cell:
        truths, robots = cell.hear(CellTruth, "/cell_truth"), cell.hear(RobotState, "/robot_state")
        parts = cell.hear(PartPoses, "/part_poses")
        targets = cell.client.create_publisher(Target, "/target", 10)
        cell.until(lambda: targets.get_subscription_count() == 1, "subscription")
        assert lay_out(cell, "a").success
        cell.until(lambda: robots and truths[-1].reset_id == "a" and parts, "state after the reset")
        for step in range(1, 21):
            targets.publish(target(robots[-1], "a", k=step))
            cell.until(lambda step=step: truths[-1].step == step and len(robots) == len(truths), f"step {step}")
        laid_out = [truth for truth in truths if truth.reset_id == "a"]
        named = [stamp_to_ns(truth.part_poses_stamp) for truth in laid_out]
        cell.until(lambda: stamp_to_ns(parts[-1].header.stamp) == named[-1], "the newest parts")
        heard = [stamp_to_ns(p.header.stamp) for p in parts]
        assert set(named) <= set(heard) and 5 < len(set(named)) < len(laid_out)
        for truth, stamp_ns in zip(laid_out, named, strict=True):
            late_ns = stamp_to_ns(truth.header.stamp) - stamp_ns
            assert late_ns >= 50_000_000 and late_ns % 100_000_000 == 50_000_000
        holes = np.array([pose_to_array(p.poses[1]) for p in parts])
        assert 0.0002 < holes[:, :3].std(axis=0).max() < 0.003
