"""Delays of action and camera, from a commanded sweep: which shift makes two recorded signals alike."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inril_core.calibration.hand_eye_data import numeric, read_arrays
from inril_core.calibration.refused import CalibrationRefused

DELAY_MAX_S = 1.0
CORRELATION_MIN = 0.8
_STEP_S = 1e-3
_OVERLAP_MIN = 0.5
_SAMPLES_MIN, _SAMPLES_MAX = 20, 100_000
_RIVAL = 0.97
"""Another peak so high, further away than the first one is wide, makes the delay ambiguous."""
_BLOCKS = 8


@dataclass(frozen=True)
class Delay:
    """How much later one signal is than another."""

    delay_s: float
    """Positive: the second one is later."""
    std_s: float
    """From parts of the recording, each for itself."""
    correlation: float
    """At that shift; 1 if they are alike."""


@dataclass(frozen=True)
class Latency:
    """Delays found in one recording."""

    action: Delay | None
    """From a command to the arm's measured motion."""
    camera: Delay | None
    """From the arm's measured motion to the same motion in the images' stamps."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON and YAML."""
        return {name: vars(value).copy() for name, value in vars(self).items() if value is not None}


def read_latency(path: Path) -> Latency:
    """Delays from an ``.npz``.

    ``t_measured_s`` (M,) and ``measured`` (M,) of one coordinate of the arm; with ``t_command_s`` and ``command`` the
    action's delay, with ``t_image_s`` and ``image_motion`` (of a tag or board, any unit) the camera's.

    Raises:
        CalibrationRefused: as `read_arrays` and `delay_between`, or neither pair is there.
    """
    with_command = ("t_command_s", "command")
    with_image = ("t_image_s", "image_motion")
    arrays = dict(read_arrays(path, ("t_measured_s", "measured")))
    found = {}
    for name, keys in (("action", with_command), ("camera", with_image)):
        try:
            arrays |= read_arrays(path, keys)
        except CalibrationRefused as error:
            if error.reason != "missing_keys":
                raise
            continue
        found[name] = keys
    if not found:
        raise CalibrationRefused(
            "missing_keys", f"{path}: give {' and '.join(with_command)}, or {' and '.join(with_image)}, or all four"
        )
    values = {key: numeric(value, key, path) for key, value in arrays.items()}
    measured = values["t_measured_s"], values["measured"]
    action = delay_between(values["t_command_s"], values["command"], *measured) if "action" in found else None
    camera = delay_between(*measured, values["t_image_s"], values["image_motion"]) if "camera" in found else None
    return Latency(action, camera)


def delay_between(t_first_s: np.ndarray, first: np.ndarray, t_second_s: np.ndarray, second: np.ndarray) -> Delay:
    """The shift at which the second signal is most like the first one, up to an offset and a factor.

    Normalised cross-correlation of the signals, interpolated linearly, over shifts of up to a second; the peak's place
    between two steps is that of a parabola through three of them. The sign of the factor is free, too: an image may
    move against the arm.

    Raises:
        CalibrationRefused: shapes, times that do not rise, too short, no motion, nothing alike, or several shifts are
            as good (a sweep of one frequency): the message says which.
    """
    for name, t, x in (("first", t_first_s, first), ("second", t_second_s, second)):
        if t.ndim != 1 or t.shape != x.shape or not _SAMPLES_MIN <= len(t) <= _SAMPLES_MAX:
            raise CalibrationRefused(
                "bad_shape",
                f"{name} signal: times {t.shape} and values {x.shape}; give {_SAMPLES_MIN} or more of each, one row",
            )
        if not (np.isfinite(t).all() and np.isfinite(x).all()):
            raise CalibrationRefused("not_finite", f"{name} signal: NaN or infinity; leave those samples out")
        if (np.diff(t) <= 0.0).any():
            raise CalibrationRefused("bad_times", f"{name} signal: times do not rise; sort them, in seconds")
        if np.ptp(x) <= 0.0 or np.std(x) < 1e-9 * max(1.0, np.abs(x).max()):
            raise CalibrationRefused("no_motion", f"{name} signal does not move; command a sweep of some centimetres")
    span = min(t_first_s[-1], t_second_s[-1]) - max(t_first_s[0], t_second_s[0])
    if span < 2.0 * DELAY_MAX_S:
        raise CalibrationRefused(
            "too_short", f"the signals share {max(span, 0.0):.2f} s; {2.0 * DELAY_MAX_S:.0f} s or more are needed"
        )
    shift, correlation = _best_shift(t_first_s, first, t_second_s, second, t_second_s)
    parts = []
    for chosen in np.array_split(np.arange(len(t_second_s)), _BLOCKS):
        try:
            parts.append(_best_shift(t_first_s, first, t_second_s, second, t_second_s[chosen], near=shift)[0])
        except CalibrationRefused:
            continue  # the arm may rest in one part
    spread = float(np.std(parts) / math.sqrt(len(parts))) if len(parts) >= 3 else math.inf
    return Delay(shift, spread if math.isfinite(spread) else DELAY_MAX_S, correlation)


def _best_shift(
    t_first_s: np.ndarray,
    first: np.ndarray,
    t_second_s: np.ndarray,
    second: np.ndarray,
    at_s: np.ndarray,
    near: float | None = None,
) -> tuple[float, float]:
    shifts = np.arange(-DELAY_MAX_S, DELAY_MAX_S + _STEP_S, _STEP_S)
    if near is not None:
        shifts = shifts[np.abs(shifts - near) < 0.1]
    values = np.interp(at_s, t_second_s, second)
    alike = np.zeros(len(shifts))
    for i, shift in enumerate(shifts):
        inside = (at_s - shift >= t_first_s[0]) & (at_s - shift <= t_first_s[-1])
        if inside.mean() < _OVERLAP_MIN or inside.sum() < 8:
            continue
        a, b = np.interp(at_s[inside] - shift, t_first_s, first), values[inside]
        a, b = a - a.mean(), b - b.mean()
        scale = math.sqrt(float(a @ a) * float(b @ b))
        alike[i] = abs(float(a @ b)) / scale if scale > 0.0 else 0.0
    peak = int(np.argmax(alike))
    if alike[peak] < CORRELATION_MIN:
        raise CalibrationRefused(
            "not_alike",
            f"the signals are not alike (correlation {alike[peak]:.2f} at best, {CORRELATION_MIN} is needed); record "
            f"the "
            "same axis in both",
        )
    if peak in (0, len(shifts) - 1):
        raise CalibrationRefused("too_late", f"the delay is beyond {DELAY_MAX_S:.0f} s; are both times of one clock?")
    if near is None:
        low = peak
        while low > 0 and alike[low] > 0.5 * alike[peak]:
            low -= 1
        high = peak
        while high < len(shifts) - 1 and alike[high] > 0.5 * alike[peak]:
            high += 1
        rival = max(alike[:low].max(initial=0.0), alike[high:].max(initial=0.0))
        if rival > _RIVAL * alike[peak]:
            raise CalibrationRefused(
                "ambiguous",
                f"several delays fit alike (correlation {alike[peak]:.3f} and {rival:.3f}); command a sweep whose "
                "frequency changes, not one sine",
            )
    left, middle, right = alike[peak - 1 : peak + 2]
    bend = left - 2.0 * middle + right
    between = 0.5 * (left - right) / bend if bend < 0.0 else 0.0
    return float(shifts[peak] + between * _STEP_S), float(middle)
