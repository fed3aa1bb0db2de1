"""A check as lines for people."""

from __future__ import annotations

from inril_core.teleop_check.found import AxisFound, Found
from inril_core.teleop_check.stored import TeleopCheck


def report_lines(check: TeleopCheck) -> list[str]:
    """A table of the axes, the loop, the limits, and the verdict with its reasons."""
    found = check.found
    lines = [
        f"{check.name}: {check.arm.name} driven with {check.device} by {check.operator}, {found.episodes_n} episodes",
        f"  {'axis':<8}{'asked':>7}{'commanded':>12}{'measured':>12}{'gain':>7}  behind its Targets",
        *(_axis(name, axis) for name, axis in found.axes.items()),
        *_loop(found),
        "passed" if check.passed else "NOT passed:",
        *(f"  - {reason}" for reason in check.reasons),
    ]
    return lines


def _axis(name: str, axis: AxisFound) -> str:
    unit = "rad/s" if name.startswith("turn") else "m/s"
    speeds = f"{axis.commanded_speed:6.3f} {unit:<5}{axis.measured_speed:6.3f} {unit:<5}"
    line = f"  {name:<8}{axis.asked_speed:7.2f}{speeds}"
    if axis.delay_s is None or axis.gain is None:
        return f"{line}  {axis.trouble}"
    return f"{line}{axis.gain:7.2f}  {1e3 * axis.delay_s:.0f} +- {2e3 * (axis.delay_std_s or 0.0):.0f} ms"


def _loop(found: Found) -> list[str]:
    lines = [
        f"  ticks: {found.steps_n}, {found.driven_n} driven, {found.held_n} held, {found.late_ticks_n} late, "
        f"{found.targets_lost_n} without a Target"
    ]
    if found.cadence is None:
        lines.append("  jitter: not measured, time is simulated (real_time_factor)")
    else:
        c = found.cadence
        lines += [
            f"  tick: every {1e3 * c.period_s:.1f} ms, deviation {1e3 * c.jitter_s:.1f} ms, one in a hundred "
            f"{1e3 * c.jitter_p99_s:.1f} ms or more",
            f"  robot_state: every {1e3 * c.state_period_s:.1f} ms, deviation {1e3 * c.state_jitter_s:.1f} ms, longest "
            f"gap {1e3 * c.state_gap_s:.0f} ms, {c.states_lost_n} lost",
        ]
    for name, limit in found.limits.items():
        worst = "" if limit.worst_margin is None else f", at worst {limit.worst_margin:.3g} left"
        lines.append(f"  limit {name}: met in {limit.steps_n} steps{worst}")
    return lines if found.limits else [*lines, "  limits: none was met"]
