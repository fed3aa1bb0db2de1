"""One recorded episode in which a person drove the arm, as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inril_core.data.container import EpisodeUnreadable, Recording, read_recording
from inril_core.data.reader import MAX_EPISODE_BYTES, decode_topics, identity_of, load_file, stamp_ns
from inril_core.data.schemas import EXECUTED_ACTION, OBSERVATION, ROBOT_STATE, TARGET
from inril_core.vocabulary import Source


@dataclass(frozen=True)
class Drive:
    """What was asked for, commanded and measured. Times in s of one clock; poses float64[7], m and xyzw, base frame."""

    tick_s: np.ndarray
    """float64[T+1], stamps of the Observations."""
    asked: np.ndarray
    """float64[T, A], what the person asked for, contract units."""
    by_person: np.ndarray
    """bool[T]: the person was in control; otherwise the arbiter held."""
    limits: tuple[tuple[str, ...], ...]
    """Of each step: the limits that changed its action."""
    margins: tuple[tuple[float, ...], ...]
    """One per limit: what was left of it for what was asked for; below 0: beyond it by so much."""
    target_s: np.ndarray
    """float64[N], stamps of the Targets: of the Observation that opened the tick."""
    target: np.ndarray
    """float64[N, 7], where the tool shall be one period after the stamp."""
    state_s: np.ndarray
    """float64[M], times of measurement."""
    pose: np.ndarray
    """float64[M, 7], measured."""
    states_lost: int
    """Numbers that are missing among the measurements; 0 where the recording holds only one per Observation."""
    faults: tuple[str, ...]
    """What the arm said of its own faults, each once."""


def read_drive(path: Path) -> Drive:
    """The arrays of an episode file, finished or not.

    Raises:
        EpisodeUnreadable: missing, damaged, or without a whole tick; the message names the file.
    """
    try:
        recording = read_recording(load_file(path), MAX_EPISODE_BYTES)
        return _drive(recording)
    except EpisodeUnreadable as error:
        raise EpisodeUnreadable(f"{path}: {error}") from error
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        what = f"{type(error).__name__} {error}"
        raise EpisodeUnreadable(f"{path}: its definitions are not inril's ({what})") from error


def _drive(recording: Recording) -> Drive:
    episode_id = identity_of(recording)["episode_id"]
    ticks: dict[int, Any] = {}
    executed: dict[int, Any] = {}
    targets: dict[int, Any] = {}
    states: dict[int, Any] = {}
    for topic, _, message in decode_topics(recording, (OBSERVATION, EXECUTED_ACTION, TARGET, ROBOT_STATE)):
        if topic == ROBOT_STATE:
            states.setdefault(stamp_ns(message.header), message)
        elif message.episode_id == episode_id:
            kept = {OBSERVATION: ticks, EXECUTED_ACTION: executed, TARGET: targets}[topic]
            kept.setdefault(stamp_ns(message.header), message)
    if not (ticks and executed and targets and states):
        raise EpisodeUnreadable("no tick with its action, Target and robot_state")
    begin_ns = min(ticks)
    actions = [executed[at] for at in sorted(executed)]
    measured = [states[at] for at in sorted(states)]
    return Drive(
        tick_s=_seconds(ticks, begin_ns),
        asked=np.array([list(action.proposed) for action in actions], np.float64),
        by_person=np.array([action.source == Source.HUMAN for action in actions]),
        limits=tuple(tuple(action.limits) for action in actions),
        margins=tuple(tuple(float(margin) for margin in action.limit_margins) for action in actions),
        target_s=_seconds(targets, begin_ns),
        target=np.array([_pose(targets[at].pose) for at in sorted(targets)], np.float64),
        state_s=_seconds(states, begin_ns),
        pose=np.array([_pose(state.tool_pose) for state in measured], np.float64),
        states_lost=_lost(measured, len(ticks)),
        faults=tuple(sorted({state.fault for state in measured if state.fault})),
    )


def _seconds(messages: dict[int, Any], begin_ns: int) -> np.ndarray:
    return np.array([(at - begin_ns) * 1e-9 for at in sorted(messages)], np.float64)


def _lost(states: list[Any], ticks_n: int) -> int:
    if len(states) <= ticks_n:
        return 0
    steps = [b.seq - a.seq for a, b in zip(states, states[1:], strict=False) if a.boot_id == b.boot_id]
    return int(sum(step - 1 for step in steps if step > 1))


def _pose(pose: Any) -> tuple[float, ...]:
    p, q = pose.position, pose.orientation
    return (p.x, p.y, p.z, q.x, q.y, q.z, q.w)
