"""Asking a policy server: never longer than allowed, and nothing that was made up."""

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np

from inril_core.backoff import wait_s
from inril_core.errors import InrilError
from inril_core.wire import MAX_BODY_BYTES, PROTOCOL, Array, BadFrame, Decoder, encode, split_address

SILENCES = 3  # answers in a row that never came, after which the connection is given up
PIECE_ROWS = 64  # observations asked for at once, at most


def piece_rows(observation_size: int) -> int:
    """Observations to ask for at once: with large images fewer than `PIECE_ROWS` fit into a frame."""
    return max(1, min(PIECE_ROWS, MAX_BODY_BYTES // (4 * observation_size)))


class RemoteError(InrilError):
    """The server gave no answer that may be executed. ``reason``: the name under which `PolicyClient.counts` has it."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Terms:
    """What is asked for, and how long it may take."""

    address: str
    observation_size: int
    action_size: int
    rows: int
    """Actions that are needed of each plan."""
    timeout_s: float
    """Longest that `PolicyClient.ask` takes, connecting and answer included."""
    max_age_s: float
    """Oldest observation that an answer may rest on."""
    retry_min_s: float
    """Shortest pause before connecting again; doubled at each failure."""
    retry_max_s: float
    """Longest pause before connecting again."""


class PolicyClient:
    """One connection, one question at a time. Not for several threads."""

    counts: Counter[str]
    """Answers by what became of them: ``ok``, and the reasons of refusals."""

    def __init__(self, terms: Terms, clock: Callable[[], float] = time.monotonic) -> None:
        self.terms, self.counts = terms, Counter[str]()
        self._clock = clock
        self._socket: socket.socket | None = None
        self._found: Future[list[tuple[str, int]]] | None = None  # where the address is, while it is looked up
        self._decoder = Decoder()
        self._id = 0
        self._silences = 0
        self._failures, self._retry_at_s = 0, -float("inf")

    def ask(self, observations: Array, explore: bool, seeds: Sequence[int], timeout_s: float | None = None) -> Array:
        """Plans ``[N, rows, A]`` in [-1, 1] for ``observations [N, D]``.

        Args:
            seeds: one per observation, in [0, 2^53): of the server's noise.
            timeout_s: instead of the usual one; a pause before connecting again is then not kept.

        Raises:
            RemoteError: there is no answer in time, or it is not what was asked for.
        """
        began_s = self._clock()
        deadline_s = began_s + (self.terms.timeout_s if timeout_s is None else timeout_s)
        try:
            self._connect(deadline_s, patient=timeout_s is not None)
            self._id += 1
            header: dict[str, Any] = {"type": "act", "id": self._id, "explore": explore}
            header |= {"patient": timeout_s is not None, "seeds": [int(seed) for seed in seeds]}
            self._send(encode(header, observations), deadline_s)
            answer, plans = self._answer(deadline_s)
            self._check(answer, plans, len(observations), self._clock() - began_s)
        except RemoteError as error:
            self.counts[error.reason] += 1
            raise
        except (OSError, BadFrame) as error:
            self._give_up()
            reason = "garbage" if isinstance(error, BadFrame) else "connection"
            self.counts[reason] += 1
            raise RemoteError(reason, f"policy server {self.terms.address}: {error}") from error
        self.counts["ok"] += 1
        self._silences = 0
        return plans[:, : self.terms.rows].clip(-1.0, 1.0)

    def close(self) -> None:
        """Hang up. The next question connects anew."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self._decoder = None, Decoder()

    def _give_up(self) -> None:
        self.close()
        self._retry_at_s = self._clock() + wait_s(self._failures, self.terms.retry_min_s, self.terms.retry_max_s)
        self._failures += 1

    def _connect(self, deadline_s: float, patient: bool) -> None:
        if self._socket is not None:
            return
        left_s = self._retry_at_s - self._clock()
        if left_s > 0.0 and not patient:
            raise RemoteError(
                "not_connected", f"policy server {self.terms.address}: not connected; tried again in {left_s:.2f} s"
            )
        self._socket = self._reached(deadline_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            hello, _ = self._frame(deadline_s)
        except RemoteError:  # its greeting would be taken for an answer later
            if self._socket is not None:  # after too many silences it is given up already
                self._give_up()
            raise
        t = self.terms
        if hello.get("type") == "error":
            self._give_up()
            raise RemoteError("server", f"policy server {t.address}: {str(hello.get('message'))[:300]}")
        wanted = {"type": "hello", "protocol": PROTOCOL, "observation_size": t.observation_size}
        wanted["action_size"] = t.action_size
        wrong = {key: hello.get(key) for key, value in wanted.items() if hello.get(key) != value}
        chunk = hello.get("chunk")
        if wrong or not isinstance(chunk, int) or chunk < t.rows:
            self._give_up()
            raise RemoteError(
                "mismatch",
                f"policy server {t.address}: says {str(wrong or {'chunk': chunk})[:200]}, but {wanted} and a chunk of "
                f"at least {t.rows} are needed",
            )
        self._failures = self._silences = 0

    def _reached(self, deadline_s: float) -> socket.socket:
        """A connection. The resolver of names knows no time-out: it works in a thread of its own, one at a time."""
        if self._found is None:
            self._found = Future()
            threading.Thread(target=_look_up, args=(self.terms.address, self._found), daemon=True).start()
        try:
            places = self._found.result(self._left_s(deadline_s))
        except TimeoutError as error:
            raise TimeoutError("its name was not resolved in time") from error
        finally:
            if self._found.done():
                self._found = None
        failed = OSError("its name has no address")
        for place in places:
            try:
                return socket.create_connection(place, self._left_s(deadline_s))
            except OSError as error:
                failed = error
        raise failed

    def _left_s(self, deadline_s: float) -> float:
        left_s = deadline_s - self._clock()
        if left_s <= 0.0:
            self._silences += 1
            if self._silences >= SILENCES:
                self._give_up()
            raise RemoteError("timeout", f"policy server {self.terms.address}: no answer in time")
        return left_s

    def _send(self, frame: bytes, deadline_s: float) -> None:
        assert self._socket is not None
        self._socket.settimeout(self._left_s(deadline_s))
        try:
            self._socket.sendall(frame)
        except TimeoutError as error:  # half a frame is out: this connection cannot be used any more
            self._give_up()
            raise RemoteError("timeout", f"policy server {self.terms.address}: takes no question in time") from error

    def _frame(self, deadline_s: float) -> tuple[dict[str, Any], Array]:
        while True:
            assert self._socket is not None
            frame = self._decoder.next()
            if frame is not None:
                return frame
            self._socket.settimeout(self._left_s(deadline_s))
            try:
                data = self._socket.recv(1 << 16)
            except TimeoutError:
                continue
            if not data:
                raise ConnectionError("has hung up")
            self._decoder.feed(data)

    def _answer(self, deadline_s: float) -> tuple[dict[str, Any], Array]:
        """The answer to the last question; those to earlier ones came too late."""
        while True:
            header, numbers = self._frame(deadline_s)
            answered = header.get("id")
            if answered == self._id:
                return header, numbers
            if type(answered) is int and 0 < answered < self._id:
                self.counts["stale"] += 1
                continue
            self._give_up()
            raise RemoteError(
                "mismatch",
                f"policy server {self.terms.address}: answers question {str(answered)[:40]}, {self._id} was the last: "
                f"{str(header.get('message', ''))[:200]}",
            )

    def _check(self, header: dict[str, Any], plans: Array, count: int, waited_s: float) -> None:
        t = self.terms
        if header.get("type") != "plan":
            raise RemoteError("server", f"policy server {t.address}: {str(header.get('message', header))[:300]}")
        rows_ok = plans.ndim == 3 and plans.shape[1] >= t.rows
        if not rows_ok or (plans.shape[0], plans.shape[2]) != (count, t.action_size):
            raise RemoteError(
                "shape",
                f"policy server {t.address}: plans{list(plans.shape)}, not [{count}, >= {t.rows}, {t.action_size}]",
            )
        if not np.isfinite(plans).all():
            raise RemoteError("not_finite", f"policy server {t.address}: a plan holds NaN or infinity")
        age_s = header.get("age_s", 0.0)
        # an answer to the very observation may take as long as was waited for it
        if not isinstance(age_s, (int, float)) or not (age_s == 0.0 or 0.0 < age_s <= t.max_age_s - waited_s):
            raise RemoteError(
                "stale", f"policy server {t.address}: rests on an observation {age_s} s old, at most {t.max_age_s}"
            )


def _look_up(address: str, found: "Future[list[tuple[str, int]]]") -> None:
    host, port = split_address(address)
    try:
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        found.set_result([(str(place[4][0]), port) for place in places])
    except OSError as error:
        found.set_exception(error)
