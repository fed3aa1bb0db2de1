"""Pins: a slow page that is sent a backlog of old states, or whose queue eats the memory."""

from __future__ import annotations

import dataclasses
import json
import typing

from hypothesis import given
from hypothesis import strategies as st

from inril_core.console import messages as m
from inril_core.console.outbox import MAX_EVENTS, Outbox
from tests.console.made import Bench


def test_every_message_to_a_page_says_whether_the_newest_wins() -> None:
    for kind in m.ToPage.__subclasses__():
        assert isinstance(kind.newest_wins, bool), kind
        assert dataclasses.is_dataclass(kind)
    assert {kind for kind in m.ToPage.__subclasses__() if not kind.newest_wins} == {m.Welcome, m.Notice}


def test_every_message_from_a_page_names_its_kind() -> None:
    kinds = [typing.get_args(typing.get_type_hints(kind)["kind"])[0] for kind in typing.get_args(m.FromPage)]
    assert len(set(kinds)) == len(kinds)
    for kind, message in zip(kinds, typing.get_args(m.FromPage), strict=True):
        assert kind == m._snake(message.__name__)


@given(st.lists(st.sampled_from(["beat", "notice", "frame", "shown", "take"]), max_size=300))
def test_an_outbox_is_bounded_and_keeps_the_newest(steps: list[str]) -> None:
    outbox, newest, in_flight = Outbox(), None, None
    for count, step in enumerate(steps, 1):
        if step == "beat":
            outbox.put(m.Beat(count))
            newest = count
        elif step == "notice":
            outbox.put(m.Notice("info", str(count)))
        elif step == "frame":
            outbox.put_frame(m.Frame("front", count, 0, b"jpeg"))
        elif step == "shown" and in_flight is not None:
            outbox.shown(in_flight)
            in_flight = None
        elif step == "take":
            thing = outbox.take()
            if isinstance(thing, m.Frame):
                assert in_flight is None, "two pictures under way"
                in_flight = thing.frame_id
            elif thing is not None and json.loads(thing)["kind"] == "beat":
                assert json.loads(thing)["beat"] == newest
    waiting = 0
    while outbox.take() is not None:
        waiting += 1
    assert waiting <= MAX_EVENTS + 2


def test_a_page_that_does_not_take_its_events_is_noticed() -> None:
    outbox = Outbox()
    for i in range(MAX_EVENTS + 1):
        outbox.put(m.Notice("info", str(i)))
    assert outbox.overflowed


def test_who_comes_late_is_told_how_things_are() -> None:
    bench = Bench()
    bench.pages.tell(m.Notice("info", "before"))
    bench.pages.tell(m.Disagreement((1,), (0.5,), "e"))
    bench.pages.tell(m.Disagreement((1, 2), (0.5, 0.25), "e"))
    kinds = bench.heard(bench.page())
    assert [said["kind"] for said in kinds] == ["welcome", "control", "disagreement"]
    assert kinds[2]["steps"] == [1, 2]


def test_numbers_that_are_not_finite_are_null() -> None:
    assert json.loads(m.Disagreement((1,), (float("nan"),), "e").encode())["distance"] == [None]


def test_one_picture_is_under_way_and_cameras_take_turns() -> None:
    outbox = Outbox()
    for frame_id, camera in ((1, "front"), (2, "front"), (3, "wrist")):
        outbox.put_frame(m.Frame(camera, frame_id, 0, b"jpeg"))
    first = outbox.take()
    assert isinstance(first, m.Frame) and outbox.take() is None
    outbox.shown(99)  # of no picture under way
    assert outbox.take() is None
    outbox.shown(first.frame_id)
    second = outbox.take()
    assert isinstance(second, m.Frame) and {first.frame_id, second.frame_id} == {2, 3}
