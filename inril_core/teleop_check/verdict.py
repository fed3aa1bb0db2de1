"""Whether a policy may be let loose on an arm that was driven by hand, and if not, why and what to do."""

from __future__ import annotations

from inril_core.contract import Contract
from inril_core.teleop_check.found import Found

GAIN_MIN, GAIN_MAX = 0.8, 1.2
"""Demonstrations, simulation and policy count on an action that moves the tool by its value. A fifth is what a
compliant controller may lose on the quickest motion of a hand; further off, its limits or its units are wrong."""
DELAY_MAX_PERIODS = 2.0
"""An Observation shows nothing of the actions of the last so many ticks, and no policy is told what they were."""
LATE_MAX = 0.01
"""Share of ticks that may close without an answer: in each the arm did something else than was asked for."""
JITTER_MAX_PERIODS = 0.5
"""99th percentile of how far a tick may come from its time: beyond, equal actions move the arm by different ways."""
LOST_MAX = 0.01
"""Share of Targets, and of states of the arm, that may be missing."""
SPEED_MIN = 0.1
"""Share of the action's scale that each axis must be driven with: slower shows neither limits nor trailing."""
WINDUP_MAX = 0.2
"""Share of driven steps that the wind-up may shorten: the arm then does not follow what it is told to."""


def reasons(found: Found, contract: Contract) -> tuple[str, ...]:
    """Why the check is not passed, each with its fix; empty: it is."""
    return (*_of_axes(found, contract), *_of_loop(found, contract), *_of_limits(found))


def _of_axes(found: Found, contract: Contract) -> list[str]:
    """A reason for each axis without numbers, and one for all axes that share a cause."""
    told: list[str] = []
    slow, behind, against, weak, strong = (list[str]() for _ in range(5))
    most_s = DELAY_MAX_PERIODS / contract.control_rate_hz
    for name, axis in found.axes.items():
        if axis.delay_s is None or axis.delay_std_s is None or axis.gain is None:
            told.append(f"{name}: {axis.trouble or 'no motion was commanded and measured at once; drive it again'}")
            continue
        if axis.asked_speed < SPEED_MIN:
            slow.append(f"{name} {axis.asked_speed:.2f}")
        if axis.delay_s + 2.0 * axis.delay_std_s > most_s:  # the worse end of its interval
            behind.append(f"{name} {1e3 * axis.delay_s:.0f} +- {2e3 * axis.delay_std_s:.0f} ms")
        for kind, holds in ((against, axis.gain < 0.0), (weak, axis.gain < GAIN_MIN), (strong, axis.gain > GAIN_MAX)):
            if holds:
                kind.append(f"{name} {axis.gain:.2f}")
                break
    for axes, text in (
        (
            slow,
            f"share of the action's scale that was asked for, at least {SPEED_MIN:g} is needed; push the device "
            "further, or raise its speed (device_settings)",
        ),
        (against, "times the commanded speed is against what is commanded; compare base_frame and the arm's frames"),
        (
            weak,
            f"of the commanded speed, at least {GAIN_MIN:g} is needed; raise the arm's own limits "
            "(motion.relative_dynamics_factor) or its stiffness, or lower the action's scale",
        ),
        (
            strong,
            f"times the commanded speed, at most {GAIN_MAX:g} are allowed; the arm overshoots: raise its damping",
        ),
        (
            behind,
            f"behind the Targets, at most {1e3 * most_s:.0f} ms are allowed; look for filters and queues between "
            "Targets and motors, or lower control_rate_hz; where only the +- is large, drive longer",
        ),
    ):
        told += [f"{', '.join(axes)} {text}"] if axes else []
    return told


def _of_loop(found: Found, contract: Contract) -> list[str]:
    told = [f"fault: {fault}" for fault in found.faults]
    steps = max(1, found.steps_n)
    if found.late_ticks_n > LATE_MAX * steps:
        told.append(
            f"{found.late_ticks_n} of {steps} ticks were late, at most {100 * LATE_MAX:g} % are allowed; "
            "`inril preflight` on this machine, realtime:=true, tick_cores:="
        )
    if found.targets_lost_n > LOST_MAX * steps:
        told.append(
            f"{found.targets_lost_n} of {steps} ticks have no Target, at most {100 * LOST_MAX:g} % are allowed; look "
            "for `late` and `missed` in /diagnostics"
        )
    if found.cadence is None:
        return told
    cadence, most_s = found.cadence, JITTER_MAX_PERIODS / contract.control_rate_hz
    if cadence.jitter_p99_s > most_s:
        told.append(
            f"one tick in a hundred is {1e3 * cadence.jitter_p99_s:.0f} ms or more off its time, at most "
            f"{1e3 * most_s:.0f} ms are allowed; realtime:=true, tick_cores:=, fewer programs beside the graph"
        )
    if cadence.state_gap_s > contract.staleness.robot_state_s:
        told.append(
            f"robot_state was silent for {cadence.state_gap_s:.2f} s, staleness.robot_state_s is "
            f"{contract.staleness.robot_state_s:g}; look at the arm's driver and its network"
        )
    expected = found.steps_n / contract.control_rate_hz / max(cadence.state_period_s, 1e-6)
    if cadence.states_lost_n > LOST_MAX * expected:
        told.append(
            f"{cadence.states_lost_n} messages of robot_state were lost, at most {100 * LOST_MAX:g} % are allowed; "
            "raise the buffers of DDS (docs/real_robot.md), use a cable"
        )
    return told


def _of_limits(found: Found) -> list[str]:
    windup = found.limits.get("windup")
    if windup is None or windup.steps_n <= WINDUP_MAX * max(1, found.driven_n):
        return []
    return [
        f"windup has shortened {windup.steps_n} of {found.driven_n} driven steps, at most {100 * WINDUP_MAX:g} % are "
        "allowed: the arm does not keep up; raise the arm's own limits (motion.relative_dynamics_factor), or lower the "
        "action's scale"
    ]
