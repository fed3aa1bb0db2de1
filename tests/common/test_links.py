"""Pins: a link's age and drops are counted by the clock handed in; never heard is stale."""

from inril_common.links import LinkMonitor

S = 1_000_000_000


def test_never_heard_is_stale() -> None:
    report = LinkMonitor("camera", 0.3).report(5 * S)
    assert report.stale and report.age_s is None


def test_rate_age_and_gap() -> None:
    link = LinkMonitor("camera", 0.3)
    link.report(0)
    for i in range(10):
        link.saw(i * S // 10)
    report = link.report(S)
    assert (report.rate_hz, report.age_s, report.stale) == (10.0, 0.1, False)
    assert report.worst_gap_s == 0.1
    assert link.report(2 * S).stale


def test_drops_are_gaps_in_the_sequence() -> None:
    link = LinkMonitor("robot_state", 0.3)
    for sequence in (4, 5, 9, 10):
        link.saw(0, sequence)
    assert link.drops == 3
    link.saw(0, 0)  # the other side restarted: nothing was dropped
    assert link.drops == 3
