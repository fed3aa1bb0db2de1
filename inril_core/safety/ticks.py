"""What the arbiter hears and says, free of ROS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from inril_core.errors import ConfigError


class Source(IntEnum):
    """Who is in control, as in ExecutedAction."""

    POLICY = 0
    HUMAN = 1
    HOLD = 2
    RESET = 3


class Phase(IntEnum):
    """Phase of an Observation."""

    IDLE = 0
    RESET = 1
    RUN = 2


class Purpose(IntEnum):
    """What an episode is for."""

    NONE = 0
    DEMO = 1
    TRAIN = 2
    EVAL = 3


class Tick(NamedTuple):
    """The Observation that opens tick k.

    tool_pose: 7, base frame, m and xyzw. link_age_s: in the order of Contract.links.
    """

    boot_id: str
    k: int
    stamp_ns: int
    episode_id: str
    step: int
    phase: int
    purpose: int
    last: bool
    tool_pose: Sequence[float]
    link_age_s: Sequence[float]


class PolicyAnswer(NamedTuple):
    """The policy's action for tick k of one boot, with the version (run_id, n) that made it."""

    boot_id: str
    k: int
    run_id: str
    n: int
    action: Sequence[float]


class HumanAnswer(NamedTuple):
    """What the human's device says. `k` counts for a synchronous device only, which answers every tick."""

    k: int
    synchronous: bool
    grab: bool
    released: bool
    action: Sequence[float]
    frame: str


class RobotSample(NamedTuple):
    """A measured state of the arm. `tool_pose`: 7, base frame, m and xyzw."""

    boot_id: str
    stamp_ns: int
    tool_pose: Sequence[float]
    needs_rearm: bool


class TargetPose(NamedTuple):
    """Where the tool shall be at the end of the period: 7, base frame, m and xyzw.

    gripper_width_m: NaN keeps the width.
    """

    pose: Sequence[float]
    hold: bool
    valid_until_ns: int
    gripper_width_m: float


class Closed(NamedTuple):
    """What the arbiter says when a tick closes, or outside ticks, then `source` is None and `target` counts.

    proposed, executed: A numbers, contract units. run_id, n: the policy version in control, else "" and -1.
    target: None if nothing may be commanded.
    """

    tick: Tick
    source: Source | None
    run_id: str
    n: int
    proposed: Sequence[float]
    executed: Sequence[float]
    limits: tuple[str, ...]
    target: TargetPose | None


@dataclass(frozen=True)
class ArbiterConfig:
    """How the graph around the arbiter looks.

    lockstep: ticks follow one another as fast as they close, and data is as old as the Observation says;
        otherwise ages are checked against the clocks, also between ticks.
    period_ns: monotonic time between the arm's targets outside ticks; not used in lockstep.
    deadline_ns: monotonic time from the arrival of an Observation until its tick is closed in any case.
    policy_timeout_ns: monotonic age of the oldest Observation without any answer since, at which a missed
        deadline latches a fault; before that a missed deadline is a tick in hold, counted as late.
    robot_timeout_ns: monotonic silence of the arm that stops all targets; not used in lockstep.
    observation_timeout_ns: monotonic silence of Observations within an episode that stops the policy.
    expects_policy: a policy answers every tick of an episode that is not a demonstration.
    expects_teleop: a synchronous device answers every tick, from the first on.
    expects_recorder, expects_session: their silence during an episode stops it.

    Raises:
        ConfigError: a time is not positive.
    """

    lockstep: bool
    period_ns: int
    deadline_ns: int
    policy_timeout_ns: int
    robot_timeout_ns: int
    observation_timeout_ns: int
    expects_policy: bool = True
    expects_teleop: bool = False
    expects_recorder: bool = False
    expects_session: bool = False

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
