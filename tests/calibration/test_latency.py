"""Pins: a delay is found to a fraction of a sample, and a recording that does not show one is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inril_core.calibration.latency import delay_between, read_latency
from inril_core.calibration.refused import CalibrationRefused


def chirp(t: np.ndarray) -> np.ndarray:
    """Metres; 0.2 to 1.2 Hz within 10 s."""
    return 0.05 * np.sin(2.0 * np.pi * (0.2 * t + 0.05 * t * t))


@settings(max_examples=15, deadline=None)
@given(delay_s=st.floats(-0.3, 0.3), gain=st.sampled_from([-400.0, 0.3, 1.0]), seed=st.integers(0, 1000))
def test_any_delay_is_found(delay_s: float, gain: float, seed: int) -> None:
    """Signals of 10 and 30 Hz with 1 % of noise; the answer is right to 3 ms, a tenth of a sample."""
    rng = np.random.default_rng(seed)
    slow, fast = np.arange(0.0, 10.0, 0.1) + 0.013, np.arange(0.0, 10.0, 1.0 / 30.0)
    second = gain * chirp(fast - delay_s) + 7.0
    second += 0.01 * np.std(second) * rng.standard_normal(len(fast))
    # a coarse signal is a straight line between its samples, which shifts nothing
    found = delay_between(slow, chirp(slow), fast, second)
    assert found.delay_s == pytest.approx(delay_s, abs=3e-3)
    assert found.correlation > 0.98 and found.std_s < 0.02


def test_both_delays_of_a_recording(tmp_path: Path) -> None:
    t = np.arange(0.0, 12.0, 0.01)
    np.savez(
        tmp_path / "sweep.npz",
        t_command_s=t[::10],
        command=chirp(t[::10]),
        t_measured_s=t,
        measured=chirp(t - 0.085),
        t_image_s=t[::3],
        image_motion=-640.0 * chirp(t[::3] - 0.085 - 0.042),
    )
    found = read_latency(tmp_path / "sweep.npz")
    assert found.action is not None and found.action.delay_s == pytest.approx(0.085, abs=2e-3)
    assert found.camera is not None and found.camera.delay_s == pytest.approx(0.042, abs=2e-3)


T = np.arange(0.0, 10.0, 0.02)


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ((T, np.sin(8.0 * T)), (T, np.sin(8.0 * (T - 0.1))), "ambiguous"),
        ((T, chirp(T)), (T, np.random.default_rng(0).standard_normal(len(T))), "not_alike"),
        ((T, chirp(T)), (T, np.zeros(len(T))), "no_motion"),
        ((T, chirp(T)), (T + 30.0, chirp(T)), "too_short"),
        ((T, chirp(T)), (T[::-1], chirp(T)), "bad_times"),
        ((T, chirp(T)), (T, np.where(T > 5, np.nan, chirp(T))), "not_finite"),
        ((T, chirp(T)), (T[:-1], chirp(T)), "bad_shape"),
        ((T[:5], chirp(T[:5])), (T, chirp(T)), "bad_shape"),
    ],
)
def test_refused(first: tuple[np.ndarray, ...], second: tuple[np.ndarray, ...], reason: str) -> None:
    with pytest.raises(CalibrationRefused) as refused:
        delay_between(*first, *second)
    assert refused.value.reason == reason


def test_a_recording_without_a_second_signal(tmp_path: Path) -> None:
    np.savez(tmp_path / "sweep.npz", t_measured_s=T, measured=chirp(T))
    with pytest.raises(CalibrationRefused, match="t_command_s and command, or t_image_s"):
        read_latency(tmp_path / "sweep.npz")
