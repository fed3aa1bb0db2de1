"""What a recording should hold and what it does: steps, rates, gaps, drops. At each episode's end, and later."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from mcap.records import Message

from inril_core.contract import Contract, contract_from_text
from inril_core.data.container import Recording
from inril_core.data.episode_writer import IDENTITY
from inril_core.data.fields import FieldReader
from inril_core.data.schemas import (
    EXECUTED_ACTION,
    OBSERVATION,
    POLICY_ACTION,
    SENSOR_TOPICS,
    TARGET,
    TELEOP_ACTION,
    TOPICS,
    MessageSchema,
)
from inril_core.errors import InrilError

MAX_GAP_PERIODS = 2.0
"""A longer time between two observations, in control periods, is a gap."""
RATE_TOLERANCE = 0.05
"""Relative difference between the rate of the observations' stamps and the contract's that is a problem."""
LEAST_SHARE = 0.9
"""Of the observations beside which a message of each sensor topic that was heard at all must stand."""
SHOWN = 5


@dataclass(frozen=True)
class TopicAudit:
    """One topic of a recording. Rates and gaps are of the headers' stamps."""

    messages: int
    expected: int | None
    """None: nothing says how many there should be."""
    rate_hz: float | None
    """None: of fewer than two messages."""
    largest_gap_s: float


@dataclass(frozen=True)
class Audit:
    """What is in a recording."""

    steps_expected: int
    """By the highest step that any message names."""
    steps_written: int
    """Those with their observation, their executed action and the observation after it."""
    closed: bool
    """The closing observation is there."""
    gaps: int
    """Pauses between observations longer than `MAX_GAP_PERIODS`."""
    topics: Mapping[str, TopicAudit] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    """What is wrong, in words; empty for a good recording."""


def audit(recording: Recording) -> Audit:
    """Look at the records of a file. It says what is missing instead of raising for it."""
    by_topic: dict[str, list[Message]] = defaultdict(list)
    for message in recording.messages:
        channel = recording.channels.get(message.channel_id)
        if channel is not None:
            by_topic[channel.topic].append(message)
    problems: list[str] = []
    observed, last_step = _observed(recording, by_topic[OBSERVATION], problems)
    executed = _executed(recording, by_topic[EXECUTED_ACTION], problems)
    highest = max([-1, *observed, *(step + 1 for step in executed)])
    expected = max(0, highest)
    whole = [step for step in range(expected) if {step, step + 1} <= observed.keys() and step in executed]
    missing = sorted(set(range(expected)) - set(whole))
    if missing:
        shown = ", ".join(map(str, missing[:SHOWN])) + (", ..." if len(missing) > SHOWN else "")
        problems.append(f"{len(missing)} of {expected} steps are not whole: {shown}")
    if not expected:
        problems.append("no step")
    if last_step is None:
        problems.append("the closing observation is missing")
    elif last_step != highest:
        problems.append(f"the closing observation is of step {last_step}, others go to {highest}")
    contract = _contract(recording, problems)
    gaps = _check_cadence(observed, contract, problems)
    _check_images(recording, problems)
    topics = {topic: _topic(messages, topic, expected) for topic, messages in sorted(by_topic.items()) if messages}
    for topic in SENSOR_TOPICS:
        if topic in topics and topics[topic].messages < LEAST_SHARE * len(observed):
            problems.append(f"{topic}: {topics[topic].messages} messages for {len(observed)} observations")
    return Audit(expected, len(whole), last_step is not None, gaps, topics, tuple(problems))


def _reader(recording: Recording, messages: list[Message], topic: str, names: tuple[str, ...]) -> FieldReader | None:
    if not messages:
        return None
    channel = recording.channels[messages[0].channel_id]
    schema = recording.schemas.get(channel.schema_id)
    if schema is None or schema.name != TOPICS[topic]:
        return None
    try:
        return FieldReader(MessageSchema(schema.name, schema.data.decode()), names)
    except (ValueError, KeyError, UnicodeDecodeError):
        return None


def _fields(
    recording: Recording, messages: list[Message], topic: str, names: tuple[str, ...], problems: list[str]
) -> Any:
    reader = _reader(recording, messages, topic, names)
    if reader is None and messages:
        problems.append(f"{topic}: of another type")
    for message in messages if reader is not None else ():
        try:
            assert reader is not None
            yield message, reader(message.data)
        except ValueError as error:
            problems.append(f"{topic}: a message is damaged ({error})")
            return


def _observed(recording: Recording, messages: list[Message], problems: list[str]) -> tuple[dict[int, int], int | None]:
    """Stamp in ns by step, and the closing one's step."""
    observed: dict[int, int] = {}
    last_step = None
    boots = set()
    own = recording.metadata.get(IDENTITY, {}).get("episode_id")
    for message, fields in _fields(
        recording, messages, OBSERVATION, ("boot_id", "episode_id", "step", "last"), problems
    ):
        if fields.episode_id != own:
            continue
        observed.setdefault(fields.step, message.publish_time)
        boots.add(fields.boot_id)
        last_step = fields.step if fields.last else last_step
    if len(boots) > 1:
        problems.append("observation_node was started again in it")
    return observed, last_step


def _executed(recording: Recording, messages: list[Message], problems: list[str]) -> set[int]:
    own = recording.metadata.get(IDENTITY, {}).get("episode_id")
    fields = _fields(recording, messages, EXECUTED_ACTION, ("episode_id", "step"), problems)
    return {found.step for _, found in fields if found.episode_id == own}


def _contract(recording: Recording, problems: list[str]) -> Contract | None:
    identity = recording.metadata.get(IDENTITY, {})
    text = identity.get("contract", "")
    try:
        contract = contract_from_text(text)
    except InrilError:
        return None  # of a task of another kind
    if contract.interface_digest != identity.get("interface_digest"):
        problems.append("its contract is not the one that its interface_digest names")
    return contract


def _check_cadence(observed: Mapping[int, int], contract: Contract | None, problems: list[str]) -> int:
    if contract is None or len(observed) < 2:
        return 0
    steps = sorted(observed)
    stamps = np.array([observed[step] for step in steps], np.int64)
    periods = np.diff(stamps) / contract.period_ns
    if (periods <= 0.0).any():
        problems.append(f"stamps do not increase after step {steps[int(np.argmax(periods <= 0.0))]}")
        return 0
    late = np.flatnonzero(periods > MAX_GAP_PERIODS)
    if len(late):
        worst = int(np.argmax(periods))
        problems.append(
            f"{len(late)} gaps between observations; the longest, {periods[worst] / contract.control_rate_hz:.2f} s, "
            f"after step {steps[worst]}"
        )
    rate_hz = (len(stamps) - 1) * 1e9 / float(stamps[-1] - stamps[0])
    if abs(rate_hz / contract.control_rate_hz - 1.0) > RATE_TOLERANCE:
        problems.append(f"observations came at {rate_hz:.2f} Hz, the contract says {contract.control_rate_hz:g} Hz")
    return len(late)


def _check_images(recording: Recording, problems: list[str]) -> None:
    """Without decoding them: an observation that carries its images is longer than their pixels."""
    identity = recording.metadata.get(IDENTITY, {})
    names = [name for name in identity.get("images", "").split(",") if name]
    contract = _contract(recording, [])
    if not names or contract is None:
        return
    least = sum(3 * image.width_px * image.height_px for image in contract.images if image.name in names)
    channels = {c.id for c in recording.channels.values() if c.topic == OBSERVATION}
    observations = [m for m in recording.messages if m.channel_id in channels]
    bare = sum(len(message.data) < least for message in observations)
    if bare:
        problems.append(f"{bare} of {len(observations)} observations lack an image of {', '.join(names)}")


def _topic(messages: list[Message], topic: str, steps: int) -> TopicAudit:
    stamps = np.sort(np.array([message.publish_time for message in messages], np.int64))
    gaps_s = np.diff(stamps) / 1e9
    span_s = float(stamps[-1] - stamps[0]) / 1e9
    expected = {OBSERVATION: steps + 1, EXECUTED_ACTION: steps, TARGET: steps, POLICY_ACTION: steps}
    expected |= {TELEOP_ACTION: steps} | dict.fromkeys(SENSOR_TOPICS, steps + 1)
    return TopicAudit(
        messages=len(messages),
        expected=expected.get(topic),
        rate_hz=(len(stamps) - 1) / span_s if span_s > 0.0 else None,
        largest_gap_s=float(gaps_s.max()) if len(gaps_s) else 0.0,
    )
