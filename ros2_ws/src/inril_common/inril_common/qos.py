"""Every quality-of-service profile of the graph, and what does not fit together.

`InrilNode` and `InrilPlainNode` watch all their publishers and subscriptions: an endpoint elsewhere that cannot be
connected to is an error in the log and in /diagnostics, with both sides' policies and the fix.
"""

from __future__ import annotations

from collections.abc import Callable

from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, HistoryPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy


def _keep_last(depth: int, reliability: ReliabilityPolicy, durability: DurabilityPolicy) -> QoSProfile:
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=reliability, durability=durability)


TICK = _keep_last(10, ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE)
"""Messages of the control tick: lockstep needs each of them, so they are reliable even on loopback."""

EVENT = _keep_last(100, ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE)
"""Rare messages that must all arrive."""

LATCHED = _keep_last(1, ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL)
"""The newest state of something, also for those who join late."""

RECORD = _keep_last(1000, ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE)
"""The recorder's subscriptions: a slow disk must not cost a message."""

CLOCK = _keep_last(1, ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE)
"""/clock: the newest time alone counts, and rclpy's subscribers take it best-effort."""

SENSOR = _keep_last(10, ReliabilityPolicy.BEST_EFFORT, DurabilityPolicy.VOLATILE)
"""Subscriptions to drivers in real time: matches reliable and best-effort publishers; the newest message counts."""

NEWEST = _keep_last(1, ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE)
"""Set-points to a controller: only the newest counts."""

NEWEST_SENSOR = _keep_last(1, ReliabilityPolicy.BEST_EFFORT, DurabilityPolicy.VOLATILE)
"""Subscriptions to controllers that publish 1000 times a second, best effort: a reliable one would hear nothing."""

SENSOR_RECORD = _keep_last(1000, ReliabilityPolicy.BEST_EFFORT, DurabilityPolicy.VOLATILE)
"""The recorder's subscriptions to drivers in real time."""


def sensor_qos(lockstep: bool, record: bool = False) -> QoSProfile:
    """For a subscription to an arm, a tracker or a camera.

    In lockstep the cell is simulated and reliable, and every message is needed. In real time a driver may be best
    effort, as most camera drivers are, and a lost message is followed by the next.
    """
    if lockstep:
        return RECORD if record else TICK
    return SENSOR_RECORD if record else SENSOR


def incompatible_policies(offered: QoSProfile, requested: QoSProfile) -> list[tuple[str, str, str]]:
    """(policy, offered, requested) of each policy in which a publisher offers less than a subscription requests.

    The request-versus-offer rules of DDS 1.4, section 2.2.3. Empty: they can be connected.
    """
    rules: list[tuple[str, object, object, bool]] = [
        (
            "reliability",
            offered.reliability.name,
            requested.reliability.name,
            offered.reliability is ReliabilityPolicy.BEST_EFFORT
            and requested.reliability is ReliabilityPolicy.RELIABLE,
        ),
        (
            "durability",
            offered.durability.name,
            requested.durability.name,
            offered.durability is DurabilityPolicy.VOLATILE
            and requested.durability is DurabilityPolicy.TRANSIENT_LOCAL,
        ),
        ("deadline", *_later(offered, requested, lambda profile: profile.deadline)),
        (
            "liveliness",
            offered.liveliness.name,
            requested.liveliness.name,
            offered.liveliness is LivelinessPolicy.AUTOMATIC
            and requested.liveliness is LivelinessPolicy.MANUAL_BY_TOPIC,
        ),
        ("liveliness_lease_duration", *_later(offered, requested, lambda p: p.liveliness_lease_duration)),
    ]
    return [(name, str(theirs), str(ours)) for name, theirs, ours, bad in rules if bad]


def _later(offered: QoSProfile, requested: QoSProfile, of: Callable[[QoSProfile], Duration]) -> tuple[str, str, bool]:
    """Periods compared; zero is "not set", which is infinite."""
    theirs, ours = (of(profile).nanoseconds or 2**63 - 1 for profile in (offered, requested))
    return f"{theirs * 1e-9:g} s", f"{ours * 1e-9:g} s", theirs > ours
