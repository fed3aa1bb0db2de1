"""Every quality-of-service profile of the graph, and the rule that a mismatch is an error."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy


def _reliable(depth: int, durability: DurabilityPolicy) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=durability,
    )


TICK = _reliable(10, DurabilityPolicy.VOLATILE)
"""Messages of the control tick: lockstep needs each of them, so they are reliable even on loopback."""

EVENT = _reliable(100, DurabilityPolicy.VOLATILE)
"""Rare messages that must all arrive."""

LATCHED = _reliable(1, DurabilityPolicy.TRANSIENT_LOCAL)
"""The newest state of something, also for those who join late."""

RECORD = _reliable(1000, DurabilityPolicy.VOLATILE)
"""The recorder's subscriptions: a slow disk must not cost a message."""

CLOCK = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.RELIABLE)
"""/clock: the newest time alone counts, and rclpy's subscribers take it best-effort."""
