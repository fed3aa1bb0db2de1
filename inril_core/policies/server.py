"""Serves a policy to other processes: one of inril's files, or any function.

    python -m inril_core.policies.server --policy policy.inril --address 127.0.0.1:7777

or, around a model of your own::

    from inril_core.policies.server import serve

    def plan(observation, explore, rng):  # float32[D] -> float32[n >= chunk, A] in [-1, 1]
        return model(observation)

    serve(plan, "127.0.0.1:7777", observation_size=27, action_size=6, chunk=8)
"""

import argparse
import contextlib
import select
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from inril_core.errors import ConfigError, InrilError
from inril_core.wire import PROTOCOL, Array, BadFrame, Decoder, encode, split_address

Plan = Callable[[Array, bool, np.random.Generator], Any]
"""float32[D], explore, noise: float32[chunk or more, A], or that and the age in s of the observation it rests on."""

MAX_CLIENTS = 16
FRAME_TIMEOUT_S = 30.0  # for the rest of a frame that has begun, and for an answer to be taken
IDLE_S = 60.0  # without a question, after which a client gives way where all places are taken
GIVES_WAY_S = 1.0  # for the thread of such a client to end


class PolicyServer(socketserver.ThreadingTCPServer):
    """Answers any number of clients, one question at a time.

    Args:
        function: makes the plans; called by one thread at a time. What it raises is told to the client.
        address: HOST:PORT to listen at; port 0: any free one, see ``address``.
        observation_size, action_size, chunk: D, A and the rows that every plan has at least.

    Raises:
        ConfigError: the address is none, or taken.
    """

    allow_reuse_address = True
    daemon_threads = True

    def __init__(
        self,
        function: Plan,
        address: str,
        observation_size: int,
        action_size: int,
        chunk: int,
        name: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = clock
        self.function, self.sizes = function, (observation_size, action_size, chunk)
        self.hello = {
            "type": "hello",
            "protocol": PROTOCOL,
            "name": name,
            "observation_size": observation_size,
            "action_size": action_size,
            "chunk": chunk,
        }
        self.turn = threading.Lock()
        self.places = threading.BoundedSemaphore(MAX_CLIENTS)
        self.waiting: dict[socket.socket, float] = {}  # clients that have nothing to be answered, and since when, s
        try:
            super().__init__(split_address(address), _Connection)
        except (OSError, ValueError) as error:
            raise ConfigError(f"--address {address}: {error}; choose another") from error

    @property
    def address(self) -> str:
        """HOST:PORT where it listens."""
        host, port = self.server_address[:2]
        return f"{host!s}:{port}"

    def run(self) -> None:
        """Print where it listens, and serve until the process is ended."""
        print(f"policy server: listens at {self.address}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            self.serve_forever(poll_interval=0.1)

    def place(self) -> bool:
        """Take a place for one more client, if need be that of the client that has been idle longest."""
        if self.places.acquire(blocking=False):
            return True
        idle = sorted((since_s, client.fileno(), client) for client, since_s in self.waiting.copy().items())
        if not idle or self.clock() - idle[0][0] < IDLE_S:
            return False
        with contextlib.suppress(OSError):
            idle[0][2].shutdown(socket.SHUT_RDWR)
        return self.places.acquire(timeout=GIVES_WAY_S)

    def plans(self, header: dict[str, Any], observations: Array) -> tuple[Array, float]:
        """Plans ``[N, chunk or more, A]`` for a question, and the age of the oldest observation behind them.

        Raises:
            ValueError: the question, or what the function made of it, has a wrong shape or is not finite.
        """
        d, a, chunk = self.sizes
        if observations.ndim != 2 or observations.shape[1] != d or not len(observations):
            raise ValueError(f"observations{list(observations.shape)}: must be [N, {d}]")
        if not np.isfinite(observations).all():
            raise ValueError("observations hold NaN or infinity")
        seeds = header.get("seeds")
        if not isinstance(seeds, list) or len(seeds) != len(observations):
            raise ValueError("seeds: must be a list with one number per observation")
        if not all(type(seed) is int and 0 <= seed < 1 << 53 for seed in seeds):
            raise ValueError("seeds: must be whole numbers in [0, 2^53)")
        found, oldest_s = [], 0.0
        patient = bool(header.get("patient")) or len(observations) > 1
        for row, seed in zip(observations, seeds, strict=True):
            made = self.made(row, bool(header.get("explore")), np.random.default_rng(seed), patient)
            plan, age_s = made if isinstance(made, tuple) else (made, 0.0)
            found.append(np.asarray(plan, np.float32))
            oldest_s = max(oldest_s, float(age_s))
        for plan in found:
            if plan.ndim != 2 or plan.shape[0] < chunk or plan.shape[1] != a or not np.isfinite(plan).all():
                raise ValueError(f"the policy's plan{list(plan.shape)}: must be finite and [{chunk} or more, {a}]")
        return np.stack([plan[:chunk] for plan in found]), oldest_s

    def made(self, row: Array, explore: bool, rng: np.random.Generator, patient: bool) -> Any:
        """What is answered to one observation, see `Plan`. patient: whoever asks waits as long as it takes."""
        return self.function(row, explore, rng)


class _Connection(socketserver.BaseRequestHandler):
    server: PolicyServer

    def handle(self) -> None:
        """Answer a client until it hangs up or says what is no frame."""
        if not self.server.place():
            self._try_to_send(encode({"type": "error", "id": None, "message": f"{MAX_CLIENTS} clients already"}))
            return
        try:
            self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.request.sendall(encode(self.server.hello))
            decoder = Decoder()
            while (question := self._newest(decoder)) is not None:
                self.request.sendall(self._answer(*question))
        except BadFrame as error:
            self._try_to_send(encode({"type": "error", "id": None, "message": str(error)[:500]}))
        except OSError:
            pass  # the client is gone
        finally:
            self.server.waiting.pop(self.request, None)
            self.server.places.release()

    def _newest(self, decoder: Decoder) -> tuple[dict[str, Any], Array] | None:
        """The last question that has come; whoever asks again no longer waits for the first. None: hung up."""
        question = self._read(decoder)
        while question is not None:
            following = decoder.next()
            if following is None and select.select([self.request], [], [], 0.0)[0]:
                following = self._read(decoder)
                if following is None:
                    return None
            if following is None:
                return question
            error = {"type": "error", "id": _id(question[0]), "message": "asked again before it was answered"}
            self.request.sendall(encode(error))
            question = following
        return None

    def _read(self, decoder: Decoder) -> tuple[dict[str, Any], Array] | None:
        """The next question; None: the client has hung up, or gave way."""
        self.server.waiting[self.request] = self.server.clock()
        deadline_s = None
        while (frame := decoder.next()) is None:
            if decoder.begun and deadline_s is None:
                deadline_s = self.server.clock() + FRAME_TIMEOUT_S
            left_s = None if deadline_s is None else deadline_s - self.server.clock()
            if left_s is not None and left_s <= 0.0:
                raise TimeoutError("the rest of a frame did not come")
            self.request.settimeout(left_s)
            data = self.request.recv(1 << 16)
            if not data:
                return None
            decoder.feed(data)
        del self.server.waiting[self.request]
        self.request.settimeout(FRAME_TIMEOUT_S)
        return frame

    def _answer(self, header: dict[str, Any], observations: Array) -> bytes:
        number = _id(header)
        try:
            if header.get("type") != "act":
                raise ValueError(f"type {str(header.get('type'))[:40]!r}: must be 'act'")
            with self.server.turn:
                plans, age_s = self.server.plans(header, observations)
            return encode({"type": "plan", "id": number, "age_s": age_s}, plans)
        except Exception as error:  # whatever a lab's model raises must reach the robot's log, not end the server
            print(f"policy server: question {number}: {error!r}", file=sys.stderr, flush=True)
            return encode({"type": "error", "id": number, "message": f"{type(error).__name__}: {error}"[:500]})

    def _try_to_send(self, frame: bytes) -> None:
        with contextlib.suppress(OSError):
            self.request.sendall(frame)


def _id(header: dict[str, Any]) -> int | None:
    number = header.get("id")
    return number if type(number) is int else None


def serve(
    function: Plan, address: str, observation_size: int, action_size: int, chunk: int = 1, name: str = ""
) -> None:
    """Serve ``function`` until the process is ended; see `PolicyServer`. Prints where it listens.

    Raises:
        ConfigError: the address is none, or taken.
    """
    with PolicyServer(function, address, observation_size, action_size, chunk, name) as server:
        server.run()


def main(arguments: list[str] | None = None) -> int:
    """Serve a policy file. Returns the exit code."""
    import torch

    from inril_core.policies.base import Memory
    from inril_core.policies.files import load_policy

    parser = argparse.ArgumentParser(prog="python -m inril_core.policies.server", description="serve a policy file")
    parser.add_argument("--policy", type=Path, required=True, help="file of `inril pretrain`")
    parser.add_argument("--address", default="127.0.0.1:7777", help="HOST:PORT; port 0: any free one")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    options = parser.parse_args(arguments)
    torch.set_num_threads(max(1, options.threads))
    try:
        policy, _ = load_policy(options.policy)
        policy.eval()

        def plan(observation: Array, explore: bool, rng: np.random.Generator) -> Array:
            memory = Memory()
            first = policy.act(observation, explore, rng, memory).action
            return np.stack([first, *list(memory.queue)[: policy.chunk - 1]]).clip(-1.0, 1.0)

        serve(plan, options.address, policy.observation_size, policy.action_size, policy.chunk, policy.kind)
    except InrilError as error:
        print(f"policy server: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
