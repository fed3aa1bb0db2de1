"""Pins: set-points that jump, exceed a limit after a gap or a re-arm, or do not come to rest at the target."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

pytest.importorskip("ruckig")

from inril_core.errors import ConfigError
from inril_core.hardware.motion import MotionLimits, SmoothMotion, angular_motion, speed_that_stops_within

PERIOD_S = 0.1
TIMEOUT_S = 0.3
SAMPLE_S = 0.004
HERE = [0.5, 0.0, 0.2, 1.0, 0.0, 0.0, 0.0]
FULL = MotionLimits(relative_dynamics_factor=1.0)


def pose(offset: tuple[float, float, float], turn: tuple[float, float, float]) -> list[float]:
    """From HERE: shifted by m, turned by a rotation vector in the base frame."""
    quat = (Rotation.from_rotvec(turn) * Rotation.from_quat(HERE[3:])).as_quat()
    return [*(np.array(HERE[:3]) + offset).tolist(), *quat.tolist()]


def moving(limits: MotionLimits = FULL, timeout_s: float = TIMEOUT_S) -> SmoothMotion:
    motion = SmoothMotion(limits, PERIOD_S, timeout_s)
    motion.start(HERE, 0.0)
    return motion


def samples(motion: SmoothMotion, begin_s: float, duration_s: float) -> list[np.ndarray]:
    count = round(duration_s / SAMPLE_S)
    return [motion.at(begin_s + n * SAMPLE_S).pose for n in range(1, count + 1)]


def angle_rad(one: np.ndarray, other: np.ndarray) -> float:
    return float((Rotation.from_quat(one[3:]) * Rotation.from_quat(other[3:]).inv()).magnitude())


def check_limits(poses: list[np.ndarray], limits: MotionLimits) -> None:
    """By the mean value theorem a divided difference of order n is within the bound of the nth derivative."""
    factor = limits.relative_dynamics_factor
    ways = np.array([p[:3] for p in poses])
    for order, most in ((1, limits.max_speed_mps), (2, limits.max_acceleration_mps2), (3, limits.max_jerk_mps3)):
        differences = np.linalg.norm(np.diff(ways, order, axis=0), axis=1) / SAMPLE_S**order
        assert differences.max(initial=0.0) <= most * factor * (1 + 1e-6) + 1e-12 / SAMPLE_S**order
    rates = [angle_rad(new, old) / SAMPLE_S for old, new in pairwise(poses)]
    assert max(rates, default=0.0) <= limits.max_turn_radps * factor * (1 + 1e-6) + 1e-6


small = st.floats(-0.03, 0.03)
offsets = st.tuples(small, small, small)
turns = st.tuples(*[st.floats(-0.3, 0.3)] * 3)
events = st.lists(
    st.tuples(
        st.sampled_from(["aim", "aim", "aim", "stop", "arm"]), offsets, turns, st.sampled_from([5, 23, 25, 65, 150])
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=30, deadline=None)
@given(events, st.sampled_from([0.05, 0.3, 1.0]), st.sampled_from([0.0, 0.001]))
def test_every_limit_holds_for_any_targets_gaps_and_rearms(
    said: list[tuple[str, tuple[float, float, float], tuple[float, float, float], int]], factor: float, overrun_m: float
) -> None:
    limits = MotionLimits(relative_dynamics_factor=factor, overrun_m=overrun_m)
    motion = moving(limits)
    now_s, piece = 0.0, [motion.at(0.0).pose]
    where, turned = np.zeros(3), Rotation.identity()
    for what, offset, turn, wait in said:
        if what == "arm":
            check_limits(piece, limits)
            measured = pose(tuple(where + 0.01), (0.0, 0.0, 0.0))
            motion.start(measured, now_s)
            piece = [motion.at(now_s).pose]
            assert np.allclose(piece[0], measured), "the first command is the measured pose"
        elif what == "stop":
            motion.stop(now_s)
        else:
            where, turned = where + offset, Rotation.from_rotvec(turn) * turned
            motion.aim(pose(tuple(where), tuple(turned.as_rotvec())), now_s)
        piece += samples(motion, now_s, wait * SAMPLE_S)
        now_s += wait * SAMPLE_S
    check_limits(piece, limits)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(offsets, turns), min_size=1, max_size=6), st.sampled_from([0.1, 1.0]))
def test_it_comes_to_rest_at_the_last_target(steps: list[tuple], factor: float) -> None:
    limits = MotionLimits(relative_dynamics_factor=factor)
    motion = moving(limits, timeout_s=60.0)
    where, goal = np.zeros(3), HERE
    for number, (offset, turn) in enumerate(steps):
        where = where + offset
        goal = pose(tuple(where), turn)
        motion.aim(goal, number * PERIOD_S)
    end_s = len(steps) * PERIOD_S + 30.0
    found = motion.at(end_s).pose
    assert np.linalg.norm(found[:3] - goal[:3]) < 1e-6 and angle_rad(found, np.array(goal)) < 1e-6
    assert not motion.at(end_s).speed_mps.any()


def test_a_stream_is_followed_on_time_and_without_a_stop() -> None:
    motion = moving()
    speeds = []
    for k in range(1, 30):
        goal = pose((0.004 * k, 0.0, 0.0), (0.0, 0.0, 0.0))
        motion.aim(goal, (k - 1) * PERIOD_S)
        speeds += [motion.at((k - 1) * PERIOD_S + n * 0.01).speed_mps[0] for n in range(10)]
        if k > 2:
            reached = motion.at(k * PERIOD_S - 1e-6).pose
            assert abs(reached[0] - goal[0]) < 1e-5, "it is there at the end of the period"
    assert min(speeds[50:]) > 0.03, "it stops between targets of a steady stream"


@pytest.mark.parametrize("overrun_m", [0.0, 0.001, 0.005])
def test_where_the_next_target_does_not_come_it_overruns_by_no_more_than_allowed(overrun_m: float) -> None:
    motion = moving(MotionLimits(relative_dynamics_factor=1.0, overrun_m=overrun_m), timeout_s=60.0)
    for k in range(1, 10):
        motion.aim(pose((0.015 * k, 0.0, 0.0), (0.0, 0.0, 0.0)), (k - 1) * PERIOD_S)
    last_m = HERE[0] + 0.015 * 9
    beyond = max(p[0] for p in samples(motion, 8 * PERIOD_S, 2.0)) - last_m
    assert beyond <= overrun_m + 1e-9
    assert abs(motion.at(20.0).pose[0] - last_m) < 1e-9


def test_a_target_out_of_reach_in_time_is_reached_later() -> None:
    motion = moving(MotionLimits(relative_dynamics_factor=0.05), timeout_s=60.0)
    goal = pose((0.05, 0.0, 0.0), (0.0, 0.0, 0.0))
    motion.aim(goal, 0.0)
    assert motion.at(PERIOD_S).pose[0] < goal[0] - 0.04
    assert abs(motion.at(30.0).pose[0] - goal[0]) < 1e-9
    check_limits(samples(moving_to(goal), 0.0, 6.0), MotionLimits(relative_dynamics_factor=0.05))


def moving_to(goal: list[float]) -> SmoothMotion:
    motion = moving(MotionLimits(relative_dynamics_factor=0.05), timeout_s=60.0)
    motion.aim(goal, 0.0)
    return motion


def test_without_targets_it_holds_by_itself() -> None:
    motion = moving(MotionLimits(relative_dynamics_factor=0.2))
    motion.aim(pose((0.3, 0.0, 0.0), (0.0, 0.0, 0.0)), 0.0)
    before = motion.at(TIMEOUT_S).pose[0]
    rest_s = TIMEOUT_S + 0.5
    assert motion.at(TIMEOUT_S).speed_mps[0] > 0.01 and not motion.at(rest_s).speed_mps.any()
    held = motion.at(rest_s).pose
    assert before < held[0] < HERE[0] + 0.1, "it came to rest on its way"
    assert np.array_equal(motion.at(rest_s + 60.0).pose, held)
    motion.aim(HERE, rest_s + 60.0)
    check_limits([held, *samples(motion, rest_s + 60.0, 0.2)], MotionLimits(relative_dynamics_factor=0.2))


def test_turns_beyond_pi_are_followed() -> None:
    motion = moving(timeout_s=60.0)
    for k in range(1, 90):
        motion.aim(pose((0.0, 0.0, 0.0), (0.0, 0.0, 0.06 * k)), (k - 1) * PERIOD_S)
        poses = samples(motion, (k - 1) * PERIOD_S, PERIOD_S)
        check_limits(poses, FULL)
        if k > 5:
            assert angle_rad(poses[-1], np.array(pose((0.0, 0.0, 0.0), (0.0, 0.0, 0.06 * k)))) < 0.01
    assert angle_rad(motion.at(60.0).pose, np.array(pose((0.0, 0.0, 0.0), (0.0, 0.0, 0.06 * 89)))) < 1e-6


def test_the_angular_motion_of_a_rotation_vector_is_that_of_finite_differences() -> None:
    rng = np.random.default_rng(0)
    for scale in (0.0, 1e-4, 0.5, 2.5):
        turn, rate, growth = scale * rng.normal(size=3) / 1.8, rng.normal(size=3), rng.normal(size=3)

        def omega(
            t_s: float, turn: np.ndarray = turn, rate: np.ndarray = rate, growth: np.ndarray = growth
        ) -> np.ndarray:
            step = 1e-5
            new, old = (Rotation.from_rotvec(turn + rate * t + 0.5 * growth * t * t) for t in (t_s + step, t_s - step))
            return (new * old.inv()).as_rotvec() / (2 * step)

        found, change = angular_motion(turn, rate, growth)
        assert np.allclose(found, omega(0.0), atol=1e-5)
        assert np.allclose(change, (omega(1e-3) - omega(-1e-3)) / 2e-3, atol=1e-3)


@given(st.floats(1e-4, 0.01), st.floats(0.1, 10.0), st.floats(10.0, 5000.0))
def test_the_speed_that_stops_within_a_way(way_m: float, acceleration: float, jerk: float) -> None:
    """A plain simulation of the stop: ramp of the deceleration up, constant, down."""
    speed = speed_that_stops_within(way_m, acceleration, jerk)
    peak = min(acceleration, math.sqrt(speed * jerk))
    ramp_s, flat_s = peak / jerk, max(0.0, speed / peak - peak / jerk)
    times = np.linspace(0.0, 2 * ramp_s + flat_s, 20001)
    deceleration = np.minimum(np.minimum(jerk * times, peak), jerk * (times[-1] - times))
    dt = times[1] - times[0]
    speeds = speed - np.concatenate([[0.0], np.cumsum((deceleration[1:] + deceleration[:-1]) / 2 * dt)])
    assert abs(speeds[-1]) < 1e-3 * speed
    assert abs(float(np.sum((speeds[1:] + speeds[:-1]) / 2 * dt)) - way_m) < 1e-3 * way_m


@pytest.mark.parametrize("bad", [[0.0] * 7, [math.nan, *HERE[1:]], HERE[:6]])
def test_no_pose_is_refused_and_changes_nothing(bad: list[float]) -> None:
    motion = moving()
    with pytest.raises(ValueError):
        motion.aim(bad, 0.0)
    assert np.array_equal(motion.at(1.0).pose, np.array(HERE))
    with pytest.raises(ConfigError):
        SmoothMotion(FULL, 0.0, 1.0)


def largest_jerk_mps3(motion: SmoothMotion) -> float:
    """Of a move along x from rest, by third differences over 0.5 ms: finer than any of its phases."""
    motion.aim(pose((0.05, 0.0, 0.0), (0.0, 0.0, 0.0)), 0.0)
    ways_m = np.array([motion.at(n * 5e-4).pose[0] for n in range(500)])
    return float(np.abs(np.diff(ways_m, 3)).max()) / 5e-4**3


def test_jerk_is_at_its_limit_and_not_above() -> None:
    found = largest_jerk_mps3(moving())
    limit = FULL.max_jerk_mps3 / math.sqrt(3.0)  # of one axis, so that the norm of three keeps it
    assert 0.98 * limit < found < 1.001 * limit
    broken = moving()
    broken._jerk = 2.0 * broken._jerk
    assert largest_jerk_mps3(broken) > 1.5 * limit, "the measure sees a jerk that is too large"
