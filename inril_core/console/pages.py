"""The pages that are connected, and the one among them that has control."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from inril_core.console import messages as m
from inril_core.console.driving import Beats, Driving, PersonInput
from inril_core.console.outbox import Outbox
from inril_core.console.rates import Bucket

MAX_PAGES = 16
MESSAGES_HZ, MESSAGES_BURST = 150.0, 300
"""More than any page of ours sends; what goes beyond ends its connection."""
ASKS_HZ, ASKS_BURST = 5.0, 20
"""Of everything but driving, beats and pictures: each ends in a call to the graph."""

_NEEDS_CONTROL = (m.SessionWord, m.ArmAgain, m.RollBackTo, m.Unpin, m.Label)


class PageRefused(Exception):
    """This page cannot be served: the connection ends with this reason."""


@dataclass
class Page:
    """One connected page."""

    client_id: str
    bucket: Bucket
    asks: Bucket
    driving: Driving
    name: str = ""
    """Empty before its Hello."""
    outbox: Outbox = field(default_factory=Outbox)
    wake: Callable[[], None] = lambda: None
    """Called when there is something to send."""


@dataclass(frozen=True)
class Asked:
    """Something a page asks of the graph."""

    client_id: str
    by: str
    message: Any


class Pages:
    """Who is there, who has control, and what each may ask. Times are monotonic nanoseconds. One thread calls it.

    One page has control: it drives, labels and arms. Another one takes it by naming the holder it means to relieve, so
    two that press at once do not take it from each other unseen; both are told. Every page may stop the arm.
    Control stays with a page that has lost its connection until somebody takes it.

    Args:
        drive_timeout_s: see `Driving`.
        on_drive: gets what the person who has control does.
        on_ask: gets what a page asks of the graph.
        welcome: the first message to a page, from its id and its operator's name.
    """

    def __init__(
        self,
        drive_timeout_s: float,
        on_drive: Callable[[PersonInput], None],
        on_ask: Callable[[Asked], None],
        welcome: Callable[[str, str], m.Welcome],
    ) -> None:
        self._timeout_s = drive_timeout_s
        self._on_drive, self._on_ask, self._welcome = on_drive, on_ask, welcome
        self._pages: dict[str, Page] = {}
        self._states: dict[str, tuple[m.ToPage, str]] = {}
        self._beats = Beats()
        self._made = 0
        self._holder: tuple[str, str] | None = None
        self._taken_from = ""
        self._changes = 0
        self._late_told_ns = 0

    def __len__(self) -> int:
        return len(self._pages)

    @property
    def all(self) -> list[Page]:
        """Every connected page."""
        return list(self._pages.values())

    @property
    def wanting_frames(self) -> list[Page]:
        """Pages that could take a picture now."""
        return [page for page in self._pages.values() if page.name and page.outbox.wants_frames]

    def join(self, secret: str, now_ns: int) -> Page:
        """A page has connected. secret: makes its id hard to guess.

        Raises:
            PageRefused: too many are connected.
        """
        if len(self._pages) >= MAX_PAGES:
            raise PageRefused(f"{MAX_PAGES} pages are connected already; close one")
        self._made += 1
        client_id = f"{self._made}-{secret}"
        page = Page(
            client_id,
            Bucket(MESSAGES_HZ, MESSAGES_BURST, now_ns),
            Bucket(ASKS_HZ, ASKS_BURST, now_ns),
            Driving(client_id, "", self._timeout_s),
        )
        self._pages[client_id] = page
        return page

    def leave(self, page: Page) -> None:
        """Its connection has ended. If it drove, the arm holds at once; the silence that follows is a lost device."""
        if self._pages.pop(page.client_id, None) is not None:
            self._end_driving(page)
            self._tell_control()

    def tell(self, message: m.ToPage) -> None:
        """Tell every page; of a state, also those that come later."""
        text = message.encode()
        if message.newest_wins:
            if message.key in self._states and self._states[message.key][1] == text:
                return
            self._states[message.key] = message, text
        for page in self._pages.values():
            if page.name:
                page.outbox.put(message, text)
                page.wake()

    def answer(self, client_id: str, message: m.ToPage) -> None:
        """Tell one page, if it is still there."""
        page = self._pages.get(client_id)
        if page is not None:
            page.outbox.put(message)
            page.wake()

    def tick(self, now_ns: int) -> None:
        """Call it some 50 times a second: sends the beats."""
        if self._beats.due(now_ns):
            beat = m.Beat(self._beats.newest)
            text = beat.encode()
            for page in self._pages.values():
                if page.name:
                    page.outbox.put(beat, text)
                    page.wake()

    def hear(self, page: Page, text: str, now_ns: int) -> None:
        """A page's message.

        Raises:
            PageRefused: it sends too much, or what no page of ours sends.
        """
        if not page.bucket.take(now_ns):
            raise PageRefused(f"more than {MESSAGES_HZ:g} messages a second")
        try:
            message = m.read(text)
        except m.BadMessage as error:
            raise PageRefused(f"a message that cannot be read: {error}") from error
        if isinstance(message, m.Hello):
            self._greet(page, message)
        elif isinstance(message, m.Stop):  # also from a page that has not said its name
            self._on_ask(Asked(page.client_id, page.name or "a page", message))
        elif not page.name:
            raise PageRefused("the first message must be hello")
        elif isinstance(message, m.Drive):
            self._drive(page, message, now_ns)
        elif isinstance(message, m.FrameShown):
            page.outbox.shown(message.frame_id)
        elif not page.asks.take(now_ns):
            self._refuse(page, message, "too many requests at once; wait a moment")
        elif isinstance(message, m.TakeControl):
            self._take_control(page, message)
        elif isinstance(message, m.GiveUpControl):
            if self._has_control(page):
                self._hand_to(None)
        elif isinstance(message, _NEEDS_CONTROL) and not self._has_control(page):
            self._refuse(page, message, f"not done: {self._holder_words()}")
        else:
            self._on_ask(Asked(page.client_id, page.name, message))

    def _greet(self, page: Page, hello: m.Hello) -> None:
        if page.name:
            raise PageRefused("hello came twice")
        page.name = hello.name
        page.driving = Driving(page.client_id, hello.name, self._timeout_s)
        page.outbox.put(self._welcome(page.client_id, hello.name))
        self._tell_control()
        for message, text in self._states.values():
            page.outbox.put(message, text)
        page.wake()

    def _drive(self, page: Page, drive: m.Drive, now_ns: int) -> None:
        if not self._has_control(page):
            return  # it was taken a moment ago, and its page is told
        said = page.driving.judge(drive, self._beats.age_s(drive.beat, now_ns))
        if isinstance(said, PersonInput):
            self._on_drive(said)
        elif said and drive.grab and now_ns - self._late_told_ns > 1_000_000_000:
            self._late_told_ns = now_ns
            self._refuse(page, drive, said)

    def _take_control(self, page: Page, asked: m.TakeControl) -> None:
        holder_id = "" if self._holder is None else self._holder[0]
        if holder_id == page.client_id:
            return
        if asked.from_id != holder_id:
            self._refuse(page, asked, f"not taken: {self._holder_words()}; look again, then take control")
            return
        self._hand_to(page)

    def _hand_to(self, page: Page | None) -> None:
        before = self._holder
        driver = None if before is None else self._pages.get(before[0])
        if driver is not None:
            self._end_driving(driver)
        self._holder = None if page is None else (page.client_id, page.name)
        self._taken_from = "" if before is None or page is None else before[1]
        self._changes += 1
        if before is not None and page is not None:
            text = f"{page.name} has taken control from you. You only watch; the arm holds if you were driving."
            self.answer(before[0], m.Notice("warning", text))
        self._tell_control()

    def _end_driving(self, page: Page) -> None:
        last = page.driving.end()
        if last is not None:
            self._on_drive(last)

    def _has_control(self, page: Page) -> bool:
        return self._holder is not None and self._holder[0] == page.client_id

    def _holder_words(self) -> str:
        if self._holder is None:
            return "nobody has control of the console; take it first"
        here = "" if self._holder[0] in self._pages else ", whose page is not connected,"
        return f"{self._holder[1]}{here} has control"

    def _tell_control(self) -> None:
        holder_id, holder = self._holder or ("", "")
        present = holder_id in self._pages
        self.tell(
            m.Control(holder_id, holder, present, sum(1 for p in self.all if p.name), self._taken_from, self._changes)
        )

    def _refuse(self, page: Page, message: Any, text: str) -> None:
        self.answer(page.client_id, m.Notice("error", text, type(message).__name__))
