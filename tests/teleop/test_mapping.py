"""Pins: dead zones, triggers that rest at one end, directions, and mapping files that do not fit the hardware."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inril_core.errors import ConfigError
from inril_core.teleop.base import TickView
from inril_core.teleop.common.mapped import Buttons
from inril_core.teleop.common.mapping import MEANINGS, AxisMap, ControlMap, Reading, read_mapping_file

UNIT = st.floats(-1.0, 1.0)


def value(raw: float, **settings: object) -> float:
    return AxisMap(axis="a", **settings).value(Reading({"a": raw}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("raw", "settings", "wanted"),
    [
        (0.0, {}, 0.0),
        (1.0, {}, 1.0),
        (-1.0, {}, -1.0),
        (1.3, {}, 1.0),
        (0.2, {"dead_zone": 0.2}, 0.0),
        (0.6, {"dead_zone": 0.2}, 0.5),
        (-0.6, {"dead_zone": 0.2}, -0.5),
        (0.6, {"dead_zone": 0.2, "invert": True}, -0.5),
        (1.0, {"rest": 1.0}, 0.0),
        (-1.0, {"rest": 1.0, "invert": True}, 1.0),
        (0.0, {"rest": 1.0, "invert": True, "dead_zone": 0.0}, 0.5),
        (1.0, {"rest": -1.0}, 1.0),
    ],
)
def test_closed_forms(raw: float, settings: dict[str, object], wanted: float) -> None:
    assert value(raw, **settings) == pytest.approx(wanted)


@given(raw=UNIT, rest=UNIT, dead_zone=st.floats(0.0, 0.9))
def test_at_rest_nothing_moves_and_no_value_is_out_of_range(raw: float, rest: float, dead_zone: float) -> None:
    assert value(rest, rest=rest, dead_zone=dead_zone) == 0.0
    assert -1.0 <= value(raw, rest=rest, dead_zone=dead_zone) <= 1.0


@given(UNIT, UNIT)
def test_a_larger_deflection_never_moves_less(a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert value(low) <= value(high)


def test_two_triggers_and_two_buttons_against_each_other() -> None:
    triggers = AxisMap(axis="r", minus_axis="l", dead_zone=0.0)
    assert triggers.value(Reading({"r": 0.75, "l": 0.25})) == 0.5
    pad = AxisMap(plus_button="u", minus_button="d")
    assert [pad.value(Reading({}, {"u": u, "d": d})) for u, d in ((1, 0), (0, 1), (1, 1))] == [1.0, -1.0, 0.0]  # type: ignore[dict-item]


def test_a_mapping_survives_its_file(tmp_path: Path) -> None:
    mapping = ControlMap(
        device="joy",
        product="a pad: left",
        axes={"rz": AxisMap(axis="2", invert=True, rest=1.0)},
        buttons={"grab": "5"},
    )
    path = tmp_path / "pad.yaml"
    path.write_text(mapping.text())
    assert read_mapping_file(path) == mapping


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("axes: {x: {}}", "give axis"),
        ("axes: {up: {axis: a}}", "axes.up"),
        ("axes: {x: {axis: a, dead_zone: 1.0}}", "dead_zone"),
        ("axes: {x: {axis: a, rest: .nan}}", "rest"),
        ("axes: {x: {minus_axis: a, plus_button: b}}", "without axis"),
        ("buttons: {jump: '3'}", "buttons.jump"),
        ("buttons: {grab: '3', gripper: '3'}", "two things"),
        ("buttons: [3]", "buttons"),
        ("axes: {x: {axis: a}", "not YAML"),
        ("\0", "not YAML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "pad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=named):
        read_mapping_file(path)


def test_a_file_that_is_not_there_and_one_for_other_hardware(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="inril devices map"):
        read_mapping_file(tmp_path / "none.yaml")
    mapping = ControlMap(axes={"x": AxisMap(axis="7")}, buttons={"grab": "0"})
    with pytest.raises(ConfigError, match=r"no axis '7'; there are 0, 1"):
        mapping.check(["0", "1"], ["0"], "pad.yaml")
    with pytest.raises(ConfigError, match="no button '0'; there are none"):
        mapping.check(["7"], [], "pad.yaml")


class Pad:
    """Buttons, pressed by their meanings."""

    MAPPING = ControlMap(buttons={meaning: meaning for meaning in MEANINGS})

    def __init__(self) -> None:
        self.buttons = Buttons(self.MAPPING)
        self.take()

    def take(self, *down: str, commanded: float = -1.0, tick: TickView | None = None) -> tuple[bool, bool, str]:
        reading = Reading({}, {name: name in down for name in self.MAPPING.buttons.values()})
        return self.buttons.take(reading, commanded, tick)


def test_an_event_is_said_once_for_each_press() -> None:
    pad = Pad()
    said = [pad.take(*down)[2] for down in (["success"], ["success"], [], ["success"], ["failure"], ["discard"])]
    assert said == ["success", "", "", "success", "failure", "discard"]


def test_what_is_pressed_when_the_device_opens_says_nothing() -> None:
    pad = Pad()
    pad.buttons.forget()
    assert pad.take("success")[2] == ""
    pad.take()
    assert pad.take("success")[2] == "success"


def test_the_grippers_button_turns_round_what_is_commanded_and_letting_go_keeps_it() -> None:
    """Pins: a takeover that drops what the policy holds."""
    pad = Pad()
    pad.take("grab", commanded=1.0)
    assert np.isnan(pad.buttons.gripper(True)), "until a button is pressed the gripper stays as it is"
    pad.take("grab", "gripper", commanded=1.0)
    assert pad.buttons.gripper(True) == -1.0
    pad.take("grab", commanded=1.0)
    assert pad.buttons.gripper(True) == -1.0
    pad.take("grab", "gripper", commanded=1.0)
    assert pad.buttons.gripper(True) == 1.0, "of what was asked last, not of what the slow gripper has reached"
    assert pad.buttons.gripper(False) == 1.0 and np.isnan(pad.buttons.gripper(False))
    pad.take("grab", "close", commanded=-1.0)
    assert pad.buttons.gripper(True) == 1.0
    pad.take("grab", "open", commanded=-1.0)
    assert pad.buttons.gripper(True) == -1.0


def test_what_was_asked_of_the_gripper_in_another_episode_counts_no_more() -> None:
    """Pins: a gripper that closes by itself where the next episode begins, its grab button held all the while."""
    pad = Pad()
    first, second = (TickView(name, 0, "demo", 0, np.zeros(1), np.zeros(7)) for name in ("e0", "e1"))
    pad.take("grab", tick=first)
    pad.take("grab", "close", tick=first)
    pad.take("grab", tick=first)
    assert pad.buttons.gripper(True) == 1.0
    for tick in (second, None, first):
        pad.take("grab", tick=tick)
        assert np.isnan(pad.buttons.gripper(True))
        pad.take("grab", "close", tick=tick)
        pad.take("grab", tick=tick)
        assert pad.buttons.gripper(True) == 1.0
