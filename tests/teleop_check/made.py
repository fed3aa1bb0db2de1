"""A person's drive whose speed, delay, jitter and losses are known."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
from scipy.spatial.transform import Rotation

from inril_core.contract import Contract, load_contract
from inril_core.teleop_check.drive import Drive
from inril_core.teleop_check.found import Found
from inril_core.teleop_check.measure import measure

START = np.array([0.5, 0.0, 0.2, 1.0, 0.0, 0.0, 0.0])
STATE_HZ = 100.0
AMPLITUDE = (0.02,) * 3 + (0.15,) * 3


def contract(rate_hz: float = 10.0) -> Contract:
    """insert_leg at a control rate."""
    values = json.loads(load_contract("insert_leg").text)
    return Contract.model_validate(values | {"control_rate_hz": rate_hz})


def chirp(t: np.ndarray) -> np.ndarray:
    """0.2 to 1.2 Hz within 10 s; at rest before."""
    t = np.maximum(t, 0.0)
    return np.asarray(np.sin(2.0 * np.pi * (0.2 * t + 0.05 * t * t)))


def poses(axis: int, x: np.ndarray) -> np.ndarray:
    """float64[N, 7] along one axis from `START`."""
    made = np.tile(START, (len(x), 1))
    if axis < 3:
        made[:, axis] += x
        return made
    turn = np.zeros((len(x), 3))
    turn[:, axis - 3] = x
    made[:, 3:] = (Rotation.from_rotvec(turn) * Rotation.from_quat(START[3:])).as_quat()
    return made


def drive(
    axis: int,
    under: Contract,
    delay_s: float = 0.0,
    gain: float = 1.0,
    noise: float = 0.0,
    seconds: float = 10.0,
    seed: int = 0,
    speed_max: float | None = None,
) -> Drive:
    """One axis of a chirp; the arm follows the straight lines between the Targets, late and with a factor.

    noise: of the measured pose, as a share of the amplitude. speed_max: of the arm, m/s or rad/s.
    """
    period_s = 1.0 / under.control_rate_hz
    stamps = np.arange(round(seconds * under.control_rate_hz)) * period_s
    scale = (under.action.translation_scale_m, under.action.rotation_scale_rad)[axis // 3]
    command = AMPLITUDE[axis] * chirp(stamps + period_s)
    asked = np.zeros((len(stamps), under.action.size))
    asked[:, axis] = np.diff(command, prepend=0.0) / scale
    state_s = np.arange(round(seconds * STATE_HZ)) / STATE_HZ
    followed = gain * np.interp(state_s - delay_s, stamps + period_s, command, left=0.0)
    if speed_max is not None:
        for i in range(1, len(followed)):
            most = speed_max / STATE_HZ
            followed[i] = followed[i - 1] + np.clip(followed[i] - followed[i - 1], -most, most)
    followed += noise * AMPLITUDE[axis] * np.random.default_rng(seed).standard_normal(len(followed))
    return Drive(
        tick_s=np.append(stamps, stamps[-1] + period_s),
        asked=asked,
        by_person=np.ones(len(stamps), bool),
        limits=((),) * len(stamps),
        margins=((),) * len(stamps),
        target_s=stamps,
        target=poses(axis, command),
        state_s=state_s,
        pose=poses(axis, followed),
        states_lost=0,
        faults=(),
    )


def whole(under: Contract, **settings: float) -> list[Drive]:
    """Each axis in an episode of its own."""
    return [drive(axis, under, **settings) for axis in range(6)]  # type: ignore[arg-type]


def found(drives: list[Drive], under: Contract) -> Found:
    """In real time, without faults."""
    return measure(drives, under, 0, (), real_time=True)


def changed(drives: list[Drive], **values: object) -> list[Drive]:
    """The same with other values in each."""
    return [replace(one, **values) for one in drives]  # type: ignore[arg-type]
