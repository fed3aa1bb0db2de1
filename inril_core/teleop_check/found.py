"""What driving by hand has shown, as it is printed and stored."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from inril_core.settings import Settings

AXES = ("x", "y", "z", "turn_x", "turn_y", "turn_z")
"""Of the tool in the base frame: three translations (m), three turns (rad)."""
Count = Annotated[int, Field(ge=0)]


class AxisFound(Settings):
    """One axis, in the episode in which it was driven most."""

    asked_speed: float
    """Root mean square of what the person asked for while driving it, as a share of the action's scale."""
    travel: float
    """Between the furthest two Targets, m or rad."""
    commanded_speed: float
    """Largest, of the Targets, m/s or rad/s."""
    measured_speed: float
    """Largest, m/s or rad/s."""
    gain: float | None = None
    """Measured over commanded speed, least squares, at the delay found. None: no delay was found."""
    delay_s: float | None = None
    """From when the tool shall be at a Target (its stamp and one period) to when it is there. None: not found."""
    delay_std_s: float | None = None
    """Standard error of the delay, from parts of the episode each for itself."""
    trouble: str = ""
    """Why no delay was found, with the fix."""


class CadenceFound(Settings):
    """Of the control ticks and the arm's measurements, in real time."""

    period_s: float
    """Median between two Observations."""
    jitter_s: float
    """Standard deviation of that."""
    jitter_p99_s: float
    """99th percentile of how far a period is from the contract's."""
    state_period_s: float
    """Median between two recorded states of the arm."""
    state_jitter_s: float
    """Standard deviation of that."""
    state_gap_s: float
    """Longest time without a state."""
    states_lost_n: Count


class LimitFound(Settings):
    """One limit that the person met."""

    steps_n: Count
    """Steps that it changed."""
    worst_margin: float | None = None
    """Smallest of what was left of it, in its unit; below 0: the person asked for more. None: it has no unit."""


class Found(Settings):
    """All numbers of one check."""

    episodes_n: Count
    steps_n: Count
    driven_n: Count
    """Steps in which the person was in control and asked for motion."""
    held_n: Count
    """Steps in which nobody was in control."""
    late_ticks_n: Count
    """Ticks that closed at their deadline instead of by an answer."""
    targets_lost_n: Count
    """Ticks without a recorded Target."""
    axes: dict[str, AxisFound]
    cadence: CadenceFound | None = None
    """None: in lockstep, where time is simulated."""
    limits: dict[str, LimitFound]
    faults: tuple[str, ...]
    """Of the arm, and of episodes that a fault has cut; each once."""
