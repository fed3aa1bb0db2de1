"""Pins: what a part of somebody else makes is checked where it is made, and the error says what it should have been."""

import pytest

from inril_core.errors import ConfigError
from inril_core.hardware.arms.base import Arm
from inril_core.hardware.arms.simulated import SimulatedArm
from inril_core.plugins import Kind, check_made
from inril_core.settings import Settings


def test_what_is_of_another_class_is_refused_by_the_setting_that_names_it() -> None:
    check_made(SimulatedArm.__new__(SimulatedArm), Arm, "arm = 'lab:Config'")
    told = r"arm = 'lab:Config': it builds a int, which is no Arm; inril_core\.hardware\.arms\.base says"
    with pytest.raises(ConfigError, match=told):
        check_made(3, Arm, "arm = 'lab:Config'")


def test_a_name_that_is_no_text_is_refused() -> None:
    with pytest.raises(ConfigError, match="arms = 3: must be a name; known: .*simulated"):
        Kind("arms", "inril_core.hardware.arms", "Config", Settings).find(3)
