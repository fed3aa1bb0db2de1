"""Pins: a message that is older than its limit is refused, by its stamp and by when it came, and the reason is told."""

from __future__ import annotations

import pytest

from inril_core.teleop.common.inbox import DeviceLost, Inbox, Topic

S = 1_000_000_000
NOW_NS = 1_700_000_000 * S


def inbox(stamped: bool = True) -> Inbox:
    return Inbox([Topic("joints", "sensor_msgs/msg/JointState", 0.5, stamped, "start the leader")])


def put(box: Inbox, age_s: float, mono_s: float = 1.0) -> None:
    box.put("joints", {"age": age_s}, round(NOW_NS - age_s * S), NOW_NS, round(mono_s * S))
    box.mono_ns = round(mono_s * S)


def test_nothing_was_ever_heard() -> None:
    with pytest.raises(DeviceLost, match=r"topic joints .* nothing was heard; start the leader"):
        inbox().newest("joints")


@pytest.mark.parametrize("age_s", [-0.05, 0.0, 0.3, 0.5])
def test_a_fresh_one_is_taken(age_s: float) -> None:
    box = inbox()
    put(box, age_s)
    assert box.newest("joints") == {"age": age_s}


@pytest.mark.parametrize("age_s", [0.51, 3.0, -0.2, 1e6])
def test_an_old_one_and_one_from_the_future_are_refused(age_s: float) -> None:
    box = inbox()
    put(box, age_s)
    with pytest.raises(DeviceLost, match="s old by their stamps.*synchronise"):
        box.newest("joints")


def test_silence_ages_what_was_fresh_and_its_age_on_arrival_counts() -> None:
    box = inbox()
    put(box, 0.2, mono_s=1.0)
    box.mono_ns = round(1.3 * S)
    assert box.newest("joints")
    box.mono_ns = round(1.31 * S)
    with pytest.raises(DeviceLost, match="silent for 0.5 s"):
        box.newest("joints")


def test_an_old_one_does_not_replace_a_fresh_one_and_is_the_reason_later() -> None:
    box = inbox()
    put(box, 0.1, mono_s=1.0)
    put(box, 0.9, mono_s=1.1)
    assert box.newest("joints") == {"age": 0.1}
    put(box, 0.9, mono_s=2.0)
    with pytest.raises(DeviceLost, match="0.90 s old"):
        box.newest("joints")


def test_a_message_without_a_stamp() -> None:
    box = inbox()
    box.put("joints", {}, 0, NOW_NS, S)
    with pytest.raises(DeviceLost, match="no header.stamp"):
        box.newest("joints")
    box = inbox(stamped=False)
    box.put("joints", {}, 0, NOW_NS, S)
    box.mono_ns = S
    assert box.newest("joints") == {}
