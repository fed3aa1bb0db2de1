"""Pins: two people who drive at once, a page that takes control unseen, and late or lost commands that move an arm."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from inril_core.console import messages as m
from inril_core.console.pages import MAX_PAGES, PageRefused
from inril_core.console.rates import Bucket
from inril_core.contract import load_contract
from tests.console.made import SECOND, Bench

CONTRACT = load_contract("insert_leg")


def test_one_page_has_control_and_the_other_takes_it_by_name() -> None:
    bench = Bench()
    ada, bob = bench.page("Ada"), bench.page("Bob")
    bench.take(ada)
    bench.say(bob, m.SessionWord("pause", ""))
    assert bench.asked == []
    refusals = [said for said in bench.heard(bob) if said["kind"] == "notice"]
    assert refusals[0]["text"] == "not done: Ada has control"

    bench.take(bob)  # thinks that nobody has it
    assert "not taken: Ada has control" in bench.heard(bob)[0]["text"]
    bench.heard(ada)
    bench.take(bob, from_id=ada.client_id)
    told = bench.heard(ada)
    assert told[0]["level"] == "warning" and "Bob has taken control from you" in told[0]["text"]
    assert [said["holder"] for said in told if said["kind"] == "control"] == ["Bob"]
    bench.say(ada, m.SessionWord("pause", ""))
    bench.say(bob, m.SessionWord("pause", ""))
    assert [(asked.by, asked.message.word) for asked in bench.asked] == [("Bob", "pause")]


def test_what_the_former_holder_does_is_not_done() -> None:
    bench = Bench()
    ada, bob = bench.page("Ada"), bench.page("Bob")
    bench.take(ada)
    bench.drive(ada, bench.beat())
    bench.take(bob, ada.client_id)
    assert [(said.operator, any(said.motion), said.grab) for said in bench.driven] == [
        ("Ada", True, True),
        ("Ada", False, True),  # the arm holds, and is not handed back
    ]
    bench.drive(ada, bench.beat())
    assert len(bench.driven) == 2


def test_a_page_that_goes_while_it_drives_holds_the_arm_at_once() -> None:
    bench = Bench()
    ada = bench.page("Ada")
    bench.take(ada)
    bench.drive(ada, bench.beat())
    bench.pages.leave(ada)
    last = bench.driven[-1]
    assert len(bench.driven) == 2 and last.seq > bench.driven[0].seq
    assert last.grab and not last.released and not any(last.motion) and math.isnan(last.gripper)
    bench.pages.leave(ada)
    idle = bench.page("Bob")
    bench.take(idle, ada.client_id)
    bench.drive(idle, bench.beat(), grab=False)
    bench.pages.leave(idle)
    assert len(bench.driven) == 3  # who has not grabbed says nothing more


def test_any_page_may_stop_also_before_it_says_who_it_is() -> None:
    bench = Bench()
    ada, bob = bench.page("Ada"), bench.page("Bob")
    bench.take(ada)
    bench.say(bob, m.Stop())
    bench.say(bench.pages.join("x", bench.now_ns), m.Stop())
    assert [(asked.by, type(asked.message)) for asked in bench.asked] == [("Bob", m.Stop), ("a page", m.Stop)]


def test_a_holder_that_is_gone_keeps_control_until_it_is_taken_and_the_others_see_it() -> None:
    bench = Bench()
    ada, bob = bench.page("Ada"), bench.page("Bob")
    bench.take(ada)
    bench.heard(bob)
    bench.pages.leave(ada)
    control = [said for said in bench.heard(bob) if said["kind"] == "control"][-1]
    assert (control["holder"], control["holder_present"], control["pages"]) == ("Ada", False, 1)
    again = bench.page("Ada")  # a new connection is another page: it has to take control deliberately
    bench.drive(again, bench.beat())
    assert bench.driven == []
    bench.take(again, ada.client_id)
    bench.drive(again, bench.beat())
    assert len(bench.driven) == 1


def test_drive_messages_count_in_order_and_while_the_page_sees_fresh_beats() -> None:
    bench = Bench()
    page = bench.page()
    bench.take(page)
    beat = bench.beat()
    bench.drive(page, beat, seq=5)
    bench.drive(page, beat, seq=5)
    bench.drive(page, beat, seq=4)
    assert [said.seq for said in bench.driven] == [5]
    bench.now_ns += 280_000_000
    bench.drive(page, beat, seq=6)
    assert [said.seq for said in bench.driven] == [5, 6]
    bench.heard(page)
    bench.now_ns += 30_000_000  # 0.31 s after the beat
    bench.drive(page, beat, seq=7)
    assert [said.seq for said in bench.driven] == [5, 6]
    assert any("too slow to drive" in said.get("text", "") for said in bench.heard(page))


def test_a_beat_that_was_never_sent_is_no_excuse() -> None:
    bench = Bench()
    page = bench.page()
    bench.take(page)
    beat = bench.beat()
    for wrong in (beat + 1, beat + 10**6, 0):
        bench.drive(page, wrong)
    assert bench.driven == []


@example([(300, 0, False)])
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 30), st.booleans()), max_size=60))
def test_whatever_the_network_does_no_old_command_moves(steps: list[tuple[int, int, bool]]) -> None:
    """Messages are sent at random times and delivered late, twice and out of order: each counts at most once, in order,
    and never when the page's view is older than the limit."""
    bench = Bench(CONTRACT)
    page = bench.page()
    bench.take(page)
    sent_ns: dict[int, int] = {bench.beat(): bench.now_ns}
    last = -1
    for wait_ms, seq, tick in steps:
        bench.now_ns += wait_ms * 1_000_000
        if tick:
            before = bench.newest_beat()
            bench.pages.tick(bench.now_ns)
            if bench.newest_beat() != before:
                sent_ns[bench.newest_beat()] = bench.now_ns
        page.bucket = Bucket(1e9, 1000, 0)  # rate limits are another test's
        beat = max(sent_ns)
        count = len(bench.driven)
        bench.drive(page, beat, seq=seq)
        counted = len(bench.driven) > count
        assert counted == (seq > last and bench.now_ns - sent_ns[beat] <= 0.3 * SECOND)
        last = max(last, seq)


def test_nothing_moves_without_a_grab_and_the_gripper_keeps_its_width() -> None:
    bench = Bench()
    page = bench.page()
    bench.take(page)
    bench.drive(page, bench.beat(), grab=False, gripper=1.0)
    bench.drive(page, bench.beat(), release=True)
    assert [said.motion for said in bench.driven] == [(0.0,) * 6] * 2
    assert all(math.isnan(said.gripper) for said in bench.driven)
    assert [(said.grab, said.released) for said in bench.driven] == [(False, False), (False, True)]
    bench.drive(page, bench.beat(), gripper=-1.0)
    assert bench.driven[-1].gripper == -1.0


def test_pages_are_bounded_and_so_is_what_they_ask() -> None:
    bench = Bench()
    pages = [bench.page(f"p{i}") for i in range(MAX_PAGES)]
    with pytest.raises(PageRefused, match="16 pages are connected"):
        bench.page()
    bench.take(pages[0])
    for _ in range(40):
        bench.say(pages[0], m.SessionWord("pause", ""))
    assert len(bench.asked) == 19  # a burst of 20, of which one took control
    assert any("too many requests" in said.get("text", "") for said in bench.heard(pages[0]))
    bench.now_ns += SECOND
    bench.say(pages[0], m.SessionWord("pause", ""))
    assert len(bench.asked) == 20
    with pytest.raises(PageRefused, match="more than 150 messages a second"):
        for _ in range(400):
            bench.drive(pages[0], 0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "{}",
        "null",
        '{"kind":"hello"}',
        '{"kind":"hello","name":""}',
        '{"kind":"hello","name":"' + "x" * 41 + '"}',
        '{"kind":"shutdown"}',
        '{"kind":"stop","now":true}',
        '{"kind":"drive","seq":1,"beat":1,"motion":[0,0,0,0,0,NaN],"gripper":null,"grab":true,"release":false}',
        '{"kind":"drive","seq":1,"beat":1,"motion":[0,0,0,0,0,2],"gripper":null,"grab":true,"release":false}',
        '{"kind":"drive","seq":1,"beat":1,"motion":[0,0],"gripper":null,"grab":true,"release":false}',
        '{"kind":"drive","seq":-1,"beat":1,"motion":[0,0,0,0,0,0],"gripper":null,"grab":true,"release":false}',
        '{"kind":"drive","seq":1,"beat":1,"motion":[0,0,0,0,0,0],"gripper":null,"grab":"yes","release":false}',
        '{"kind":"session_word","word":"arm","episode_id":""}',
        "[" * 3000,
        "x" * 5000,
    ],
)
def test_what_no_page_of_ours_sends_ends_the_connection(text: str) -> None:
    bench = Bench()
    page = bench.page()
    with pytest.raises(PageRefused):
        bench.pages.hear(page, text, bench.now_ns)
    assert bench.asked == [] and bench.driven == []


def test_the_first_message_is_hello_and_the_name_is_kept() -> None:
    bench = Bench()
    page = bench.pages.join("s", bench.now_ns)
    with pytest.raises(PageRefused, match="first message must be hello"):
        bench.take(page)
    page = bench.page("Ada")
    with pytest.raises(PageRefused, match="hello came twice"):
        bench.say(page, m.Hello("Bob"))
