"""What the session hears of the other nodes: the fields of their status messages that it needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum


class RecorderState(IntEnum):
    """As RecorderStatus.state."""

    IDLE = 0
    RECORDING = 1
    FINALISING = 2
    REFUSING = 3


@dataclass(frozen=True)
class ArbiterNews:
    """Of ArbiterStatus."""

    boot_id: str = ""
    armed: bool = False
    faults: Sequence[str] = ()
    details: Sequence[str] = ()
    late_ticks: int = 0
    recorder_boot_id: str = ""


@dataclass(frozen=True)
class PolicyNews:
    """Of PolicyStatus."""

    active_n: int = -1
    pending_n: int = -1
    last_rejected_n: int = -1
    last_rejection: str = ""
    pinned: bool = False


@dataclass(frozen=True)
class LearnerNews:
    """Of LearnerStatus."""

    state: str = ""
    reason: str = ""
    ingested_steps: int = 0
    refused_steps: int = 0
    updates: int = 0
    target_updates: float = 0.0
    published_n: int = -1
    updates_per_s: float = 0.0


@dataclass(frozen=True)
class RecorderNews:
    """Of RecorderStatus."""

    boot_id: str = ""
    state: int = RecorderState.IDLE
    episode_id: str = ""
    last_step_on_disk: int = -1
    reason: str = ""


News = ArbiterNews | PolicyNews | LearnerNews | RecorderNews
