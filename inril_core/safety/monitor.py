"""Whether the arm may move, from what it measures alone: it trusts neither arbiter nor policy nor person."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from inril_core.contract import Contract
from inril_core.safety.measured import malformed

NOT_HEARD = "no state of the arm was heard yet"
JUMP_MARGIN_M = 0.01
"""Two states of a real arm may lie this much further apart than its largest speed allows."""
SHORTEST_S = 1e-3
"""Two states may be stamped closer together than they were measured; a jump is judged over this time at least."""
_SHOWN_REASONS = 8


class MeasuredState(NamedTuple):
    """A state of the arm, as it says itself; base frame, SI units."""

    boot_id: str
    stamp_ns: int
    frame: str
    pose: Sequence[float]
    """7, m and xyzw."""
    speed: Sequence[float]
    """3, m/s."""
    turn: Sequence[float]
    """3, rad/s."""
    joint_position_rad: Sequence[float]
    """7."""
    joint_velocity_radps: Sequence[float]
    """7."""
    joint_torque_nm: Sequence[float]
    """7; not looked at where the contract says that the arm measures none."""
    simulated: bool
    """It may jump: a simulated cell is laid out anew at once."""


class SafetyMonitor:
    """Permits motion while every measured state keeps the contract. Denied from the start, and by any doubt.

    A denial lasts until the arm was heard, fresh and within all limits, for the contract's `cool_down_s` without a
    break. The permit is then given again; the arm stays where it is, because its driver has latched the stop.

    It is a second opinion in software on an ordinary computer, and no safety-rated function.
    """

    def __init__(self, contract: Contract, checks_age: bool = True) -> None:
        """Denied until a state is heard.

        checks_age: silence and old stamps deny. False in lockstep, where a simulated arm waits for its next Target.
        """
        limits, monitor = contract.limits, contract.monitor
        margin_m = monitor.position_margin_m
        self._box_m = [
            (axis, low - margin_m, high + margin_m)
            for axis, low, high in zip("xyz", limits.position_min_m, limits.position_max_m, strict=True)
        ]
        self._monitor = monitor
        self._frame = contract.base_frame
        self._silence_ns = round(contract.staleness.robot_state_s * 1e9)
        self._cool_down_ns = round(monitor.cool_down_s * 1e9)
        self._checks_age = checks_age
        self._newest: MeasuredState | None = None
        self._heard_mono_ns = 0
        self._reasons: tuple[str, ...] = (NOT_HEARD,)
        self._good_since_mono_ns: int | None = None
        self._starting = True

    def on_state(self, state: MeasuredState, now_ns: int, mono_ns: int) -> None:
        """Judge a measured state. One that is not newer than the last of its boot is no news: the arm falls silent.

        Args:
            now_ns: the clock of its stamp.
            mono_ns: the monotonic clock.
        """
        newest = self._newest
        same_boot = newest is not None and state.boot_id == newest.boot_id
        if newest is not None and same_boot and state.stamp_ns <= newest.stamp_ns:
            if newest.stamp_ns - state.stamp_ns > self._silence_ns:
                self._deny((f"the arm's clock was set back by {(newest.stamp_ns - state.stamp_ns) / 1e9:.3g} s",))
                self._newest = None
            return
        self._look_for_silence(mono_ns)
        wrong = [*self._wrong(state, now_ns)]
        if newest is not None and same_boot and not wrong:
            wrong += self._jumps(newest, state)
        if newest is not None and not same_boot:
            wrong.append("the arm's node was started again")
        self._newest, self._heard_mono_ns = state, mono_ns
        if wrong:
            self._deny(tuple(wrong[:_SHOWN_REASONS]))
        elif self._good_since_mono_ns is None:
            self._good_since_mono_ns = mono_ns - self._cool_down_ns * self._starting
        self._starting = False

    def reasons(self, mono_ns: int) -> tuple[str, ...]:
        """Why the arm may not move now, each with value and limit; empty: it may."""
        self._look_for_silence(mono_ns)
        good_ns = self._good_since_mono_ns
        if self._reasons and good_ns is not None and mono_ns - good_ns >= self._cool_down_ns:
            self._reasons = ()
        return self._reasons

    def _look_for_silence(self, mono_ns: int) -> None:
        silent_ns = mono_ns - self._heard_mono_ns
        if self._checks_age and self._newest is not None and silent_ns > self._silence_ns:
            self._deny((f"the arm is silent for over {self._silence_ns / 1e9:g} s; look after its node",))

    def _deny(self, reasons: tuple[str, ...]) -> None:
        """The newest cause is shown until the cool-down is over."""
        self._reasons, self._good_since_mono_ns = reasons, None

    def _wrong(self, state: MeasuredState, now_ns: int) -> Iterator[str]:
        monitor = self._monitor
        if state.frame != self._frame:
            yield f"frame_id is {state.frame!r}, the contract's base_frame {self._frame!r}"
        if self._checks_age and not abs(now_ns - state.stamp_ns) <= self._silence_ns:
            yield f"the state is {(now_ns - state.stamp_ns) / 1e9:.3g} s old, at most {self._silence_ns / 1e9:g} s"
        if reason := malformed(state.pose):
            yield f"the tool pose is none: {reason}"
        else:
            for (axis, low, high), value in zip(self._box_m, state.pose, strict=False):
                if not low <= value <= high:
                    yield f"tool {axis} = {value:.4g} m, allowed [{low:.4g}, {high:.4g}]"
        yield from _too_fast("tool speed", state.speed, monitor.max_tool_speed_mps, "m/s")
        yield from _too_fast("tool turn rate", state.turn, monitor.max_tool_turn_radps, "rad/s")
        lows, highs = monitor.joint_position_min_rad, monitor.joint_position_max_rad
        yield from _outside("position", state.joint_position_rad, lows, highs, "rad")
        highs = monitor.max_joint_speed_radps
        yield from _outside("velocity", state.joint_velocity_radps, [-high for high in highs], highs, "rad/s")
        if monitor.max_joint_torque_nm is not None:
            highs = monitor.max_joint_torque_nm
            yield from _outside("torque", state.joint_torque_nm, [-high for high in highs], highs, "Nm")

    def _jumps(self, old: MeasuredState, new: MeasuredState) -> Iterator[str]:
        """A real arm that is elsewhere than its own speed allows: its measurement cannot be trusted."""
        time_s = max((new.stamp_ns - old.stamp_ns) * 1e-9, SHORTEST_S)
        way_m = math.dist(new.pose[:3], old.pose[:3])
        if not new.simulated and way_m > self._monitor.max_tool_speed_mps * time_s + JUMP_MARGIN_M:
            yield f"the tool moved {way_m:.4g} m in {time_s:.4g} s, at most {self._monitor.max_tool_speed_mps} m/s"


def _too_fast(what: str, vector: Sequence[float], most: float, unit: str) -> Iterator[str]:
    size = math.sqrt(sum(value * value for value in vector)) if all(map(math.isfinite, vector)) else math.nan
    if not size <= most:
        yield f"{what} {size:.4g} {unit}, at most {most:g}"


def _outside(
    what: str, values: Sequence[float], lows: Sequence[float], highs: Sequence[float], unit: str
) -> Iterator[str]:
    if len(values) != len(highs):
        yield f"{len(values)} joint numbers of {what}, expected {len(highs)}"
        return
    for joint, (value, low, high) in enumerate(zip(values, lows, highs, strict=True), start=1):
        if not low <= value <= high:  # true for NaN
            yield f"joint {joint} {what} {value:.4g} {unit}, allowed [{low:g}, {high:g}]"
