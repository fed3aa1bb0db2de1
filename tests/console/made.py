"""A console without a graph: what the node would do is recorded."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from inril_core.console import messages as m
from inril_core.console.access import Access, Token
from inril_core.console.console import Console, ConsoleFacts
from inril_core.console.driving import PersonInput
from inril_core.console.pages import Page, Pages
from inril_core.contract import Contract, load_contract

TOKEN = Token("t" * 32)
SECOND = 1_000_000_000


def facts(
    drive_timeout_s: float = 0.3, contract: Contract | None = None, robot: str = "", device: str = "browser"
) -> ConsoleFacts:
    return ConsoleFacts(contract or load_contract("insert_leg"), "", "run", device, drive_timeout_s, robot)


class Bench:
    """`Pages` with a clock of its own."""

    def __init__(self, contract: Contract | None = None) -> None:
        self.now_ns = SECOND
        self.driven: list[PersonInput] = []
        self.asked: list[Any] = []
        self.pages = Pages(0.3, self.driven.append, self.asked.append, facts(contract=contract).welcome)
        self.seq = 0

    def page(self, name: str = "Ada") -> Page:
        page = self.pages.join("s", self.now_ns)
        self.say(page, m.Hello(name))
        return page

    def say(self, page: Page, message: Any) -> None:
        self.pages.hear(page, json.dumps(asdict(message)), self.now_ns)

    def beat(self) -> int:
        """Let a beat be sent; its number."""
        self.now_ns += 60_000_000
        self.pages.tick(self.now_ns)
        return self.newest_beat()

    def newest_beat(self) -> int:
        return self.pages._beats.newest

    def drive(self, page: Page, beat: int, seq: int | None = None, **changes: Any) -> None:
        self.seq = self.seq + 1 if seq is None else seq
        values = {"motion": [0.5, 0, 0, 0, 0, 0], "gripper": None, "grab": True, "release": False, **changes}
        self.say(page, m.Drive(self.seq, beat, **values))

    def take(self, page: Page, from_id: str = "") -> None:
        self.say(page, m.TakeControl(from_id))

    def heard(self, page: Page) -> list[dict[str, Any]]:
        """What the page was sent and has not read yet."""
        found = []
        while (thing := page.outbox.take()) is not None:
            if isinstance(thing, str):
                found.append(json.loads(thing))
        return found


@contextmanager
def console(
    stop: Any = lambda by: (True, f"disarmed by {by}"), **changes: Any
) -> Iterator[tuple[Console, threading.Event]]:
    """A console that listens on a free port; the event is set when a page asks something."""
    woken = threading.Event()
    made = Console("127.0.0.1", 0, Access(TOKEN), facts(**changes), stop, woken.set)
    try:
        yield made, woken
    finally:
        made.close()
