"""What the arbiter hears and says, free of ROS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from inril_core.errors import ConfigError
from inril_core.safety.takeover import TakeoverConfig
from inril_core.vocabulary import Handover as Handover
from inril_core.vocabulary import Phase as Phase
from inril_core.vocabulary import Purpose as Purpose
from inril_core.vocabulary import Source as Source


class Tick(NamedTuple):
    """The Observation that opens tick k."""

    boot_id: str
    k: int
    stamp_ns: int
    episode_id: str
    step: int
    phase: int
    purpose: int
    last: bool
    tool_pose: Sequence[float]
    """7, m and xyzw, in `frame`."""
    link_age_s: Sequence[float]
    """In the order of Contract.links."""
    frame: str


class PolicyAnswer(NamedTuple):
    """The policy's action for tick k of one boot, with the version (run_id, n) that made it."""

    boot_id: str
    k: int
    run_id: str
    n: int
    action: Sequence[float]


class HumanAnswer(NamedTuple):
    """What the human's device says."""

    k: int
    """The tick answered; of a synchronous device only, which answers every tick and acts in none but that one."""
    synchronous: bool
    grab: bool
    released: bool
    action: Sequence[float]
    frame: str


class RobotSample(NamedTuple):
    """A measured state of the arm."""

    boot_id: str
    stamp_ns: int
    tool_pose: Sequence[float]
    """7, m and xyzw, in `frame`."""
    needs_rearm: bool
    frame: str
    fault: str = ""
    """Why the arm itself does not move, e.g. a reflex or its user stop, with the fix; empty: it would."""
    joint_position_rad: Sequence[float] = ()
    """Empty: not measured."""
    external_wrench: Sequence[float] = ()
    """6, N and Nm, on the tool; empty or not finite: not measured."""


class TargetPose(NamedTuple):
    """Where the tool shall be at the end of the period."""

    pose: Sequence[float]
    """7, base frame, m and xyzw."""
    hold: bool
    """It repeats the Target before, or is the measured pose with which commanding begins."""
    valid_until_ns: int
    gripper_width_m: float
    """NaN keeps the width."""


class Closed(NamedTuple):
    """What the arbiter says when a tick closes, or outside ticks."""

    tick: Tick
    source: Source | None
    """None outside ticks: then only `target` counts."""
    run_id: str
    """Of the policy version (run_id, n) in control, else empty and -1."""
    n: int
    proposed: Sequence[float]
    """A numbers, contract units."""
    executed: Sequence[float]
    limits: tuple[str, ...]
    target: TargetPose | None
    """None: nothing may be commanded."""
    handover: Handover = Handover.NONE
    """What this tick changes of who has control."""
    disagreement: float = math.nan
    """While a person drives: root mean square of the policy's action in the shadow minus the person's, over the numbers
    that move the tool; NaN otherwise."""
    margins: tuple[float, ...] = ()
    """One per name in `limits`; see `inril_core.safety.limits.Limited`."""


@dataclass(frozen=True)
class ArbiterConfig:
    """How the graph around the arbiter looks.

    Raises:
        ConfigError: a time is not positive.
    """

    lockstep: bool
    """Ticks follow one another as fast as they close, and data is as old as the Observation says; otherwise ages are
    checked against the clocks, also between ticks."""

    period_ns: int
    """Monotonic time between the arm's Targets outside ticks; not used in lockstep."""

    deadline_ns: int
    """Monotonic time from the arrival of an Observation until its tick is closed in any case."""

    policy_timeout_ns: int
    """Monotonic age of the oldest Observation without any answer since, at which a missed deadline latches a fault;
    before that a missed deadline is a tick in hold, counted as late."""

    robot_timeout_ns: int
    """Monotonic silence of the arm that stops all Targets; not used in lockstep."""

    observation_timeout_ns: int
    """Monotonic silence of Observations within an episode that stops the policy."""

    expects_policy: bool = True
    """A policy answers every tick of an episode that is not a demonstration."""

    expects_teleop: bool = False
    """A synchronous device answers every tick, from the first on."""

    expects_recorder: bool = False
    """Its silence during an episode stops the episode; so does the session's."""

    expects_session: bool = False

    expects_device: bool = False
    """The graph has a teleop_node, whose device must work before a person arms."""

    takeover: TakeoverConfig = field(default_factory=TakeoverConfig)
    """How a person with an asynchronous device takes control and gives it back."""

    drive_in: bool = False
    """A training episode begins with a person, who drives the arm to where the policy fails and hands back. These steps
    count as reset: nothing learns from them."""

    permit_timeout_ns: int | None = None
    """Monotonic silence of safety_monitor that stops all motion; None: the graph has none."""

    def __post_init__(self) -> None:
        for name in (
            "period_ns",
            "deadline_ns",
            "policy_timeout_ns",
            "robot_timeout_ns",
            "observation_timeout_ns",
        ):
            value = getattr(self, name)
            if not value > 0:
                raise ConfigError(f"arbiter.{name} = {value}: must be above 0; every wait has an end")
