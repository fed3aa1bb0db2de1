"""Pins: parts that a policy sees better than any tracker could: without noise, at once, and in every period."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from inril_core.contract.definitions import PartNoise
from inril_core.errors import ConfigError
from inril_core.settings import read_settings
from inril_core.sim.part_noise import PartTracker

PERIOD_NS = 100_000_000


def parts_at(stamp_ns: int) -> dict[str, np.ndarray]:
    """A leg that moves at 0.2 m/s and turns at 1 rad/s, and a hole that stands still."""
    time_s = stamp_ns * 1e-9
    turn = Rotation.from_rotvec([0.0, 0.0, time_s]).as_quat()
    return {"leg": np.array([0.2 * time_s, 0.0, 0.1, *turn]), "hole": np.array([0.5, 0, 0, 0, 0, 0, 1.0])}


def run(noise: PartNoise, periods: int, seed: int = 0) -> list[tuple[int, dict[str, np.ndarray]] | None]:
    tracker = PartTracker(noise)
    tracker.reset(seed)
    return [tracker.measure(k * PERIOD_NS, parts_at(k * PERIOD_NS)) for k in range(periods)]


def angle_rad(a: np.ndarray, b: np.ndarray) -> float:
    return float((Rotation.from_quat(a[3:]).inv() * Rotation.from_quat(b[3:])).magnitude())


def test_a_perfect_tracker_says_what_is_there_to_the_bit() -> None:
    for k, (stamp_ns, parts) in enumerate(run(PartNoise(), 5)):
        assert stamp_ns == k * PERIOD_NS
        assert all(np.array_equal(parts[name], pose) for name, pose in parts_at(stamp_ns).items())


@given(st.floats(0.0, 0.95))
def test_a_measurement_is_of_the_time_that_its_stamp_says(delay_s: float) -> None:
    """Closed form: constant velocities are interpolated exactly."""
    measured = run(PartNoise(delay_s=delay_s), 15)
    for k, (stamp_ns, parts) in enumerate(measured):
        assert stamp_ns == k * PERIOD_NS - round(delay_s * 1e9)
        true = parts_at(max(stamp_ns, 0))  # before its first state the cell stood still
        for name, pose in true.items():
            assert np.allclose(parts[name][:3], pose[:3], atol=1e-12)
            assert angle_rad(parts[name], pose) < 1e-7


def test_noise_has_the_size_that_is_asked_for() -> None:
    measured = run(PartNoise(position_m=0.001, rotation_rad=0.02), 4000)
    shift = np.array([parts["hole"][:3] - [0.5, 0, 0] for _, parts in measured])
    turn = Rotation.from_quat([parts["hole"][3:] for _, parts in measured]).as_rotvec()
    for values, wanted in ((shift, 0.001), (turn, 0.02)):
        assert np.allclose(values.std(0), wanted, rtol=5 / math.sqrt(2 * 4000))
        assert np.all(np.abs(values.mean(0)) < 5 * wanted / math.sqrt(4000))
        assert abs(np.corrcoef(values[:-1, 0], values[1:, 0])[0, 1]) < 0.1
    quaternions = np.array([parts["leg"][3:] for _, parts in measured])
    assert np.allclose(np.linalg.norm(quaternions, axis=1), 1.0)


@pytest.mark.parametrize(("rate_hz", "smoothing_s"), [(30.0, 0.1), (100.0, 0.05), (5.0, 0.2)])
def test_smoothed_noise_has_the_size_of_its_filter(rate_hz: float, smoothing_s: float) -> None:
    """Closed form: a first-order filter of gain g leaves sqrt(g / (2 - g)) of white noise."""
    noise = PartNoise(position_m=0.001, rate_hz=rate_hz, smoothing_s=smoothing_s)
    measured = run(noise, 4000)
    stamps = [found[0] for found in measured if found is not None]
    assert np.diff(stamps).min() >= 0.99e9 / max(rate_hz, 10.0), "at most one in a period"
    shift = np.array([found[1]["hole"][:3] - [0.5, 0, 0] for found in measured if found is not None])
    gain = 1.0 - math.exp(-1.0 / (rate_hz * smoothing_s))
    assert np.allclose(shift[50:].std(), 0.001 * math.sqrt(gain / (2.0 - gain)), rtol=0.1)


def test_images_between_two_periods_are_as_many_as_the_rate_says() -> None:
    """Dropouts count images, not periods: with three images in a period all three must be lost."""
    lost = [result is None for result in run(PartNoise(dropout=0.5, rate_hz=30.0), 4000)]
    assert abs(np.mean(lost) - 0.125) < 5 * math.sqrt(0.125 * 0.875 / 4000)


def test_periods_without_a_measurement_are_as_many_as_asked_for_and_never_the_first() -> None:
    noise = PartNoise(dropout=0.3)
    lost = [result is None for result in run(noise, 4000)]
    assert abs(np.mean(lost) - 0.3) < 5 * math.sqrt(0.3 * 0.7 / 4000)
    assert all(run(PartNoise(dropout=0.95), 1, seed)[0] is not None for seed in range(50))


def test_the_noise_of_an_episode_is_decided_by_its_seed() -> None:
    noise = PartNoise(position_m=0.001, rotation_rad=0.02, delay_s=0.05, dropout=0.2)
    tracker = PartTracker(noise)
    tracker.reset(3)
    tracker.measure(0, parts_at(0))
    tracker.reset(4)
    again = [tracker.measure(k * PERIOD_NS, parts_at(k * PERIOD_NS)) for k in range(20)]
    for one, other in zip(again, run(noise, 20, seed=4), strict=True):
        assert (one is None) == (other is None)
        assert one is None or (one[0] == other[0] and np.array_equal(one[1]["leg"], other[1]["leg"]))
    assert not np.array_equal(again[0][1]["leg"], run(noise, 1, seed=5)[0][1]["leg"])


@pytest.mark.parametrize("text", ["{position_m: -1}", "{delay_s: 2}", "{dropout: 1.0}", "{noise: 1}", "3"])
def test_what_cannot_be_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigError, match="part_noise"):
        read_settings(PartNoise, text, "part_noise")


def test_the_documented_noise_is_what_tags_give() -> None:
    """1 mm and 1 degree lie between a part that shows one 20 mm tag and one that shows four."""
    one_m, one_rad = tag_noise(np.zeros((1, 2)))
    four_m, four_rad = tag_noise(0.02 * np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]]))
    assert four_m < 0.001 < one_m, (four_m, one_m)
    assert four_rad < math.radians(1.0) < one_rad, (math.degrees(four_rad), math.degrees(one_rad))


def tag_noise(centres_m: np.ndarray) -> tuple[float, float]:
    """Largest standard deviation of position (m) and rotation (rad) of a part with 20 mm tags at these places of a
    face, 0.5 m before a camera with a focal length of 900 pixels, corners found to 0.3 pixels; then solvePnP."""
    cv2 = pytest.importorskip("cv2")
    rng, half_m, focal_px = np.random.default_rng(0), 0.01, 900.0
    square = np.array([[-1, 1, 0], [1, 1, 0], [1, -1, 0], [-1, -1, 0]]) * half_m
    flat = np.concatenate([square + [x, y, 0.0] for x, y in centres_m])
    camera = np.array([[focal_px, 0, 640], [0, focal_px, 360], [0, 0, 1.0]])
    tilt = Rotation.from_euler("xyz", [35, 10, 0], degrees=True)
    shifts, turns = [], []
    for _ in range(300):
        in_camera = tilt.apply(flat) + [0.03, 0.02, 0.5]
        pixels = (camera @ in_camera.T).T
        seen = pixels[:, :2] / pixels[:, 2:] + rng.normal(0.0, 0.3, (len(flat), 2))
        _, rotation, place = cv2.solvePnP(flat, seen, camera, None)
        shifts.append(place.ravel() - [0.03, 0.02, 0.5])
        turns.append((tilt.inv() * Rotation.from_rotvec(rotation.ravel())).as_rotvec())
    return float(np.std(shifts, axis=0).max()), float(np.std(turns, axis=0).max())
