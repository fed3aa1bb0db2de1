"""Pins: an arm and a camera outside the package are found by name, checked, and driven like the simulated ones."""

from __future__ import annotations

import numpy as np
import pytest

from inril_core.contract import Contract
from inril_core.errors import ConfigError
from inril_core.hardware.arms import base as arms
from inril_core.hardware.arms.simulated import SimulatedArm
from inril_core.hardware.cameras import base as cameras
from inril_core.hardware.cameras.rendered import RenderedCamera
from inril_core.hardware.driver import ArmDriver, TargetCommand
from inril_core.settings import read_settings
from tests.hardware.outside import Counting, Perfect

HERE = "tests.hardware.outside"
FOREVER_NS = 10**18


def perfect(contract: Contract) -> Perfect:
    config = read_settings(arms.KIND.find(f"{HERE}:PerfectConfig"), "{height_m: 0.3}", "arm_settings")
    arm = config.build(contract)
    assert isinstance(arm, Perfect)
    return arm


def test_the_driver_moves_an_arm_of_ones_own(contract: Contract) -> None:
    arm = perfect(contract)
    driver = ArmDriver(arm, False, 300_000_000)
    state = driver.reset(0, "e", "train")
    assert state.tool_pose[2] == 0.3
    goal = [0.5, 0.0, 0.31, 1.0, 0.0, 0.0, 0.0]
    assert driver.offer(TargetCommand("b", 0, "e", goal, 0.02, False, FOREVER_NS), 0, 0)
    state = driver.run_period(1)
    assert state.tool_pose.tolist() == goal and state.gripper_width_m == 0.02
    driver.run_period(10**9)
    assert driver.needs_rearm and arm.held == 1, "no Target in time"
    arm.broken = True
    assert driver.arm(True, "ann", 0) == (False, "not armed: its emergency stop is pressed; release it")
    assert driver.needs_rearm
    arm.broken = False
    assert driver.arm(True, "ann", 0)[0] and not driver.needs_rearm
    arm.broken = True
    assert not driver.arm(True, "ann", 0)[0] and driver.needs_rearm, "armed before, it is not armed any more"


def test_parts_are_found_and_mistakes_named(contract: Contract) -> None:
    assert "simulated" in arms.KIND.known() and "rendered" in cameras.KIND.known()
    simulated = read_settings(arms.KIND.find("simulated"), "", "arm_settings").build(contract)
    assert isinstance(simulated, SimulatedArm)
    rendered = read_settings(cameras.KIND.find("rendered"), {}, "cameras.front")
    assert isinstance(rendered.build("front", 8, 8, simulated), RenderedCamera)
    with pytest.raises(ConfigError, match="looks at the simulated cell"):
        rendered.build("front", 8, 8, perfect(contract))
    source = read_settings(cameras.KIND.find(f"{HERE}:CountingConfig"), {}, "cameras.front").build(
        "front", 4, 3, perfect(contract)
    )
    assert isinstance(source, Counting)
    frame = source.read()
    assert frame.pixels.shape == (3, 4, 3) and np.all(frame.pixels == 1) and frame.stamp_ns == 7
    for kind, name in ((arms.KIND, f"{HERE}:Perfect"), (cameras.KIND, f"{HERE}:PerfectConfig"), (arms.KIND, "x.y:z")):
        with pytest.raises(ConfigError, match="must be a subclass|cannot be imported"):
            kind.find(name)
    with pytest.raises(ConfigError, match=r"arm_settings\.hight_m = '0.3': there are delay_steps, height_m"):
        read_settings(arms.KIND.find(f"{HERE}:PerfectConfig"), {"hight_m": 0.3}, "arm_settings")
