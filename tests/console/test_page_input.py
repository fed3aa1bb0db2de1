"""Pins: a page that moves the arm without a new press, or loses a press; above all a stop.

No graph: the page is told states, and what it sends is read. Gamepads are a list in the place of the browser's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from inril_core.console import messages as m
from inril_core.contract import load_contract
from tests.console.chromium import operators_page
from tests.console.made import TOKEN, console
from tests.console.test_page_look import PATIENT_MS, safety, session, wait

pytestmark = pytest.mark.timeout(1200)
STILL = [0.0] * 6
FAKES = """window.pads = []; window.looks = 0; window.focused = true;
Object.defineProperty(navigator, "getGamepads", { value: () => { window.looks += 1; return window.pads; } });
document.hasFocus = () => window.focused;"""
MEDIUM = 0.5
"""Of the full speed: as the page is opened."""


class Seat:
    """A page, what it sends, and who pressed a stop."""

    def __init__(self, made: Any, page: Any, stops: list[str]) -> None:
        self.made, self.page, self.stops = made, page, stops
        self._sent: list[dict[str, Any]] = []
        page.on("websocket", lambda socket: socket.on("framesent", self._keep))
        self._touch = page.context.new_cdp_session(page)
        self._down: dict[str, tuple[float, float]] = {}

    def _keep(self, words: Any) -> None:
        message = json.loads(words)
        if message["kind"] == "drive":
            self._sent.append(message)

    def says(self) -> dict[str, Any]:
        """What the page asks for once it has seen all that was done so far."""
        enough = len(self._sent) + 3  # the next may be on its way already
        while len(self._sent) < enough:
            self.page.wait_for_timeout(20)
        return self._sent[-1]

    @property
    def motion(self) -> list[float]:
        """As `says`."""
        return [float(value) for value in self.says()["motion"]]

    def drive(self) -> None:
        """Take the arm."""
        self.page.keyboard.press("g")
        self.page.wait_for_selector("body.driving")

    def fingers(self, **points: tuple[float, float]) -> None:
        """These fingers lie on the screen from here on, and no other; a finger keeps its name."""
        lifted = {name: place for name, place in self._down.items() if name not in points}
        if lifted:
            self._send("touchEnd", lifted)
        if points.keys() - self._down.keys():
            self._send("touchStart", points)
        elif points and not lifted:
            self._send("touchMove", points)
        self._down = points

    def _send(self, kind: str, points: Mapping[str, tuple[float, float]]) -> None:
        places = [{"x": x, "y": y, "id": ("a", "b").index(name)} for name, (x, y) in points.items()]
        self._touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    def place(self, selector: str, up: float = 0.0) -> tuple[float, float]:
        """The middle of an element, or above it by a share of half its height."""
        box = self.page.locator(selector).bounding_box()
        return box["x"] + box["width"] / 2, box["y"] + box["height"] * (1.0 - up) / 2

    def gamepads(self, *pads: dict[str, Any]) -> None:
        """What the browser finds; the page has seen it."""
        looks = self.page.evaluate("(pads) => { window.pads = pads; return window.looks; }", list(pads))
        self.page.wait_for_function("(looks) => window.looks > looks", arg=looks)


def gamepad(axes: tuple[float, ...] = (0.0,) * 4, buttons: tuple[int, ...] = (), **changes: Any) -> dict[str, Any]:
    pressed = [{"pressed": index in buttons} for index in range(17)]
    values = {"index": 0, "id": "pad", "connected": True, "mapping": "standard", "axes": list(axes)}
    return values | {"buttons": pressed} | changes


@contextmanager
def seat(browser: Any, size: str = "desk", task: str = "insert_leg", take: bool = True) -> Iterator[Seat]:
    """A page that has control, of an arm that a person has."""
    stops: list[str] = []

    def stop(by: str) -> tuple[bool, str]:
        stops.append(by)
        return True, "disarmed"

    with (
        console(stop, drive_timeout_s=5.0, contract=load_contract(task)) as (made, _),
        operators_page(browser, "Ada", size, PATIENT_MS) as page,
    ):
        page.add_init_script(FAKES)
        seated = Seat(made, page, stops)
        for said in (safety(in_control="human"), session()):
            made.tell(said)
        page.goto(f"http://127.0.0.1:{made.port}/#token={TOKEN.reveal}")
        wait(page, "#lamp-armed", "Armed")
        if take:
            page.click("#take")
            page.wait_for_selector("body.holds")
        yield seated


def until_stopped(seated: Seat) -> None:
    while not seated.stops:
        seated.page.wait_for_timeout(20)


def test_a_key_that_was_let_go_of_moves_nothing_by_repeating(browser: Any) -> None:
    """Pins: a page that got the focus back, or was driven again after a stop, and an arm that went on by itself."""
    with seat(browser) as ada:
        keys = ada.page.keyboard
        ada.drive()
        keys.down("w")
        assert ada.motion[0] == MEDIUM
        ada.page.evaluate("dispatchEvent(new Event('blur'))")
        keys.down("w")  # the key repeats
        assert ada.motion == STILL
        keys.up("w")
        keys.down("w")
        assert ada.motion[0] == MEDIUM
        keys.press("Space")
        ada.drive()
        keys.down("w")
        assert ada.motion == STILL and ada.says()["grab"]


def test_a_finger_or_a_stick_that_a_stop_has_ended_moves_nothing_when_the_arm_is_driven_again(browser: Any) -> None:
    with seat(browser, "tablet") as ada:
        ada.drive()
        x, y = ada.place("#pad-xy", up=0.6)
        ada.fingers(a=(x, y))
        ada.gamepads(gamepad((0.0, 0.0, 0.0, -0.8)))
        assert ada.motion[:3] == pytest.approx([0.3, 0.0, 0.0], abs=0.02)  # a stick that came deflected does not count
        ada.gamepads(gamepad())
        ada.gamepads(gamepad((0.0, 0.0, 0.0, -0.8)))
        assert ada.motion[:3] == pytest.approx([0.3, 0.0, 0.4], abs=0.02)
        ada.page.keyboard.press("Space")
        until_stopped(ada)
        ada.drive()
        ada.fingers(a=(x, y + 3.0))
        assert ada.motion == STILL
        ada.fingers()
        ada.fingers(a=(x, y))
        ada.gamepads(gamepad())
        ada.gamepads(gamepad((0.0, 0.0, 0.0, -0.8)))
        assert ada.motion[:3] == pytest.approx([0.3, 0.0, 0.4], abs=0.02)


def test_a_screen_that_is_turned_or_zoomed_lifts_the_fingers(browser: Any) -> None:
    with seat(browser, "tablet") as ada:
        ada.drive()
        x, y = ada.place("#pad-xy", up=0.6)
        ada.fingers(a=(x, y))
        assert ada.motion[0] == pytest.approx(0.3, abs=0.02)
        ada.page.set_viewport_size({"width": 768, "height": 1024})
        ada.fingers(a=(x, y - 2.0))
        assert ada.motion == STILL


def test_two_fingers_on_one_pad_are_one(browser: Any) -> None:
    with seat(browser, "tablet") as ada:
        ada.drive()
        a, b = ada.place("#pad-xy", up=0.6), ada.place("#pad-xy", up=-0.6)
        ada.fingers(a=a)
        ada.fingers(a=a, b=b)
        assert ada.motion[0] == pytest.approx(0.3, abs=0.02)
        ada.fingers(b=b)
        assert ada.motion == STILL
        ada.fingers(b=(b[0], b[1] + 2.0))
        assert ada.motion == STILL


def test_what_hides_a_keys_release_counts_as_one(browser: Any) -> None:
    """Pins: macOS tells no keyup while Command is held; an open menu or list takes it in the page's place."""
    with seat(browser) as ada:
        page, keys = ada.page, ada.page.keyboard
        ada.drive()
        for hide in (
            lambda: keys.press("Meta"),
            lambda: keys.press("AltGraph") or keys.press("Alt"),
            lambda: page.mouse.click(*ada.place("#holder"), button="right"),
            lambda: page.dispatch_event("#speed", "pointerdown"),
        ):
            keys.down("w")
            assert ada.motion[0] == MEDIUM
            hide()
            assert ada.motion == STILL
            keys.up("w")


def test_a_question_lets_go_and_a_stop_is_a_stop_there_too(browser: Any) -> None:
    """Pins: the key of the stop that pressed the question's button in its place."""
    with seat(browser) as ada:
        page = ada.page
        ada.drive()
        page.keyboard.down("w")
        assert ada.motion[0] == MEDIUM
        page.keyboard.press("3")
        page.wait_for_selector("#ask[open]")
        assert ada.motion == STILL
        page.focus("#ask-yes")
        page.keyboard.press("Space")
        until_stopped(ada)
        page.wait_for_selector("#ask", state="hidden")
        assert ada.says()["grab"] is False
        assert ada.made.asked.empty(), "nothing is discarded"


def test_keys_drive_wherever_the_speed_was_chosen(browser: Any) -> None:
    """Pins: F for down that chose the full speed, by its first letter, where the list had kept the focus."""
    with seat(browser) as ada:
        page = ada.page
        ada.drive()
        page.select_option("#speed", "0.25")
        page.keyboard.down("f")
        assert ada.motion[2] == -0.25
        page.keyboard.up("f")
        page.focus("#speed")
        page.keyboard.down("f")
        assert ada.motion[2] == -0.25
        page.keyboard.up("f")
        page.keyboard.press("ArrowDown")
        assert page.input_value("#speed") == "0.25"


def test_a_gamepad_asks_for_nothing_before_it_was_let_go_of(browser: Any) -> None:
    """Pins: the press with which a browser finds a gamepad takes the arm; one plugged in with its stick held drives."""
    with seat(browser) as ada:
        page = ada.page
        ada.gamepads(gamepad(buttons=(0,)))
        assert not ada.says()["grab"]
        ada.gamepads(gamepad())
        ada.gamepads(gamepad(buttons=(0,)))
        assert ada.says()["grab"]
        ada.gamepads(gamepad((0.0, -1.0, 0.0, 0.0)))
        assert ada.motion[0] == MEDIUM
        ada.gamepads()
        assert ada.motion == STILL
        ada.gamepads(gamepad((0.0, -1.0, 0.0, 0.0)))
        assert ada.motion == STILL
        assert "let go of its sticks" in page.text_content("#gamepad")
        ada.gamepads(gamepad((0.1, 0.1, -0.1, 0.1)))  # within the dead zone
        ada.gamepads(gamepad((0.0, -1.0, 0.0, 0.0)))
        assert ada.motion[0] == MEDIUM
        ada.gamepads(gamepad((float("nan"), -1.0)))
        assert ada.says()["motion"] == [MEDIUM, 0, 0, 0, 0, 0], "what is no number is no motion, and not sent"


def test_a_gamepad_drives_the_page_that_has_the_focus_and_no_other(browser: Any) -> None:
    """Pins: one gamepad, the pages of two arms side by side, and both arms that moved."""
    with seat(browser) as ada:
        ada.drive()
        ada.gamepads(gamepad())
        ada.gamepads(gamepad((0.0, -1.0, 0.0, 0.0)))
        assert ada.motion[0] == MEDIUM
        ada.page.evaluate("() => { window.focused = false; }")
        assert ada.motion == STILL
        ada.gamepads(gamepad((0.0, -1.0, 0.0, 0.0), buttons=(1,)))
        assert ada.says()["release"] is False, "nor does it hand back"
        ada.page.evaluate("() => { window.focused = true; }")
        assert ada.motion == STILL
        ada.gamepads(gamepad())
        ada.gamepads(gamepad((0.0, -1.0, 0.0, 0.0)))
        assert ada.motion[0] == MEDIUM


def test_of_two_gamepads_the_one_that_was_pressed_last_drives_alone(browser: Any) -> None:
    with seat(browser) as ada:
        first, second = gamepad((0.0, -1.0, 0.0, 0.0), id="drifts"), gamepad(index=1)
        ada.gamepads(first, second)
        assert ada.motion == STILL
        ada.gamepads(first, gamepad(index=1, buttons=(0,)))
        ada.gamepads(first, second)
        ada.gamepads(first, gamepad((1.0, 0.0, 0.0, 0.0), index=1))
        assert ada.motion == [0, -MEDIUM, 0, 0, 0, 0]
        assert "pad" in ada.page.text_content("#gamepad")
        ada.gamepads(gamepad(mapping=""))
        wait(ada.page, "#gamepad", "not of the standard layout, not used")


@pytest.mark.parametrize("connected", [True, False])
def test_every_gamepad_stops_the_arm_also_from_a_page_that_only_watches(browser: Any, connected: bool) -> None:
    with seat(browser, take=False) as ada:
        ada.gamepads(gamepad(), gamepad(index=1))
        if not connected:
            ada.page.route("**/stop", lambda route: route.fulfill(json={"success": True, "message": "by HTTP"}))
            ada.made.close()
            wait(ada.page, "#banner", "Connection lost")
        ada.gamepads(gamepad(), gamepad(index=1, buttons=(8,)))
        if connected:
            until_stopped(ada)
        else:
            wait(ada.page, "#notices", "STOP: by HTTP")


def test_a_second_finger_stops_and_works_the_gripper_while_the_first_one_drives(browser: Any) -> None:
    """Pins: a browser makes no click of a finger while another one lies on a pad."""
    with seat(browser, "tablet", task="one_leg_low") as ada:
        ada.drive()
        finger = ada.place("#pad-xy", up=0.6)
        ada.fingers(a=finger)
        for button, number in (("#gripper-close", 1), ("#gripper-open", -1)):
            ada.fingers(a=finger, b=ada.place(button))
            ada.fingers(a=finger)
            said = ada.says()
            assert said["gripper"] == number and said["motion"][0] == pytest.approx(0.3, abs=0.02)
        ada.fingers(a=finger, b=ada.place("#stop"))  # at once: the finger need not come up
        until_stopped(ada)
        assert not ada.says()["grab"]


def test_what_was_asked_of_the_gripper_ends_with_the_episode(browser: Any) -> None:
    """Pins: a gripper that closes by itself where the next episode begins."""
    with seat(browser, task="one_leg_low") as ada:
        page = ada.page
        page.keyboard.press("c")
        wait(page, "#notices", "Close: not now, you do not drive")
        ada.drive()
        assert ada.says()["gripper"] is None
        page.keyboard.press("c")
        assert ada.says()["gripper"] == 1
        ada.made.tell(session("resetting", episode_id=""))
        wait(page, "#lamp-session", "Cell is laid out")
        assert ada.says()["gripper"] is None
        ada.made.tell(session(episode_id="run-1-000013"))
        wait(page, "#lamp-session", "Episode runs")
        assert ada.says() | {"seq": 0, "beat": 0} == {
            **{"kind": "drive", "seq": 0, "beat": 0, "motion": STILL, "gripper": None, "grab": True, "release": False}
        }


def test_a_page_that_was_not_opened_yet_says_that_its_stop_does_nothing(browser: Any) -> None:
    with console() as (made, _), operators_page(browser, "Ada", "desk", PATIENT_MS) as page:
        page.goto(f"http://127.0.0.1:{made.port}/")  # without a token
        page.wait_for_selector("#who[open]")
        page.fill("#token", "a b")
        page.press("#token", "Space")
        assert page.input_value("#token") == "a b "
        page.dispatch_event("#stop", "pointerdown")
        wait(page, "#banner", "STOP FAILED: this page has not been opened")


def test_a_hand_back_with_a_key_down_is_no_grab_and_no_motion(browser: Any) -> None:
    with seat(browser) as ada:
        keys = ada.page.keyboard
        ada.drive()
        keys.down("w")
        keys.press("h")
        said = ada.says()
        assert said["release"] and not said["grab"] and said["motion"] == STILL
        ada.made.tell(safety(in_control="policy"))
        wait(ada.page, "#lamp-control", "Policy drives")
        ada.drive()
        keys.down("w")  # it repeats
        assert ada.motion == STILL


def test_a_word_is_no_motion(browser: Any) -> None:
    """The keys of the session, with a key of the arm down."""
    with seat(browser) as ada:
        ada.drive()
        ada.page.keyboard.down("w")
        ada.page.keyboard.press("1")
        assert ada.made.asked.get(timeout=60.0).message == m.SessionWord("success", "run-1-000012")
        assert ada.motion[0] == MEDIUM


def test_a_stop_that_nobody_answers_is_said_to_have_failed(browser: Any) -> None:
    """Pins: a network that swallows everything, and a person who takes the arm for stopped."""
    with seat(browser) as ada:
        ada.page.route("**/stop", lambda route: None)
        ada.page.click("#stop")
        wait(ada.page, "#banner", "STOP FAILED: the console does not answer")
