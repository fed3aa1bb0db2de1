"""Pins: planted delay, gain, saturation, jitter and losses are what the check says, whichever axis and control rate."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inril_core.data.container import EpisodeUnreadable
from inril_core.errors import ConfigError
from inril_core.teleop_check.drive import read_drive
from inril_core.teleop_check.found import AXES
from inril_core.teleop_check.measure import measure
from inril_core.teleop_check.verdict import reasons
from tests.data.synthetic import Synthetic
from tests.teleop_check.made import contract, drive, found, whole


@settings(max_examples=25, deadline=None)
@given(
    axis=st.integers(0, 5),
    delay_s=st.floats(0.0, 0.4),
    gain=st.floats(0.3, 1.6),
    rate_hz=st.sampled_from([10.0, 20.0]),
    seed=st.integers(0, 1000),
)
def test_any_delay_and_gain_of_any_axis_are_found(
    axis: int, delay_s: float, gain: float, rate_hz: float, seed: int
) -> None:
    """With 1 % of noise at 100 Hz: the delay to 5 ms, a twentieth of a period; the gain to 3 %."""
    under = contract(rate_hz)
    one = found([drive(axis, under, delay_s, gain, noise=0.01, seed=seed)], under).axes[AXES[axis]]
    assert one.delay_s == pytest.approx(delay_s, abs=5e-3) and one.delay_std_s is not None and one.delay_std_s < 0.02
    assert one.gain == pytest.approx(gain, rel=0.03)


def test_an_arm_without_faults_passes() -> None:
    under = contract()
    measured = found(whole(under, delay_s=0.05, noise=0.003), under)
    assert reasons(measured, under) == ()
    assert measured.steps_n == 600 and measured.held_n == measured.targets_lost_n == 0 and not measured.limits


def test_an_axis_at_rest_in_other_episodes_is_taken_from_its_own() -> None:
    """And one that nobody drove is named, with how far to drive it."""
    under = contract()
    measured = found([drive(axis, under, delay_s=0.02 * axis) for axis in (0, 4)], under)
    assert measured.axes["x"].delay_s == pytest.approx(0.0, abs=3e-3)
    assert measured.axes["turn_y"].delay_s == pytest.approx(0.08, abs=3e-3)
    told = reasons(measured, under)
    assert len(told) == 4 and "y: was driven over 0 m; drive it to and fro over 0.02 m" in told


def test_a_slow_arm_is_named_with_its_speed() -> None:
    """Saturation: the arm's own limit is the measured speed, whatever is commanded."""
    under = contract()
    axis = found([drive(0, under, speed_max=0.02)], under).axes["x"]
    assert axis.measured_speed == pytest.approx(0.02, rel=0.02)
    assert axis.commanded_speed > 0.05 and axis.gain is not None and axis.gain < 0.8
    *turns, slow, late = reasons(found(whole(under, speed_max=0.02), under), under)
    assert slow.startswith("x 0.") and "z 0." in slow and "motion.relative_dynamics_factor" in slow
    assert late.startswith("x ") and "behind the Targets" in late, "what trails is late as well"
    assert len(turns) == 3 and all("turn_" in text and "does not follow" in text for text in turns)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"gain": -1.0}, "against what is commanded"),
        ({"gain": 0.7}, "0.70.*of the commanded speed, at least 0.8"),
        ({"gain": 1.3}, "1.30.*at most 1.2 are allowed"),
        ({"delay_s": 0.25}, r"x 250 \+- .*behind the Targets, at most 200 ms"),
    ],
)
def test_one_reason_names_all_axes_and_the_fix(settings: dict[str, float], told: str) -> None:
    under = contract()
    (text,) = reasons(found(whole(under, **settings), under), under)
    assert re.search(told, text) and all(f"{axis} " in text for axis in AXES) and ";" in text


@settings(max_examples=20, deadline=None)
@given(jitter_s=st.floats(1e-4, 0.01), seed=st.integers(0, 1000))
def test_jitter_of_ticks_is_found(jitter_s: float, seed: int) -> None:
    """Stamps k T + e, e normal: the deviation of a period is sqrt(2) of e's; n = 2000, so 8 % are five errors."""
    under, rng = contract(), np.random.default_rng(seed)
    ticks = np.arange(2001) * 0.1 + jitter_s * rng.standard_normal(2001)
    cadence = found([replace(drive(0, under), tick_s=ticks)], under).cadence
    assert cadence is not None and cadence.jitter_s == pytest.approx(math.sqrt(2.0) * jitter_s, rel=0.08)
    assert cadence.period_s == pytest.approx(0.1, abs=jitter_s)


def test_uneven_ticks_silent_states_and_losses_are_named() -> None:
    under = contract()
    drives = whole(under)
    one = drives[0]
    uneven = one.tick_s + np.where(np.arange(len(one.tick_s)) % 2, 0.06, 0.0)
    late = measure([replace(each, tick_s=uneven) for each in drives], under, 7, (), real_time=True)
    silent = (one.state_s < 4.0) | (one.state_s > 4.5)
    gap = found([replace(one, state_s=one.state_s[silent], pose=one.pose[silent], states_lost=50), *drives[1:]], under)
    assert gap.cadence is not None and gap.cadence.state_gap_s == pytest.approx(0.51, abs=0.02)
    dropped = np.arange(len(one.target)) % 10 != 3
    lossy = [replace(each, target_s=each.target_s[dropped], target=each.target[dropped]) for each in drives]
    lost = found(lossy, under)
    assert lost.targets_lost_n == 60 and lost.axes["x"].delay_s == pytest.approx(0.0, abs=0.02)
    for measured, words in (
        (late, ("7 of 600 ticks", "off its time")),
        (gap, ("silent for 0.5",)),
        (lost, ("60 of 600",)),
    ):
        told = " ".join(reasons(measured, under))
        assert all(word in told for word in words), told


def test_in_lockstep_there_is_no_jitter_to_judge() -> None:
    under = contract()
    uneven = [replace(one, tick_s=one.tick_s * np.linspace(1.0, 3.0, len(one.tick_s))) for one in whole(under)]
    measured = measure(uneven, under, 0, (), real_time=False)
    assert measured.cadence is None and reasons(measured, under) == ()


def test_limits_that_were_met_are_counted_with_the_worst_margin() -> None:
    """The box was only touched; the wind-up shortens half of all steps, so the arm does not keep up."""
    under = contract()
    limits = tuple(("position_box",) if k == 3 else ("windup", "infeasible") if k % 2 else () for k in range(100))
    margins = tuple((-0.004,) if k == 3 else (-0.001 * k, math.nan) if k % 2 else () for k in range(100))
    drives = [replace(one, limits=limits, margins=margins) for one in whole(under)]
    measured = found(drives, under)
    assert measured.limits["position_box"].steps_n == 6 and measured.limits["position_box"].worst_margin == -0.004
    assert measured.limits["windup"].steps_n == 6 * 49 and measured.limits["windup"].worst_margin == -0.099
    assert measured.limits["infeasible"].worst_margin is None
    (told,) = reasons(measured, under)
    assert told.startswith(f"windup has shortened 294 of {measured.driven_n} driven steps")


def test_steps_in_which_nobody_drives_are_held_and_faults_are_told_once() -> None:
    under = contract()
    absent = np.arange(100) < 30
    drives = [replace(one, by_person=~absent, faults=("reflex: look at it",)) for one in whole(under)]
    measured = measure(drives, under, 0, ("episode a ended: robot_fault",), real_time=True)
    assert measured.held_n == 180 and measured.driven_n <= 420
    assert reasons(measured, under) == ("fault: episode a ended: robot_fault", "fault: reflex: look at it")


def test_nothing_recorded_and_another_action_are_refused() -> None:
    under = contract()
    with pytest.raises(ConfigError, match="no episode was recorded"):
        measure([], under, 0, (), real_time=True)
    seven = drive(0, under)
    with pytest.raises(ConfigError, match="other actions than the 6 numbers"):
        found([replace(seven, asked=np.zeros((100, 7)))], under)


def test_files_that_hold_no_drive_are_named(tmp_path: Path) -> None:
    """A recording without robot_state, a torn one, and none at all."""
    path = Synthetic(steps=6, episode_id="demo-0", purpose="demo", human_from=0).record(tmp_path)
    torn = tmp_path / "torn.mcap"
    torn.write_bytes(b"torn")
    for file, told in (
        (path, "no tick with its action|demo-0"),
        (torn, "torn.mcap.*MCAP"),
        (tmp_path / "x", "x: No such"),
    ):
        with pytest.raises(EpisodeUnreadable, match=told):
            read_drive(file)
