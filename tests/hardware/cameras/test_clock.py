"""Pins: stamps that wander away with the camera's crystal, or jitter with the load of the machine."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inril_core.hardware.cameras.clock import JUMP_NS, ClockFit

PERIOD_NS = 33_333_333
OFFSET_NS = 1_700_000_000 * 10**9


def run(fit: ClockFit, images: int, drift: float, seed: int = 0, least_ns: int = 2_000_000) -> np.ndarray:
    """float64[images]: error of each stamp [ns] against the true time, with delays of 2 ms and more, exponential."""
    rng = np.random.default_rng(seed)
    errors = []
    for i in range(images):
        device_ns = i * PERIOD_NS
        true_ns = OFFSET_NS + round(device_ns * (1.0 + drift))
        arrived_ns = true_ns + least_ns + round(rng.exponential(8e6))
        errors.append(fit.add(device_ns, arrived_ns) - true_ns)
    return np.array(errors, np.float64)


@settings(max_examples=25)
@given(drift=st.floats(-80e-6, 80e-6), seed=st.integers(0, 10**6))
def test_offset_and_drift_are_found_through_jitter(drift: float, seed: int) -> None:
    """Against the truth: after 90 s to 20 ppm, and stamps within 1.5 ms of the shortest delay."""
    fit = ClockFit()
    errors = run(fit, 30 * 90, drift, seed)
    assert abs(fit.drift_ppm - drift * 1e6) < 20.0
    late = errors[30 * 15 :] - 2e6
    assert np.abs(late).max() < 1.5e6 and np.abs(np.diff(errors[30 * 30 :])).max() < 1e6


@given(st.lists(st.tuples(st.integers(1, 10**9), st.integers(0, 10**9)), min_size=1, max_size=200))
def test_no_stamp_is_later_than_its_arrival(steps: list[tuple[int, int]]) -> None:
    fit, device_ns, host_ns = ClockFit(), 0, OFFSET_NS
    for step_ns, delay_ns in steps:
        device_ns, host_ns = device_ns + step_ns, host_ns + step_ns
        assert fit.add(device_ns, host_ns + delay_ns) <= host_ns + delay_ns


def test_without_jitter_the_stamps_are_exact() -> None:
    fit = ClockFit()
    for i in range(3000):
        assert abs(fit.add(i * PERIOD_NS, OFFSET_NS + i * PERIOD_NS) - OFFSET_NS - i * PERIOD_NS) <= 1
    assert fit.resets == 0 and fit.drift_ppm == 0.0 and fit.offset_ns == OFFSET_NS


@pytest.mark.parametrize("jump", ["host set back", "camera restarted", "host set forward"])
def test_a_clock_that_jumps_begins_anew(jump: str) -> None:
    fit = ClockFit()
    run(fit, 600, 0.0)
    device_ns, host_ns = 600 * PERIOD_NS, OFFSET_NS + 600 * PERIOD_NS
    if jump == "host set back":
        host_ns -= 2 * JUMP_NS
    elif jump == "host set forward":
        host_ns += 3600 * 10**9
    else:
        device_ns = 0
    assert fit.add(device_ns, host_ns) == host_ns and fit.resets == 1
