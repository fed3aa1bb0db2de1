"""Why the arm does not move: named faults that stay until a person arms again."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Fault(StrEnum):
    """Names of the faults, as they stand in ArbiterStatus. `link_stale` is followed by `:<link>`."""

    POLICY_ACTION_STALE = "policy_action_stale"
    OBSERVATION_STALE = "observation_stale"
    ROBOT_STATE_STALE = "robot_state_stale"
    ROBOT_RESTARTED = "robot_restarted"
    ROBOT_FAULT = "robot_fault"
    ROBOT_NEEDS_REARM = "robot_needs_rearm"
    SAFETY_MONITOR = "safety_monitor"
    LINK_STALE = "link_stale"
    TELEOP_LOST = "teleop_lost"
    RECORDER_LOST = "recorder_lost"
    SESSION_LOST = "session_lost"
    INCOMPATIBLE_QOS = "incompatible_qos"
    NON_FINITE_ACTION = "non_finite_action"
    MALFORMED_ACTION = "malformed_action"
    NON_FINITE_STATE = "non_finite_state"
    MALFORMED_STATE = "malformed_state"
    UNREACHABLE_STATE = "unreachable_state"
    WRONG_FRAME = "wrong_frame"
    FOLLOWING_ERROR = "following_error"
    JOINTS_UNKNOWN = "joints_unknown"
    WRENCH_LIMIT = "wrench_limit"
    WRENCH_UNKNOWN = "wrench_unknown"
    LIMIT_STOP = "limit_stop"
    LAST_CHECK = "last_check"
    SECOND_PUBLISHER = "second_publisher"
    INTERNAL_ERROR = "internal_error"


class Blocks(IntEnum):
    """What a fault forbids; each level includes the ones before it."""

    NOTHING = 0
    POLICY = 1  # a human may still retract the arm
    MOTION = 2  # hold targets only
    TARGETS = 3  # where the arm is, or whether it listens, is unknown: nothing is commanded


@dataclass(frozen=True, slots=True)
class Latched:
    """A fault that happened: what, the fix, and what it forbids."""

    detail: str
    blocks: Blocks


class FaultLatch:
    """The faults since the last arming. The first detail of a fault is kept: it is the cause."""

    def __init__(self) -> None:
        self._latched: dict[str, Latched] = {}
        self.blocks = Blocks.NOTHING

    def __contains__(self, name: str) -> bool:
        return name in self._latched

    def latch(self, name: str, detail: str, blocks: Blocks) -> None:
        """Remember a fault. One that was latched may come to forbid more, never less."""
        known = self._latched.get(name)
        if known is None:
            self._latched[name] = Latched(detail, blocks)
        elif blocks > known.blocks:
            self._latched[name] = Latched(known.detail, blocks)
        self.blocks = max(self.blocks, blocks)

    def clear(self) -> None:
        """Forget all faults. Only a person's arming may lead here."""
        self._latched.clear()
        self.blocks = Blocks.NOTHING

    @property
    def count(self) -> int:
        """Number of faults."""
        return len(self._latched)

    def named(self) -> dict[str, str]:
        """Detail by name, in the order of occurrence."""
        return {name: latched.detail for name, latched in self._latched.items()}
