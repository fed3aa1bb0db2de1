"""From recordings to numbers: commanded against measured speed, delay, jitter, limits met."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from inril_core.calibration.latency import delay_between
from inril_core.calibration.refused import CalibrationRefused
from inril_core.contract import Contract
from inril_core.errors import ConfigError
from inril_core.teleop_check.drive import Drive
from inril_core.teleop_check.found import AXES, AxisFound, CadenceFound, Found, LimitFound

MOVES = 0.02
"""Share of the action's scale above which a person asks for motion: a stick at rest is not exactly zero."""
TRAVEL_MIN = (0.005,) * 3 + (0.05,) * 3
"""m and rad. With less, a millimetre of noise of the measured pose would decide delay and gain."""
_DOES_NOT_FOLLOW = (
    "the measured motion is not that of the Targets: the arm does not follow; look at its mode, and raise its own "
    "limits (motion.relative_dynamics_factor)"
)
SPEED_PERIODS = 2
"""Control periods over which a speed is taken: what an arm does within one period is its own affair."""


def measure(
    drives: Sequence[Drive], contract: Contract, late_ticks_n: int, faults: Sequence[str], real_time: bool
) -> Found:
    """All numbers of a check.

    Args:
        drives: of the episodes; one in which an axis rests does not harm.
        late_ticks_n: as the session has counted them.
        faults: that cut an episode.
        real_time: stamps are those of a clock; in lockstep they say nothing of jitter.

    Raises:
        ConfigError: nothing was recorded, or under a contract with another action.
    """
    if not drives:
        raise ConfigError("no episode was recorded; see the lines above, and drive again")
    size = contract.action.size
    if any(drive.asked.shape[1] != size for drive in drives):
        raise ConfigError(f"an episode has other actions than the {size} numbers of contract {contract.task}")
    return Found(
        episodes_n=len(drives),
        steps_n=sum(len(drive.asked) for drive in drives),
        driven_n=sum(int(_driven(drive).sum()) for drive in drives),
        held_n=sum(int((~drive.by_person).sum()) for drive in drives),
        late_ticks_n=late_ticks_n,
        targets_lost_n=sum(max(0, len(drive.asked) - len(drive.target)) for drive in drives),
        axes={name: _axis(drives, axis, contract) for axis, name in enumerate(AXES)},
        cadence=_cadence(drives, contract) if real_time else None,
        limits=_limits(drives),
        faults=tuple(sorted({*faults, *(fault for drive in drives for fault in drive.faults)})),
    )


def _driven(drive: Drive) -> np.ndarray:
    return np.asarray(drive.by_person & (np.abs(drive.asked[:, :6]) > MOVES).any(axis=1))


def _axis(drives: Sequence[Drive], axis: int, contract: Contract) -> AxisFound:
    drive = max(drives, key=lambda one: _energy(one, axis))
    period_s = 1.0 / contract.control_rate_hz
    asked = np.abs(drive.asked[drive.by_person, axis])
    asked = asked[asked > MOVES]
    at_s = drive.target_s + period_s
    target, pose = coordinates(drive.target, drive.pose, axis)
    over_s = SPEED_PERIODS * period_s
    found = AxisFound(
        asked_speed=float(np.sqrt(np.mean(asked**2))) if len(asked) else 0.0,
        travel=float(np.ptp(target)),
        commanded_speed=_fastest(at_s, target, over_s),
        measured_speed=_fastest(drive.state_s, pose, over_s),
    )
    if found.travel < TRAVEL_MIN[axis]:
        unit = "m" if axis < 3 else "rad"
        text = f"was driven over {found.travel:.3g} {unit}; drive it to and fro over {4 * TRAVEL_MIN[axis]:g} {unit}"
        return found.model_copy(update={"trouble": text})
    try:
        delay = delay_between(at_s, target, drive.state_s, pose)
    except CalibrationRefused as error:
        text = _DOES_NOT_FOLLOW if error.reason in ("not_alike", "no_motion") else f"no delay can be found: {error}"
        return found.model_copy(update={"trouble": text})
    gain = gain_at(at_s, target, drive.state_s, pose, delay.delay_s, over_s)
    return found.model_copy(update={"gain": gain, "delay_s": delay.delay_s, "delay_std_s": delay.std_s})


def _energy(drive: Drive, axis: int) -> float:
    return float(np.sum(drive.asked[drive.by_person, axis] ** 2))


def coordinates(target: np.ndarray, pose: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """One coordinate of the Targets [N] and of the measured poses [M].

    A turn is that coordinate of the rotation vector, base frame, from the first Target's orientation.
    """
    if axis < 3:
        return target[:, axis], pose[:, axis]
    first = Rotation.from_quat(target[0, 3:]).inv()
    turns = [(Rotation.from_quat(poses[:, 3:]) * first).as_rotvec()[:, axis - 3] for poses in (target, pose)]
    return turns[0], turns[1]


def _speed(t_s: np.ndarray, x: np.ndarray, at_s: np.ndarray, over_s: float) -> np.ndarray:
    """Mean speed over ``over_s`` up to each time of ``at_s``; straight lines in between."""
    return np.asarray((np.interp(at_s, t_s, x) - np.interp(at_s - over_s, t_s, x)) / over_s)


def _fastest(t_s: np.ndarray, x: np.ndarray, over_s: float) -> float:
    at_s = t_s[t_s - over_s >= t_s[0]]
    return float(np.abs(_speed(t_s, x, at_s, over_s)).max(initial=0.0))


def gain_at(
    t_command_s: np.ndarray,
    command: np.ndarray,
    t_measured_s: np.ndarray,
    measured: np.ndarray,
    delay_s: float,
    over_s: float,
) -> float | None:
    """Factor from commanded to measured speed: sum(c m) / sum(c c), least squares, the command ``delay_s`` before.

    None: no speed is commanded where both are known.
    """
    first_s = max(t_measured_s[0], t_command_s[0] + delay_s) + over_s
    last_s = min(t_measured_s[-1], t_command_s[-1] + delay_s)
    at_s = np.arange(first_s, last_s, over_s / 4.0)
    m = _speed(t_measured_s, measured, at_s, over_s)
    c = _speed(t_command_s, command, at_s - delay_s, over_s)
    power = float(c @ c)
    return float(c @ m) / power if power > 0.0 else None


def _cadence(drives: Sequence[Drive], contract: Contract) -> CadenceFound:
    ticks = np.concatenate([np.diff(drive.tick_s) for drive in drives])
    states = np.concatenate([np.diff(drive.state_s) for drive in drives])
    if not len(ticks) or not len(states):
        raise ConfigError("no episode has two ticks and two states of the arm; drive again, for longer")
    off = np.abs(ticks - 1.0 / contract.control_rate_hz)
    return CadenceFound(
        period_s=float(np.median(ticks)),
        jitter_s=float(np.std(ticks)),
        jitter_p99_s=float(np.percentile(off, 99)),
        state_period_s=float(np.median(states)),
        state_jitter_s=float(np.std(states)),
        state_gap_s=float(states.max()),
        states_lost_n=sum(drive.states_lost for drive in drives),
    )


def _limits(drives: Sequence[Drive]) -> dict[str, LimitFound]:
    met: dict[str, list[float]] = {}
    for drive in drives:
        for names, margins in zip(drive.limits, drive.margins, strict=True):
            for place, name in enumerate(names):
                met.setdefault(name, []).append(margins[place] if place < len(margins) else math.nan)
    found = {}
    for name in sorted(met):
        finite = [margin for margin in met[name] if math.isfinite(margin)]
        found[name] = LimitFound(steps_n=len(met[name]), worst_margin=min(finite) if finite else None)
    return found
