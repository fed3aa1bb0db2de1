"""Pins: a page on which a tired person does not find the stop, the fault or the button. No graph: states are told."""

from __future__ import annotations

import base64
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inril_core.console import messages as m
from inril_core.console.cameras import encode
from inril_core.hardware.description import robot_description
from tests.console.chromium import operators_page, save_picture
from tests.console.made import TOKEN, console

pytestmark = pytest.mark.timeout(1200)
PATIENT_MS = 300_000
FAULT = m.FaultLine("teleop_lost", "the device with control is silent for 0.41 s; reconnect it, then arm")
LONG = m.FaultLine("position_box", "x = 0.7612 m: outside [0.30, 0.75]; drive back into the region, then arm " * 3)
JOINTS = (0.0, -0.3, 0.0, -2.2, 0.0, 1.9, 0.8)
POSE = (0.5, 0.0, 0.2, 1.0, 0.0, 0.0, 0.0)


def safety(**changes: Any) -> m.Safety:
    values = {"heard": True, "armed": True, "in_control": "policy", "faults": (), "arm_heard": True, "arm_holds": False}
    values |= {"needs_rearm": False, "simulated": True, "late_ticks": 0, "device_trouble": ""}
    return m.Safety(**(values | changes))


def session(state: str = "running", **changes: Any) -> m.SessionState:
    values = {"heard": True, "segment": "train", "state": state, "waiting_for": "", "waits_for_person": False}
    values |= {"episode_id": "run-1-000012", "episodes": 12, "successes": 8, "failures": 4, "steps": 1040}
    values |= {"steps_per_s": 9.9, "eta_s": 100.0, "reset_text": "", "recorder": "recording", "recorder_reason": ""}
    values |= {"trials": 0, "failure_tags": ()}
    return m.SessionState(**(values | {"free_gb": 120.0} | changes))


def evaluation(**changes: Any) -> m.SessionState:
    return session(**({"segment": "eval", "trials": 40, "failure_tags": ("missed", "dropped", "wrong pose")} | changes))


def point(number: int, **changes: Any) -> m.EpisodePoint:
    values = {"episode_id": f"e-{number}", "index": number, "purpose": "eval", "success": True, "by": "cell", "tag": ""}
    values |= {"task_says": "success", "valid": True, "steps": 80, "interventions": 0, "human_share": 0.0}
    return m.EpisodePoint(**(values | changes))


FAILED = {"success": False, "by": "episode_length", "task_says": "failure"}


@contextmanager
def page_of(browser: Any, size: str, take: bool = True, device: str = "browser") -> Iterator[tuple[Any, Any]]:
    """A page at a console that was told a usual state; the page has control."""
    with console(drive_timeout_s=5.0, robot=robot_description(""), device=device) as (made, _):
        for said in (
            safety(),
            session(),
            m.PolicyState(
                True, "run", 3, 4, False, 4, 1, 2, "wild_action", (m.ShownVersion("run", 2),), "learns", 900, 8.1
            ),
            m.Pose(JOINTS, 0.04, POSE, (0.51, *POSE[1:]), 0.05, 0.1),
            m.Links((m.LinkLine("arbiter_node", "policy_action", "ok", "", 10.0, 0.05, 0),)),
            m.Episodes(tuple(point(i, purpose="train", success=i % 3 > 0, interventions=i % 2) for i in range(12))),
            m.Disagreement(tuple(range(30)), tuple(0.3 + 0.2 * math.sin(i / 4) for i in range(30)), "e-1"),
        ):
            made.tell(said)
        made.put_image("front", lambda: np.full((240, 320, 3), 90, np.uint8))
        with operators_page(browser, "Ada", size, PATIENT_MS) as page:
            page.goto(f"http://127.0.0.1:{made.port}/#token={TOKEN.reveal}")
            wait(page, "#lamp-armed", "Armed")
            if take:
                page.click("#take")
                page.wait_for_selector("body.holds")
            yield made, page


def wait(page: Any, where: str, words: str) -> None:
    page.wait_for_function("([s, w]) => document.querySelector(s).textContent.includes(w)", arg=[where, words])


def all_on_screen(page: Any, *selectors: str) -> None:
    """Nobody need scroll to them, and nothing is cut off sideways."""
    size = page.viewport_size
    for selector in selectors:
        box = page.locator(selector).first.bounding_box()
        assert box is not None, selector
        right, bottom = box["x"] + box["width"], box["y"] + box["height"]
        inside = box["x"] >= 0 and right <= size["width"] and bottom <= size["height"]
        assert inside, f"{selector} is not on the screen: {box}"
    boxes = "[...document.querySelectorAll('header, header *, main, #do, .panel, .row, button')]"
    cut = page.evaluate(
        f"{boxes}.filter(e => e.scrollWidth > e.clientWidth + 1 && e.clientWidth).map(e => e.outerHTML)"
    )
    assert cut == []


def keep(page: Any, name: str) -> None:
    if folder := os.environ.get("INRIL_LOOKS"):
        save_picture(page, Path(folder) / f"{name}.png")


@pytest.mark.parametrize("size", ["desk", "tablet"])
def test_what_an_operator_needs_is_on_the_screen_also_with_long_faults(browser: Any, size: str) -> None:
    with page_of(browser, size) as (made, page):
        needed = ["#stop", "#holder", "#arm", "#faults", "#drive", "#hand-back", "#words [data-word=success]"]
        needed += ["#words [data-word=ready]", "#cameras figcaption", "#view3d"]
        pads = ["#pad-xy", "#pad-zr", "#pad-tilt"] if size == "tablet" else []
        all_on_screen(page, *needed, *pads)
        keep(page, f"{size}_usual")
        stop = page.locator("#stop").bounding_box()
        assert stop["width"] >= 140 and stop["height"] >= 70
        assert all(page.locator(pad).bounding_box()["width"] >= 110 for pad in pads)

        made.tell(safety(in_control="hold", faults=(FAULT, LONG)))
        wait(page, "#lamp-armed", "Fault: arm holds")
        wait(page, "#faults", "reconnect it, then arm")
        all_on_screen(page, "#stop", "#holder", "#arm", "#faults")
        keep(page, f"{size}_faults")


def test_where_the_console_is_gone_nothing_looks_as_if_it_worked_a_stop_least_of_all(browser: Any) -> None:
    with page_of(browser, "tablet") as (made, page):
        made.close()
        wait(page, "#banner", "Connection lost")
        for where in ("#lamp-armed", "#holder", "#faults", "#session-text"):
            wait(page, where, "Not known")
        assert page.get_attribute("#drive", "aria-disabled") == "true"
        page.click("#drive", force=True)
        wait(page, "#notices", "there is no connection")
        page.keyboard.press("Space")
        wait(page, "#banner", "STOP FAILED: the console does not answer. Press the arm's own emergency stop")
        keep(page, "tablet_no_connection")


def test_while_a_start_is_laid_out_its_picture_lies_over_the_live_one(browser: Any) -> None:
    with page_of(browser, "desk") as (made, page):
        wanted = base64.b64encode(encode(np.full((240, 320, 3), (20, 160, 40), np.uint8))).decode()
        waits = {"waiting_for": "a person to lay out the cell (start 700012)", "waits_for_person": True}
        made.tell(session("resetting", **waits))
        made.tell(m.WantedStart(700012, (m.WantedPicture("front", wanted, ""),)))
        page.wait_for_function("() => document.querySelector('#cameras .wanted')?.naturalWidth === 320")
        wait(page, "#cameras figcaption", "start 700012 as wanted lies over it")
        live, over = (page.locator(f"#cameras {which}").bounding_box() for which in ("img:not(.wanted)", ".wanted"))
        assert live == over, "one lies exactly over the other"
        page.locator("#cameras input").fill("100")
        assert page.eval_on_selector("#cameras .wanted", "e => getComputedStyle(e).opacity") == "1"
        page.locator("#cameras input").fill("50")
        all_on_screen(page, "#cameras input", "#cameras figcaption", "#words [data-word=ready]")
        keep(page, "desk_start")
        made.tell(m.WantedStart(700013, (m.WantedPicture("front", "", "front.png: no picture"),)))
        wait(page, "#cameras figcaption", "no wanted picture: front.png: no picture")
        made.tell(m.WantedStart(-1, ()))
        page.wait_for_function("() => document.querySelector('#cameras .wanted').hidden")
        page.wait_for_function("() => !document.querySelector('#cameras figcaption').textContent.includes('wanted')")


@pytest.mark.parametrize("size", ["desk", "tablet"])
def test_an_operator_says_why_a_trial_failed(browser: Any, size: str) -> None:
    with page_of(browser, size, device="scripted") as (made, page):
        assert not page.is_visible("#trial"), "outside evaluations there are no tags"
        made.tell(evaluation())
        made.tell(m.Episodes((point(0), point(1, **FAILED), point(2, valid=False))))
        wait(page, "#trial-text", "Trial 1: ✗ failure, at the time limit.")
        wait(page, "#session-text", "12 of 40 trials are done")
        all_on_screen(page, "#said", "#say-so", "#stop", "#words [data-word=ready]")
        page.click("#say-so", force=True)
        wait(page, "#notices", "Say so: not now, choose what to say first")
        page.select_option("#said", label="failure: wrong pose")
        keep(page, f"{size}_trial")
        # another trial ends meanwhile: what is said stays with the one that the person looks at
        made.tell(m.Episodes((point(0), point(1, **FAILED), point(2, valid=False), point(3))))
        wait(page, "#episodes", "trial 3")
        assert "Trial 1:" in page.text_content("#trial-text") and made.asked.empty()
        page.tap("#say-so") if size == "tablet" else page.click("#say-so")
        assert made.asked.get(timeout=60.0).message == m.Label("e-1", "failure", "wrong pose")
        wait(page, "#trial-text", "Trial 3: ✓ success, says the task.")

        said = {"success": False, "by": "Ada", "tag": "dropped"}
        stopped = {"success": False, "by": "safety", "tag": "safety stop", "task_says": ""}
        made.tell(m.Episodes((point(1, **FAILED | said), point(3, **said), point(4, **stopped))))
        wait(page, "#episodes", "✗ failure: dropped, says Ada (the task: success)")
        wait(page, "#trial-text", "Trial 4: ✗ failure: safety stop, says the arm's safety.")
        page.click("#panel-session summary")
        row = page.locator("#episodes tr", has_text="trial 3")
        row.locator("select").select_option(label="take labels back")
        row.locator("button").click()
        assert made.asked.get(timeout=60.0).message == m.Label("e-3", "unknown", "")
        keep(page, f"{size}_labels")


def test_keys_alone_label_a_trial_and_space_stops_wherever_the_focus_is(browser: Any) -> None:
    with page_of(browser, "desk") as (made, page):
        made.tell(evaluation())
        made.tell(m.Episodes((point(7, **FAILED),)))
        wait(page, "#trial-text", "Trial 7")
        page.keyboard.press("8")
        assert page.evaluate("document.activeElement.id") == "said"
        for _ in range(3):  # over success and failure to the first tag: nothing is said on the way
            page.keyboard.press("ArrowDown")
        assert page.locator("#said option:checked").text_content() == "failure: missed"
        assert made.asked.empty()
        page.keyboard.press("Enter")
        assert made.asked.get(timeout=60.0).message == m.Label("e-7", "failure", "missed")
        assert page.evaluate("document.activeElement.tagName") == "BODY", "keys drive again"
        page.keyboard.press("8")
        page.keyboard.press("Space")
        wait(page, "#notices", "Stop by Ada: disarmed by Ada")


def test_a_label_that_cannot_be_given_now_says_why(browser: Any) -> None:
    with page_of(browser, "desk", take=False) as (made, page):
        made.tell(evaluation())
        made.tell(m.Episodes((point(7, **FAILED),)))
        wait(page, "#trial-text", "Trial 7")
        page.click("#say-so", force=True)
        wait(page, "#notices", "Say so: not now, take control first")
        assert page.is_disabled("#said") and page.get_attribute("#said", "title") == "Not now: take control first"
        page.click("#take")
        page.wait_for_function("() => !document.querySelector('#said').disabled")
        made.tell(evaluation(heard=False))
        page.wait_for_function("() => document.querySelector('#said').disabled")
        page.click("#say-so", force=True)
        wait(page, "#notices", "Say so: not now, session_node is not heard")
        made.close()
        wait(page, "#banner", "Connection lost")
        page.click("#say-so", force=True)
        wait(page, "#notices", "Say so: not now, there is no connection")
        assert page.is_disabled("#said") and made.asked.empty()


def test_a_page_that_knows_only_a_part_shows_nothing_and_lets_no_press_be_lost(browser: Any) -> None:
    """On a slow machine a person pressed "Take control" between two of the console's first messages."""
    withheld: list[str] = []
    sockets: list[Any] = []

    def without_control(socket: Any) -> None:
        server = socket.connect_to_server()
        sockets.append(socket)

        def hand_on(message: Any) -> None:
            if isinstance(message, str) and json.loads(message)["kind"] == "control":
                withheld.append(message)
            else:
                socket.send(message)

        server.on_message(hand_on)

    with (
        console(drive_timeout_s=5.0, robot=robot_description("")) as (made, _),
        operators_page(browser, "Ada", "desk", PATIENT_MS) as page,
    ):
        page.route_web_socket("**/ws", without_control)
        for said in (safety(), session()):
            made.tell(said)
        page.goto(f"http://127.0.0.1:{made.port}/#token={TOKEN.reveal}")
        wait(page, "#lamp-connection", "Connected")
        wait(page, "#faults", "No fault")
        assert "Armed" not in page.text_content("#lamp-armed")
        page.click("#take", force=True)
        wait(page, "#notices", "Take control: not now, the console has not answered yet")
        sockets[-1].send(withheld[-1])
        wait(page, "#lamp-armed", "Armed")
        page.wait_for_function("() => document.querySelector('#take').dataset.why === ''")


def test_a_hand_back_that_nobody_heard_is_no_silent_one(browser: Any) -> None:
    """The page asks for some seconds; on a machine that stalled for longer the arm stayed with the person, unsaid."""
    with (
        console(drive_timeout_s=5.0, robot=robot_description("")) as (made, _),
        operators_page(browser, "Ada", "desk", PATIENT_MS) as page,
    ):
        for said in (safety(in_control="human"), session()):
            made.tell(said)
        page.goto(f"http://127.0.0.1:{made.port}/#token={TOKEN.reveal}")
        wait(page, "#lamp-control", "Person drives")
        page.click("#take")
        page.wait_for_selector("body.holds")
        page.keyboard.press("h")
        wait(page, "#notices", "The arm is not handed back")
        assert page.get_attribute("#hand-back", "aria-disabled") == "false"
        page.keyboard.press("h")
        made.tell(safety(in_control="policy"))
        wait(page, "#lamp-control", "Policy drives")
        assert page.get_attribute("#hand-back", "aria-disabled") == "true"


def test_a_target_of_long_ago_is_not_shown_as_what_is_commanded(browser: Any) -> None:
    """After a stop the page said for ever how far the last Target was, as if the arm were still sent there."""
    with (
        console(drive_timeout_s=5.0, robot=robot_description("")) as (made, _),
        operators_page(browser, "Ada", "desk", PATIENT_MS) as page,
    ):
        made.tell(m.Pose(JOINTS, 0.04, POSE, (0.6, *POSE[1:]), 0.05, 0.1))
        page.goto(f"http://127.0.0.1:{made.port}/#token={TOKEN.reveal}")
        wait(page, "#pose-text", "command 100 mm away")
        made.tell(m.Pose(JOINTS, 0.04, POSE, (0.6, *POSE[1:]), 0.05, 1.2))
        wait(page, "#pose-text", "nothing is commanded")


def test_a_page_that_moves_beneath_a_finger_moves_no_arm(browser: Any) -> None:
    """A line of text above the pads moved them away from the finger, which then asked for what nobody wanted."""
    sent: list[dict[str, Any]] = []
    with (
        console(drive_timeout_s=5.0, robot=robot_description("")) as (made, _),
        operators_page(browser, "Ada", "tablet", PATIENT_MS) as page,
    ):
        page.on("websocket", lambda socket: socket.on("framesent", lambda words: sent.append(json.loads(words))))
        for said in (safety(in_control="human"), session()):
            made.tell(said)
        page.goto(f"http://127.0.0.1:{made.port}/#token={TOKEN.reveal}")
        page.click("#take")
        page.wait_for_selector("body.holds")
        page.click("#drive")
        touch = page.context.new_cdp_session(page)

        def asked() -> list[list[float]]:
            return [message["motion"] for message in sent if message["kind"] == "drive"]

        def finger(kind: str, x: float, y: float) -> list[float]:
            """What the page asks for once it has seen this."""
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y, "id": 0}]})
            enough = len(asked()) + 3  # the next may be on its way already
            while len(asked()) < enough:
                page.wait_for_timeout(20)
            return asked()[-1]

        box = page.locator("#pad-zr").bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 4
        finger("touchStart", x, y)
        before = finger("touchMove", x, y + 1)
        assert before[2] > 0.1
        made.tell(safety(in_control="human", faults=(LONG,)))
        wait(page, "#faults", "position box")
        assert abs(page.locator("#pad-zr").bounding_box()["y"] - box["y"]) > 10
        assert finger("touchMove", x, y) == pytest.approx(before, abs=0.02)
