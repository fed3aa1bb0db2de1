"""Pins: bytes and messages between two hosts that do not come when the link between them was cut and is back."""

from __future__ import annotations

import hashlib
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.domains import own_domain, spawn
from tests.graph.link import ADDRESSES, Cable, Quality, cable, why_not

pytestmark = pytest.mark.timeout(600)
BAD = Quality(delay_s=0.02, loss=0.01, rate_bps=20e6)
CUT = Quality(up=False)
KEY = bytes(range(32))
CONTENT = np.random.default_rng(0).integers(0, 256, 5_000_000, dtype=np.uint8).tobytes()
WAIT_S = 200.0

SERVE = f"""
import sys, hashlib
from pathlib import Path
from inril_core.blobs import BlobServer
path = Path(sys.argv[1])
server = BlobServer({KEY!r}, {ADDRESSES[0]!r})
server.put(hashlib.sha256(path.read_bytes()).digest(), path)
print(server.address, flush=True)
sys.stdin.read()
"""
PULL = f"""
import hashlib, os, sys
from pathlib import Path
from inril_core.blobs import Blob, BlobLost, pull_blob
def refuse(*_, **__): raise OSError(18, "Invalid cross-device link")  # as on another host
os.link = refuse
blob = Blob({hashlib.sha256(CONTENT).digest()!r}, {len(CONTENT)}, hashlib.sha256)
while True:
    try:
        told = dict(on_clock=lambda clock: print("clock", clock.offset_s, clock.error_s))
        pull_blob(blob, sys.argv[1], {KEY!r}, Path(sys.argv[2]), 2.0, **told)
        break
    except BlobLost as error:
        print("lost", error, flush=True)
print("done", flush=True)
"""
TALK = """
import sys, time
from inril_bringup.environment import use_dds_of_the_graph
use_dds_of_the_graph()
import rclpy
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import Int32
rclpy.init()
node = rclpy.create_node(sys.argv[1])
latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
if sys.argv[1] == "speaker":
    publisher = node.create_publisher(Int32, "said", latched)
    for line in sys.stdin:
        publisher.publish(Int32(data=int(line)))
else:
    node.create_subscription(Int32, "said", lambda m: print("heard", m.data, flush=True), latched)
    there = None
    while True:
        rclpy.spin_once(node, timeout_sec=0.1)
        if there != (there := node.count_publishers("said")):
            print("there", there, flush=True)
"""


class Talker:
    """A process on one of the hosts, whose lines are waited for."""

    def __init__(self, wire: Cable, host: int, domain: int, code: str, *words: object) -> None:
        variables = {"INRIL_HOST": ADDRESSES[host], "ROS_STATIC_PEERS": ADDRESSES[1 - host]}
        variables |= {"FASTRTPS_DEFAULT_PROFILES_FILE": "", "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
        command = wire.inside(host, [sys.executable, "-c", code, *words])
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = spawn(command, domain, variables, **pipes)
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self._lines.put(line.strip())

    def until(self, beginning: str) -> str:
        """The next line that begins so; those before it are forgotten."""
        while not (line := self._lines.get(timeout=WAIT_S)).startswith(beginning):
            pass
        return line

    def say(self, line: str) -> None:
        """To its standard input."""
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()


@pytest.fixture
def hosts() -> Iterator[tuple[Cable, int, list[Talker]]]:
    """A bad link, a domain, and a list of processes to end."""
    if missing := why_not():
        pytest.skip(missing)
    started: list[Talker] = []
    with cable() as wire, own_domain() as domain:
        wire.set(BAD)
        yield wire, domain, started
        for talker in started:
            talker.process.kill()
            talker.process.communicate(timeout=30)


def test_a_pull_goes_on_after_a_cut(hosts: tuple[Cable, int, list[Talker]], tmp_path: Path) -> None:
    wire, domain, started = hosts
    (tmp_path / "served").write_bytes(CONTENT)
    started.append(Talker(wire, 0, domain, SERVE, tmp_path / "served"))
    address = started[0].until(ADDRESSES[0])
    started.append(Talker(wire, 1, domain, PULL, address, tmp_path / "pulled"))
    part = tmp_path / "pulled.part"
    while not (part.exists() and part.stat().st_size >= 1 << 20):
        assert started[1].process.poll() is None
    wire.set(CUT)
    assert ADDRESSES[0] in started[1].until("lost")
    kept = part.stat().st_size
    assert 1 << 20 <= kept < len(CONTENT)
    wire.set(BAD)
    clock = started[1].until("clock").split()
    assert abs(float(clock[1])) <= float(clock[2]), "it is one machine: the clocks agree to within the error"
    assert float(clock[2]) >= 0.02
    started[1].until("done")
    assert (tmp_path / "pulled").read_bytes() == CONTENT


def test_messages_come_again_after_dds_has_forgotten_the_other_host(hosts: tuple[Cable, int, list[Talker]]) -> None:
    wire, domain, started = hosts
    started += [Talker(wire, host, domain, TALK, name) for host, name in enumerate(("speaker", "listener"))]
    speaker, listener = started
    speaker.say("1")
    listener.until("heard 1")
    wire.set(CUT)
    listener.until("there 0")
    speaker.say("2")
    wire.set(BAD)
    listener.until("heard 2")


def test_what_is_missing_for_the_link_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "PATH", "/nonexistent")
    assert "iproute2" in why_not()
