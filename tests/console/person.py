"""A person at the console's page: sees what the page is told, and acts with fingers and keys alone.

The eyes are the messages that the page gets, the hands touch events and keys of the browser. How to move is decided by
the task's scripted expert, at half its speed, from what the page says of the observation: a program cannot judge the
camera's picture as a person does.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from inril_core.contract import Contract
from inril_core.experts.scripted.base import scripted_expert
from inril_core.experts.watcher import Watcher

TREMOR = 0.03
"""Standard deviation of a finger's place, of the pad's radius."""
PADS = {"pad-xy": (0, 1, -1.0), "pad-zr": (2, 5, -1.0), "pad-tilt": (4, 3, 1.0)}
"""For each pad: the number of the action that up moves, the one that right moves, and the sign of right."""


class Eyes:
    """The newest message of each kind that the page was sent."""

    def __init__(self, page: Any) -> None:
        self.newest: dict[str, dict[str, Any]] = {}
        self.notices: list[str] = []
        page.on("websocket", lambda socket: socket.on("framereceived", self._see))

    def _see(self, payload: str | bytes) -> None:
        if isinstance(payload, bytes):
            return
        message = json.loads(payload)
        self.newest[message["kind"]] = message
        if message["kind"] == "notice":
            self.notices.append(f"{message['level']}: {message['text']}")

    def __getitem__(self, kind: str) -> dict[str, Any]:
        return self.newest.get(kind, {})


class Person:
    """Takes control, arms after a look, drives, takes over where the policy is stuck, and hands back afterwards."""

    def __init__(self, page: Any, contract: Contract, seed: int = 0) -> None:
        self.page, self.eyes = page, Eyes(page)
        self._expert = scripted_expert(contract)
        self._watcher = Watcher(contract)
        self._rng = np.random.default_rng(seed)
        self._touch = page.context.new_cdp_session(page)
        self._places: dict[str, tuple[float, float, float]] = {}
        self._fingers: dict[str, tuple[float, float]] = {}
        self._seen: tuple[str, int] = ("", -1)
        self.takeovers = 0

    @property
    def drives(self) -> bool:
        """The page drives for this person."""
        return bool(self.page.locator("body.driving").count())

    def look_after(self) -> bool:
        """Have control and an armed arm, and then no 3-D view; True: all are so. One attempt a call."""
        page, safety = self.page, self.eyes["safety"]
        if not page.locator("body.holds").count():
            if page.locator("#take[aria-disabled=false]:visible").count() and not page.is_visible("#ask"):
                page.click("#take", force=True)
            if page.is_visible("#ask"):
                page.click("#ask-yes", force=True)
            return False
        if not safety or not safety["heard"]:
            return False
        if safety["armed"] and not safety["faults"] and not safety["needs_rearm"]:
            if page.locator("#view-on:checked").count():  # without a GPU it takes half a processor
                page.uncheck("#view-on", force=True)
            return True
        self.lift()
        asked_for = "`inril arm`" in self.eyes["session_state"].get("waiting_for", "")
        if not (asked_for or safety["armed"]):  # the graph is not up yet, or an episode just ends
            return False
        if page.locator("#arm[aria-disabled=false]").count() and page.text_content("#arm") == "Arm":
            page.click("#arm", force=True)  # it may be armed meanwhile
        return False

    def demonstrate(self) -> None:
        """Drive each episode to its end."""
        if self.look_after():
            self._drive(True)

    def correct(self) -> None:
        """Watch; take over where nothing gets better, drive to the end of the episode, hand back."""
        if not self.look_after():
            return
        said = self.eyes["observed"]
        runs = self.eyes["session_state"].get("state") == "running"
        if self.drives:
            if runs and said.get("episode_id") == self._mine:
                self._drive(False)
            else:
                self.lift()
                self.page.keyboard.press("h")
        elif runs and said and self.eyes["safety"]["in_control"] == "policy" and self._stuck(said):
            self._mine = said["episode_id"]
            self.takeovers += 1
            self._drive(True)
        elif self.eyes["safety"]["in_control"] == "human":  # a fault ended the page's driving and left the arm with us
            self.page.keyboard.press("h")

    _mine = ""

    def _stuck(self, said: dict[str, Any]) -> bool:
        """Whether this is where a person takes over."""
        if (said["episode_id"], said["step"]) == self._seen or None in said["values"]:
            return False
        if said["episode_id"] != self._seen[0]:
            self._watcher.reset()
        self._seen = said["episode_id"], said["step"]
        return self._watcher.would_take_over(np.array(said["values"]), said["step"])

    def _drive(self, take: bool) -> None:
        if take and not self.drives and self.page.locator("#drive[aria-disabled=false]").count():
            self.lift()  # fingers from before move nothing
            self.page.keyboard.press("g")
        said = self.eyes["observed"]
        runs = self.eyes["session_state"].get("state") == "running"
        if not runs or not said or None in said["values"] or not self.drives:
            self.lift()
            return
        if (said["episode_id"], said["step"]) == self._seen:
            return
        before, self._seen = self._seen, (said["episode_id"], said["step"])
        if said["episode_id"] != before[0]:
            self.lift()  # and touches anew at the next step
            return
        values = np.array(said["values"], np.float32)
        action = self._expert.act(values)
        if self._watcher.calls_it_failed(values, action):
            self.lift()
            self.page.keyboard.press("2")
            return
        self._put(action)

    def _put(self, action: np.ndarray) -> None:
        """A finger on each pad, where it asks for this action."""
        places = self._places or {name: self._place(name) for name in PADS}
        self._places = places
        wanted: dict[str, tuple[float, float]] = {}
        for name, (up, right, sign) in PADS.items():
            x, y, reach = places[name]
            across, along = np.clip([sign * action[right], action[up]] + TREMOR * self._rng.standard_normal(2), -1, 1)
            wanted[name] = x + across * reach, y - along * reach
        if not self._fingers:  # down in the middle, so that the first touch asks for nothing
            self._send("touchStart", {name: places[name][:2] for name in PADS})
        self._send("touchMove", wanted)

    def lift(self) -> None:
        """No finger is on the page."""
        if self._fingers:
            self._send("touchEnd", {})
            self._places = {}

    def _send(self, kind: str, fingers: dict[str, tuple[float, float]]) -> None:
        points = [{"x": x, "y": y, "id": list(PADS).index(name)} for name, (x, y) in fingers.items()]
        self._touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        self._fingers = fingers

    def _place(self, name: str) -> tuple[float, float, float]:
        box = self.page.locator(f"#{name}").bounding_box()
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, box["width"] / 2
