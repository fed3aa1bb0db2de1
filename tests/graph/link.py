"""Two hosts on one machine: network namespaces, and between them a link with delay, loss and bandwidth.

The link is a process that carries IP packets from a TUN device of the one namespace to that of the other, as a slow
cable would: any protocol, UDP of DDS and TCP alike. It needs no netem, which many kernels lack.

`python -m tests.graph.link` prints one JSON line, {"namespaces": [path, path]}, and then reads lines from its standard
input, each a JSON object of `Quality`; it ends with its input.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import itertools
import json
import os
import random
import selectors
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass

from inril_bringup.programs import die_with_parent

ADDRESSES = ("10.77.0.1", "10.77.0.2")
_NEW_NETWORK = 0x40000000  # CLONE_NEWNET
_SET_INTERFACE = 0x400454CA  # TUNSETIFF
_TUN_WITHOUT_HEADER = 0x1001  # IFF_TUN | IFF_NO_PI
_LONGEST_PACKET = 65536
_QUEUE = 1000  # packets of a direction under way; what comes then is lost


@dataclass(frozen=True)
class Quality:
    """Of both directions of the link."""

    delay_s: float = 0.0
    loss: float = 0.0
    """Probability that a packet is lost."""
    rate_bps: float = 1e9
    """Bits a second."""
    up: bool = True
    """False: the cable is out."""


def why_not() -> str:
    """What this machine lacks for the link; empty: nothing."""
    missing = [name for name in ("ip", "nsenter") if shutil.which(name) is None]
    if missing:
        return f"no program {' and '.join(missing)}: apt-get install iproute2 util-linux"
    probe = "from tests.graph.link import namespace; namespace('10.77.0.1')"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    lines = done.stderr.strip().splitlines()
    return f"no network namespace with a TUN device: {lines[-1]}" if done.returncode else ""


def namespace(address: str) -> tuple[int, int]:
    """Enter a new network namespace with one interface; its TUN device and the namespace, as file descriptors.

    Raises:
        OSError: not permitted here.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_NETWORK) != 0:
        raise OSError(ctypes.get_errno(), "unshare of the network (it wants CAP_SYS_ADMIN)")
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, _SET_INTERFACE, struct.pack("16sH22x", b"link0", _TUN_WITHOUT_HEADER))
    for words in ("link set lo up", f"address add {address}/24 dev link0", "link set link0 up"):
        subprocess.run(["ip", *words.split()], check=True)
    return tun, os.open("/proc/self/ns/net", os.O_RDONLY)


class _Link:
    """Carries packets; `run` ends with the standard input."""

    def __init__(self, tuns: Sequence[int]) -> None:
        self._tuns = tuns
        self._quality = Quality()
        self._random = random.Random(0)
        self._numbers = itertools.count()
        self._under_way: list[tuple[float, int, int, bytes]] = []
        self._free_s = [0.0, 0.0]

    def run(self) -> None:
        """Forward until nobody wants it any more."""
        ready = selectors.DefaultSelector()
        for side, tun in enumerate(self._tuns):
            ready.register(tun, selectors.EVENT_READ, side)
        ready.register(sys.stdin, selectors.EVENT_READ, None)
        while True:
            wait_s = max(self._under_way[0][0] - time.monotonic(), 0.0) if self._under_way else None
            for key, _ in ready.select(wait_s):
                if key.data is not None:
                    self._take(key.data)
                elif line := sys.stdin.readline():
                    self._quality = Quality(**json.loads(line))
                else:
                    return
            self._deliver()

    def _take(self, side: int) -> None:
        with suppress(BlockingIOError):
            while packet := os.read(self._tuns[side], _LONGEST_PACKET):
                now_s, quality = time.monotonic(), self._quality
                if not quality.up or self._random.random() < quality.loss or len(self._under_way) >= 2 * _QUEUE:
                    continue
                self._free_s[side] = max(now_s, self._free_s[side]) + 8 * len(packet) / quality.rate_bps
                arrival = self._free_s[side] + quality.delay_s, next(self._numbers), 1 - side, packet
                heapq.heappush(self._under_way, arrival)

    def _deliver(self) -> None:
        while self._under_way and self._under_way[0][0] <= time.monotonic():
            _, _, side, packet = heapq.heappop(self._under_way)
            if self._quality.up:
                with suppress(BlockingIOError):
                    os.write(self._tuns[side], packet)


class Cable:
    """The running link."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert process.stdout is not None
        self._namespaces: list[str] = json.loads(process.stdout.readline())["namespaces"]

    def set(self, quality: Quality) -> None:
        """From now on the link is like this."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(quality)) + "\n")
        self._process.stdin.flush()

    def inside(self, host: int, command: Sequence[object]) -> list[str]:
        """The command that runs ``command`` on host 0 or 1."""
        return ["nsenter", f"--net={self._namespaces[host]}", *(str(word) for word in command)]


@contextmanager
def cable() -> Iterator[Cable]:
    """Two hosts, with `ADDRESSES`, and a perfect link between them."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.graph.link"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=die_with_parent(),
    )
    try:
        yield Cable(process)
    finally:
        process.communicate(timeout=30)


def main() -> None:
    """See the module."""
    made = [namespace(address) for address in ADDRESSES]
    places = [f"/proc/{os.getpid()}/fd/{place}" for _, place in made]
    print(json.dumps({"namespaces": places}), flush=True)
    _Link([tun for tun, _ in made]).run()


if __name__ == "__main__":
    main()
