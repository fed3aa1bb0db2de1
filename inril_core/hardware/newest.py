"""Slow calls, such as a gripper's, from a thread: only the newest wish counts, and nobody waits."""

from __future__ import annotations

import threading
from collections.abc import Callable

JOIN_S = 5.0


class NewestWins:
    """Does what was asked last, in a thread of its own. What is asked again and was done is not done again.

    do: called with the wish and an event that is set once a newer one waits; what it raises is kept in `failure`, and
    the wish is done when it is asked next.
    """

    def __init__(self, do: Callable[[float, threading.Event], None]) -> None:
        self._do = do
        self._changed = threading.Condition()
        self._asked: float | None = None
        self._taken: float | None = None
        self._superseded = threading.Event()
        self._closing = False
        self.failure = ""
        """Of the newest wish; empty: it was done, or is under way."""
        self._thread = threading.Thread(target=self._run, name="newest-wins", daemon=True)
        self._thread.start()

    def ask(self, wish: float) -> None:
        """Wish for something; returns at once."""
        with self._changed:
            if wish == (self._taken if self._asked is None else self._asked):
                return
            self._asked = wish
            self._superseded.set()
            self._changed.notify()

    def forget(self) -> None:
        """The next wish is done, also if it was done before."""
        with self._changed:
            self._asked = self._taken = None
            self.failure = ""

    def close(self) -> None:
        """End the thread after what it does now."""
        with self._changed:
            self._closing = True
            self._superseded.set()
            self._changed.notify()
        self._thread.join(JOIN_S)

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._asked is None and not self._closing:
                    self._changed.wait()
                if self._closing:
                    return
                wish, self._asked = self._asked, None
                assert wish is not None
                self._taken = wish
                self._superseded = superseded = threading.Event()
            try:
                self._do(wish, superseded)
                failure = ""
            except Exception as error:  # of a vendor's library
                failure = f"{type(error).__name__}: {error}"
            with self._changed:
                self.failure = failure
                if failure and self._taken == wish:
                    self._taken = None
