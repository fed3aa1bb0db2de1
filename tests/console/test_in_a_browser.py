"""Pins: a page that drives no arm, or one that drives on when nobody is there. Real nodes, driven by Chromium.

One run, in the order of a person's day; `INRIL_PICTURES=docs/assets` keeps the pictures of docs/console.md.
On a machine that stalls the arm holds with a fault, as it must: whoever is at the page then does what a person does,
and looks, arms and drives again. What the arm must never do is looked at in stretches without a fault.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from inril_core.console.access import load_or_create_token
from inril_core.contract import load_contract
from inril_core.policies import save_policy
from inril_core.policies.gaussian import Config
from inril_core.vocabulary import Source
from tests.console.cell import OneProcess
from tests.console.chromium import operators_page, save_picture
from tests.console.test_page_look import all_on_screen
from tests.graph.harness import patient_contract

pytestmark = pytest.mark.timeout(2400)
PATIENT_MS = 300_000
PRESS_MS = 20_000
STALL_S = 60.0
"""The machine may stand still for so long; what a page may is bounded by the device (5 s)."""
ATTEMPTS_N = 20
KEEP_NOTICES = """window.noticesSaid = [];
new MutationObserver((changes) => { for (const change of changes) for (const item of change.addedNodes)
  if (item.parentElement?.id === "notices") window.noticesSaid.push(item.textContent); })
  .observe(document, { childList: true, subtree: true });"""
"""A notice goes after some seconds, and the test may look later."""
Page = Any
Wish = Callable[[Page], bool]


def contract_with_pictures(folder: Path) -> Path:
    """insert_leg with its camera in every episode, and episodes longer than any test."""
    contract = yaml.safe_load(patient_contract(folder).read_text())
    contract["images"][0] |= {"recorded_in": ["demo", "train", "eval"], "width_px": 320, "height_px": 240}
    contract["episode_length_steps"] = 5000
    slow = ("robot_state_s", "part_poses_s", "policy_action_s", "target_s", "monitor_s", "session_s")
    contract["staleness"] |= dict.fromkeys(slow, STALL_S)
    path = folder / "pictures.yaml"
    path.write_text(yaml.safe_dump(contract))
    return path


def still_policy(contract_path: Path, path: Path, seed: int = 0) -> None:
    """A policy that hardly moves: it holds the leg where it is."""
    contract = load_contract(contract_path)
    torch.manual_seed(seed)
    policy = Config(hidden=(8,)).build(contract.observation_size, contract.action_size)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(0.01)
    save_policy(path, policy, {"interface_digest": contract.interface_digest, "contract_text": contract.text})


class Desk:
    """The nodes and the pages of their operators."""

    def __init__(self, graph: OneProcess, browser: Any) -> None:
        self.graph, self._browser = graph, browser
        token = load_or_create_token(graph.paths.console_token)
        self._address = f"http://127.0.0.1:{graph.port}/#token={token.reveal}"
        self._pictures = os.environ.get("INRIL_PICTURES")
        self._sees_to_it: Callable[[], bool] = lambda: True

    @contextmanager
    def page(self, name: str, size: str = "desk") -> Iterator[Page]:
        with operators_page(self._browser, name, size, PATIENT_MS) as page:
            page.add_init_script(KEEP_NOTICES)
            page.goto(self._address)
            self.shows(page, "#lamp-connection", "Connected")
            yield page

    @contextmanager
    def keeps(self, wish: Wish, page: Page) -> Iterator[None]:
        """Meanwhile whoever is at the page sees to it that it stays so, whatever the machine does."""
        self._sees_to_it = lambda: wish(page)
        try:
            self.until(lambda: True, "what the operator wishes")
            yield
        finally:
            self._sees_to_it = lambda: True

    def until(self, condition: Callable[[], Any], what: str) -> None:
        """Wait until it is as the operator wishes, and the condition holds."""
        self.graph.until(lambda: self._sees_to_it() and condition(), what, PATIENT_MS / 1000)

    def shows(self, page: Page, where: str, text: str) -> None:
        """Wait until the page says it; the graph's messages are heard meanwhile."""
        self.until(lambda: text in (page.text_content(where) or ""), f"{text!r} in {where}")

    def said(self, page: Page, text: str) -> bool:
        """The page has shown a notice with this text."""
        return any(text in notice for notice in page.evaluate("window.noticesSaid"))

    def errors(self, page: Page) -> int:
        """How many errors the page has shown."""
        return sum(notice.startswith("✗") for notice in page.evaluate("window.noticesSaid"))

    def press(self, page: Page, button: str) -> None:
        """Press what may be gone or off by now."""
        from playwright.sync_api import Error  # not on every machine

        with suppress(Error):
            page.click(button, force=True, timeout=PRESS_MS)

    def works(self, page: Page, button: str) -> bool:
        return page.get_attribute(button, "aria-disabled") == "false"

    def says_no(self, page: Page, button: str, why: str) -> None:
        """A button that does not work tells whoever presses it why."""

        def told() -> bool:
            assert page.get_attribute(button, "aria-disabled") == "true"
            page.click(button, force=True)
            return self.said(page, why)

        self.until(told, f"the notice {why!r}")

    def has_control(self, page: Page) -> bool:
        """The page has control; else it is taken."""
        if page.locator("body.holds").count():
            return True
        if page.is_visible("#ask"):
            self.press(page, "#ask-yes")
        elif self.works(page, "#take"):
            self.press(page, "#take")
        return False

    def armed(self, page: Page) -> bool:
        """The page has control and the arm is armed without a fault; else that is seen to."""
        if not self.has_control(page):
            return False
        said = self.graph.status("arbiter")
        if said and said.armed and not said.faults:
            return True
        if self.works(page, "#arm"):
            self.press(page, "#arm")
        return False

    def drives(self, page: Page) -> bool:
        """The page drives; else that is seen to."""
        if not self.armed(page):
            return False
        taken = self.graph.status("arbiter").in_control == Source.HUMAN
        if taken and page.locator("body.driving").count():
            return True
        if self.works(page, "#drive"):
            page.keyboard.press("g")
        return False

    def hands_back(self, page: Page) -> bool:
        """The policy drives; else the arm is handed back to it."""
        if not self.armed(page):
            return False
        if self.graph.status("arbiter").in_control == Source.POLICY:
            return True
        if self.works(page, "#hand-back"):
            page.keyboard.press("h")
        return False

    def x_m(self) -> float:
        return float(self.graph.status("robot").tool_pose.position.x)

    def push(self, page: Page, key: str, sign: float) -> None:
        """Hold a key until the arm has moved by 15 mm."""
        start_m = None

        def moved() -> bool:
            nonlocal start_m
            if not self.drives(page):
                start_m = None
            elif start_m is None:
                start_m = self.x_m()
                page.keyboard.up(key)
                page.keyboard.down(key)
            return start_m is not None and sign * (self.x_m() - start_m) > 0.015

        self.until(moved, f"motion by {key}")
        page.keyboard.up(key)

    def picture(self, page: Page, name: str) -> None:
        if self._pictures:
            save_picture(page, Path(self._pictures) / f"{name}.png")


@pytest.fixture
def desk(browser: Any, tmp_path: Path) -> Iterator[Desk]:
    contract = contract_with_pictures(tmp_path)
    still_policy(contract, tmp_path / "still.inril")
    with OneProcess(tmp_path, contract=str(contract), initial_weights=str(tmp_path / "still.inril")) as graph:
        graph.until(lambda: graph.status("session") and graph.status("robot"), "session and arm")
        yield Desk(graph, browser)


def test_a_person_takes_over_labels_hands_back_loses_the_connection_and_stops(desk: Desk) -> None:
    graph = desk.graph
    with desk.page("Ada") as ada, desk.page("Bob", "tablet") as bob:
        desk.shows(ada, "#lamp-armed", "Not armed")
        desk.says_no(ada, "#arm", "take control first")
        assert not graph.status("arbiter").armed, "a page without control arms"
        desk.until(lambda: desk.has_control(ada), "a page that has control")
        desk.shows(bob, "#holder", "Ada has control")
        desk.says_no(bob, "[data-word=success]", "Ada has control; take control first")
        with desk.keeps(desk.armed, ada):
            desk.shows(ada, "#lamp-session", "Episode runs (train)")
            desk.shows(ada, "#lamp-control", "Policy drives")
            desk.shows(ada, "#cameras figcaption", "s old")
            desk.until(lambda: ada.evaluate("document.querySelector('#cameras img').naturalWidth") == 320, "a picture")

        desk.push(ada, "w", 1.0)
        with desk.keeps(desk.drives, ada):
            desk.shows(ada, "#lamp-control", "Person drives")
            desk.shows(ada, "#drive-text", "You drive")
            ada.keyboard.down("s")
            all_on_screen(ada, "#cameras img", "#drive", "[data-word=success]", "[data-word=ready]", "#stop")
            desk.picture(ada, "console_drive")
            ada.keyboard.up("s")

        holds_without_the_focus(desk, ada)

        said: set[tuple[str, int]] = set()

        def labelled() -> bool:
            if any(r.success and r.valid and r.source == "Ada" for r in graph.results()):
                return True
            now = graph.status("session").episode_id, desk.errors(ada)
            if now not in said and desk.works(ada, "[data-word=success]"):
                said.add(now)  # again for another episode, or where the page said that it failed
                ada.keyboard.press("1")
            return False

        with desk.keeps(desk.drives, ada):
            desk.until(labelled, "a success by Ada")
            # the person keeps the arm over the next episode's beginning, and hands it back
            desk.shows(ada, "#lamp-session", "Episode runs (train)")
        with desk.keeps(desk.hands_back, ada):
            desk.shows(ada, "#lamp-control", "Policy drives")

        # the other operator relieves the first, who is told
        desk.until(lambda: desk.has_control(ada), "a page that has control")
        desk.until(lambda: desk.has_control(bob), "a page that has control")
        desk.until(lambda: desk.said(ada, "Bob has taken control from you"), "a page that is told")
        desk.says_no(ada, "#drive", "Bob has control")
        with desk.keeps(desk.drives, bob):
            all_on_screen(bob, "#pad-xy", "#pad-zr", "#pad-tilt", "[data-word=success]", "[data-word=ready]", "#stop")
            desk.shows(bob, "#lamp-control", "Person drives")
            desk.picture(bob, "console_tablet")
        desk.push(bob, "s", -1.0)

        # Bob's page is gone while it drives: the arm holds, and the policy does not take it
        before = len(graph.sources)
        bob.keyboard.down("s")
        bob.context.close()
        desk.until(lambda: "teleop_lost" in graph.status("arbiter").faults, "teleop_lost")
        assert Source.POLICY not in graph.sources[before:]
        desk.shows(ada, "#holder", "Bob has control, but that page is gone")
        desk.shows(ada, "#faults", "teleop lost")
        desk.picture(ada, "console_lost")

        # Ada takes over, looks, arms; the session is silent, and the stop still stops
        desk.until(lambda: desk.armed(ada), "an armed arbiter")
        graph.silence_session()
        desk.shows(ada, "#lamp-session", "Session not heard")
        ada.keyboard.press("Space")
        desk.until(lambda: not graph.status("arbiter").armed, "a disarmed arbiter")
        desk.shows(ada, "#lamp-armed", "ot armed")  # with a fault or without
        desk.picture(ada, "console_stopped")


def holds_without_the_focus(desk: Desk, page: Page) -> None:
    """A page without the focus holds: the key is never let go."""
    graph = desk.graph
    for _ in range(ATTEMPTS_N):
        desk.until(lambda: desk.drives(page), "a page that drives")
        faults = graph.faults
        page.keyboard.down("s")
        page.evaluate("dispatchEvent(new Event('blur'))")
        still_m = settled(desk)
        heard = graph.targets
        desk.until(
            lambda heard=heard, faults=faults: graph.targets > heard + 10 or graph.faults > faults, "ten targets"
        )
        moved_m, control = abs(desk.x_m() - still_m), graph.status("arbiter").in_control
        page.keyboard.up("s")
        if graph.faults == faults:
            assert moved_m < 0.002
            assert control == Source.HUMAN
            return
    raise AssertionError(f"a fault in each of {ATTEMPTS_N} stretches: {graph.status('arbiter').details}")


def settled(desk: Desk) -> float:
    """The tool's x once it stands still over 15 states."""
    last, count = desk.x_m(), 0

    def stands() -> bool:
        nonlocal last, count
        now = desk.x_m()
        count = count + 1 if abs(now - last) < 1e-4 else 0
        last = now
        return count > 15

    deadline = time.monotonic() + PATIENT_MS / 1000
    while not stands():
        assert time.monotonic() < deadline
        heard = desk.graph.status("robot").seq
        desk.until(lambda heard=heard: desk.graph.status("robot").seq > heard, "a state")
    return last
