"""Pins: an arm that stops itself without a name or a remedy."""

from __future__ import annotations

import pytest

from inril_core.hardware.arm_modes import fault_of, snake


@pytest.mark.parametrize("name", ["UserStopped", "ROBOT_MODE_USER_STOPPED", " user_stopped "])
def test_vendors_names_become_one(name: str) -> None:
    assert snake(name) == "user_stopped"


def test_what_does_not_move_is_named_with_its_errors_and_a_fix() -> None:
    assert fault_of("move") == "" and fault_of("") == "" and fault_of("idle", (), ("move", "idle")) == ""
    assert "release the stop" in fault_of("user_stopped") and "inril arm" in fault_of("user_stopped")
    assert "reflex (cartesian_reflex, b)" in fault_of("reflex", ["cartesian_reflex", "b"])
    assert "joint_velocity_violation" in fault_of("move", ["joint_velocity_violation"])
    assert "unknown mode (x)" in fault_of("", ["x"]) and "strange" in fault_of("strange")
