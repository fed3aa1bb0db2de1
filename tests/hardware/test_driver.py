"""Pins: whose targets move the simulated arm, when it holds, and that nothing re-arms itself."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from inril_core.errors import ConfigError
from inril_core.hardware.arms.base import ArmState
from inril_core.hardware.arms.simulated import SimulatedArm
from inril_core.hardware.driver import ArmDriver, ResetRefused, TargetCommand
from inril_core.tasks.families.cell import CellEnv
from tests.hardware.outside import Perfect

TIMEOUT_NS = 300_000_000
FOREVER_NS = 10**18


def ready(env: CellEnv, lockstep: bool, delay_steps: int = 0) -> ArmDriver:
    driver = ArmDriver(SimulatedArm(env.cell), lockstep, TIMEOUT_NS, delay_steps)
    driver.reset(3, "a", "train")
    return driver


def target(driver: ArmDriver, k: int = 0, up_m: float = 0.008, **changes: object) -> TargetCommand:
    pose = (driver.hardware.measure().tool_pose + np.array([0, 0, up_m, 0, 0, 0, 0])).tolist()
    command = TargetCommand("boot", k, "a", pose, 0.0, False, FOREVER_NS)
    return replace(command, **changes)  # type: ignore[arg-type]


def height_m(driver: ArmDriver) -> float:
    return float(driver.hardware.measure().tool_pose[2])


def test_physics_waits_for_the_first_target_of_its_episode(env: CellEnv) -> None:
    driver = ready(env, lockstep=False)
    start = driver.hardware.measure()
    for mono_ns in range(0, 2 * TIMEOUT_NS, TIMEOUT_NS // 3):
        assert driver.run_period(mono_ns) is start
    assert not driver.needs_rearm
    assert not driver.offer(target(driver, episode_id="b"), 0, 0)
    assert not driver.offer(target(driver, episode_id="", hold=True), 0, 0)
    assert driver.run_period(1) is start
    assert driver.offer(target(driver), 0, 0)
    assert driver.run_period(1).step == 1


def test_a_person_can_retract_the_arm_between_episodes(env: CellEnv) -> None:
    driver = ready(env, lockstep=False)
    before = height_m(driver)
    assert driver.offer(target(driver, episode_id=""), 0, 0)
    driver.run_period(1)
    assert height_m(driver) > before + 0.004


def test_real_time_holds_after_silence_until_armed(env: CellEnv) -> None:
    driver = ready(env, lockstep=False)
    assert driver.offer(target(driver), 0, mono_ns=0)
    driver.run_period(TIMEOUT_NS)
    assert not driver.needs_rearm
    driver.run_period(TIMEOUT_NS + 1)
    assert driver.needs_rearm and driver.holding
    before = height_m(driver)
    assert not driver.offer(target(driver, k=1), 0, TIMEOUT_NS + 2)
    driver.run_period(TIMEOUT_NS + 3)
    assert driver.needs_rearm and abs(height_m(driver) - before) < 0.003
    with pytest.raises(ResetRefused, match="inril arm"):
        driver.reset(4, "b", "train")
    assert not driver.arm(True, "", 0)[0] and driver.needs_rearm
    assert driver.arm(True, "anyone", 0)[0] and not driver.needs_rearm
    driver.run_period(10 * TIMEOUT_NS)
    assert not driver.needs_rearm  # silence counts from the first target after arming
    assert driver.offer(target(driver, k=2), 0, 10 * TIMEOUT_NS)


def test_hold_targets_outside_episodes_feed_the_watchdog(env: CellEnv) -> None:
    driver = ready(env, lockstep=False)
    driver.offer(target(driver), 0, 0)
    driver.offer(target(driver, episode_id="", hold=True, k=0), 0, TIMEOUT_NS)
    driver.run_period(2 * TIMEOUT_NS)
    assert not driver.needs_rearm


def test_disarming_stops_following(env: CellEnv) -> None:
    driver = ready(env, lockstep=False)
    assert driver.arm(False, "", 0)[0]
    assert not driver.offer(target(driver), 0, 0)
    assert driver.needs_rearm


@pytest.mark.parametrize(
    "change",
    [
        {"pose": [math.nan] * 7},
        {"pose": [0.5, 0.0, 0.2, 0.0, 0.0, 0.0, 0.0]},
        {"pose": [0.5, 0.0, 0.2]},
        {"gripper_width_m": -1.0},
        {"gripper_width_m": math.inf},
        {"valid_until_ns": 99},
        {"episode_id": "b"},
    ],
)
def test_unsound_foreign_and_expired_targets_are_refused(env: CellEnv, change: dict[str, object]) -> None:
    driver = ready(env, lockstep=True)
    assert not driver.offer(target(driver, **change), now_ns=100, mono_ns=0)
    assert driver.offer(target(driver), now_ns=100, mono_ns=0), "the next sound one moves it"


def test_repeated_and_reordered_targets_are_refused(env: CellEnv) -> None:
    driver = ready(env, lockstep=True)
    assert driver.offer(target(driver, k=4), 0, 0)
    assert not driver.offer(target(driver, k=4), 0, 0)
    assert not driver.offer(target(driver, k=3), 0, 0)
    assert driver.offer(target(driver, k=0, boot_id="observer restarted"), 0, 0)


def test_lockstep_targets_move_and_silence_holds(env: CellEnv) -> None:
    driver = ready(env, lockstep=True)
    start = driver.hardware.measure()
    assert driver.hold_period() is start
    driver.offer(target(driver), 0, 0)
    moved = driver.lockstep_period()
    assert moved.tool_pose[2] > start.tool_pose[2] + 0.004
    assert driver.hold_period().step == 2


def test_delay_makes_each_target_act_later(env: CellEnv) -> None:
    driver = ready(env, lockstep=True, delay_steps=2)
    heights = [height_m(driver)]
    for k in range(4):
        up_m = 0.02 if k == 0 else -0.01
        pose = (driver.hardware.measure().tool_pose + np.array([0, 0, up_m, 0, 0, 0, 0])).tolist()
        assert driver.offer(target(driver, k=k, pose=pose), 0, 0)
        driver.lockstep_period()
        heights.append(height_m(driver))
    rises = np.diff(heights)
    assert np.abs(rises[:2]).max() < 0.002 and rises[2] > 0.01
    driver.reset(3, "b", "train")
    driver.offer(target(driver, episode_id="b"), 0, 0)
    assert abs(driver.lockstep_period().tool_pose[2] - heights[0]) < 0.002  # the queue was cleared


@pytest.mark.parametrize("change", [{"delay_steps": -1}, {"target_timeout_ns": 0}])
def test_bad_settings_are_refused(env: CellEnv, change: dict[str, int]) -> None:
    settings = {"target_timeout_ns": 1, "delay_steps": 0, **change}
    with pytest.raises(ConfigError):
        ArmDriver(SimulatedArm(env.cell), True, **settings)


PERMIT_NS = 100_000_000


def test_without_a_fresh_permit_of_the_monitor_nothing_is_followed(env: CellEnv) -> None:
    """Red: `offer` or `run_period` without its look at the permit."""
    driver = ArmDriver(SimulatedArm(env.cell), False, TIMEOUT_NS, permit_timeout_ns=PERMIT_NS)
    driver.reset(3, "a", "train")
    assert not driver.offer(target(driver), 0, 0) and driver.needs_rearm, "never heard"
    assert driver.arm(True, "ann", 0) == (False, "not armed: safety_monitor was not heard; start it")
    driver.on_permit("m", (), 0)
    assert driver.arm(True, "ann", PERMIT_NS)[0]
    assert driver.offer(target(driver), 0, PERMIT_NS)
    driver.run_period(PERMIT_NS)
    before = height_m(driver)
    driver.run_period(PERMIT_NS + 1)
    assert driver.needs_rearm and abs(height_m(driver) - before) < 0.003, "silence stops"
    assert "silent" in driver.arm(True, "ann", PERMIT_NS + 1)[1]


def test_a_denial_stops_at_once_and_a_new_permit_does_not_re_arm(env: CellEnv) -> None:
    driver = ArmDriver(SimulatedArm(env.cell), False, TIMEOUT_NS, permit_timeout_ns=PERMIT_NS)
    driver.reset(3, "a", "train")
    driver.on_permit("m", (), 0)
    assert driver.offer(target(driver), 0, 0)
    driver.on_permit("m", ("tool speed 2 m/s, at most 1",), 1)
    assert driver.needs_rearm and not driver.offer(target(driver, k=1), 0, 2)
    assert driver.arm(True, "ann", 2) == (False, "not armed: safety_monitor: tool speed 2 m/s, at most 1")
    driver.on_permit("m", (), 3)
    assert driver.needs_rearm and not driver.offer(target(driver, k=2), 0, 4)
    assert driver.arm(True, "ann", 5)[0] and driver.offer(target(driver, k=3), 0, 6)


def test_a_lost_permit_stops_an_episode_in_lockstep_too(env: CellEnv) -> None:
    driver = ArmDriver(SimulatedArm(env.cell), True, TIMEOUT_NS, permit_timeout_ns=PERMIT_NS)
    driver.reset(3, "a", "train")
    driver.on_permit("m", (), 0)
    assert driver.offer(target(driver), 0, 0)
    assert not driver.offer(target(driver, k=1), 0, PERMIT_NS + 1) and driver.needs_rearm


def test_a_monitor_that_was_restarted_stops_the_arm_once(env: CellEnv) -> None:
    driver = ArmDriver(SimulatedArm(env.cell), True, TIMEOUT_NS, permit_timeout_ns=PERMIT_NS)
    driver.reset(3, "a", "train")
    driver.on_permit("m", (), 0)
    assert driver.offer(target(driver), 0, 0)
    driver.on_permit("n", (), 1)
    assert driver.needs_rearm and not driver.offer(target(driver, k=1), 0, 1)
    driver.on_permit("n", (), 2)
    assert driver.arm(True, "ann", 2)[0] and driver.offer(target(driver, k=2), 0, 3)


class Stopping(Perfect):
    """An arm that stops itself."""

    fault = ""

    def measure(self) -> ArmState:
        """See `Arm`."""
        return replace(super().measure(), fault=self.fault, mode="reflex" if self.fault else "move")


@pytest.mark.parametrize("paused", [True, False])
def test_an_arm_that_stops_itself_is_followed_again_only_when_a_person_arms(paused: bool) -> None:
    arm = Stopping(0.2)
    driver = ArmDriver(arm, False, TIMEOUT_NS)
    driver.reset(0, "a", "train")
    pose = [0.5, 0.0, 0.21, 1.0, 0.0, 0.0, 0.0]
    if not paused:
        assert driver.offer(TargetCommand("boot", 0, "a", pose, 0.0, False, FOREVER_NS), 0, 0)
    arm.fault = "the arm itself does not move: reflex"
    assert driver.run_period(1).fault and driver.needs_rearm
    assert driver.arm(True, "ann", 2) == (False, "not armed: the arm itself does not move: reflex")
    arm.fault = ""
    driver.run_period(3)
    assert driver.needs_rearm, "the stop was released; nobody has looked at the arm"
    assert not driver.offer(TargetCommand("boot", 1, "a", pose, 0.0, False, FOREVER_NS), 0, 4)
    assert driver.arm(True, "ann", 5)[0] and driver.run_period(6).mode == "move"


def test_a_part_of_a_period_goes_on_towards_its_target_and_ends_in_hold_at_once(env: CellEnv) -> None:
    """Pins an arm that moves on to the end of its period after its watchdog or the monitor stopped it."""
    driver = ready(env, lockstep=False)
    assert driver.hardware.cut_periods(5) == 5
    start = driver.hardware.measure()
    assert driver.run_part(0) is start  # the laid-out cell waits
    assert driver.offer(target(driver), 0, mono_ns=0)
    driver.run_period(1)
    goal_rad = env.cell._goal_rad
    assert not np.array_equal(env.cell._joint_target_rad, goal_rad)
    for _ in range(4):
        driver.run_part(1)
    assert np.array_equal(env.cell._joint_target_rad, goal_rad)
    assert driver.offer(target(driver, k=1), 0, mono_ns=2)
    driver.run_period(2)
    commanded = env.cell._joint_target_rad.copy()
    driver.run_part(TIMEOUT_NS + 3)
    assert driver.needs_rearm and np.array_equal(env.cell._joint_target_rad, commanded)
    for _ in range(6):
        driver.run_part(TIMEOUT_NS + 4)
    assert np.array_equal(env.cell._joint_target_rad, commanded)
