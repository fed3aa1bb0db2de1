"""Pins: a robot and a learner on two hosts, over a link that is slow, loses packets, and is cut for a while.

Nothing of the two meets but over the link: each host has its network namespace, its key file and its run folder, these
on two file systems, since bytes on one are taken by a hard link.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from inril_core.run import RunPaths
from inril_core.session.ledger import read_ledger
from inril_core.weights import load_or_create_key
from tests.domains import own_domain, spawn
from tests.graph.conftest import Start
from tests.graph.harness import patient_contract, patient_graph
from tests.graph.link import ADDRESSES, Cable, Quality, cable, why_not

pytestmark = pytest.mark.timeout(1500)
SLOW = Quality(delay_s=0.02, loss=0.01, rate_bps=50e6)
WAIT_S = 400.0
LEASE_S = 25.0
"""Longer than DDS keeps a participant that it does not hear (20 s)."""
ROBOT, LEARNER = 0, 1


class Host:
    """One of the two, with what a person on it may do."""

    def __init__(self, wire: Cable, side: int, domain: int, folder: Path, key: Path) -> None:
        self._wire, self._side, self._domain = wire, side, domain
        self.paths, self.folder = RunPaths(folder / "run"), folder
        self._variables = {
            "INRIL_HOST": ADDRESSES[side],
            "ROS_STATIC_PEERS": ADDRESSES[1 - side],
            "INRIL_KEY": str(key),
            **{name: "" for name in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")},
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        }
        self._process: subprocess.Popen[bytes] | None = None

    def inril(self, *words: object) -> list[str]:
        """A command on this host."""
        return self._wire.inside(self._side, [sys.executable, "-m", "inril_bringup.cli", *words])

    def up(self, graph: str, **arguments: object) -> None:
        """Start a graph, which waits longer for its nodes than the shipped one."""
        given = {"run_dir": self.paths.root, "contract": patient_contract(self.folder), **arguments}
        words = (f"{name}:={str(value).lower() if value is True else value}" for name, value in given.items())
        command = self.inril("up", patient_graph(graph, self.folder, {}), *words)
        log = (self.folder / "log").open("w")
        self._process = spawn(command, self._domain, self._variables, stdout=log, stderr=subprocess.STDOUT)

    def log(self) -> str:
        """What the graph has printed."""
        return (self.folder / "log").read_text(errors="replace")

    def exit_code(self) -> int | None:
        """Of the graph; None: it runs."""
        assert self._process is not None
        return self._process.poll()

    def stop(self) -> None:
        """Ctrl-C."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(60)
                return
            self._process.kill()
            self._process.wait(10)

    def lines(self, file: Path) -> list[dict[str, Any]]:
        """Of a log in JSON lines, those that are whole."""
        found = []
        for line in file.read_text().splitlines() if file.exists() else []:
            with suppress(ValueError):
                found.append(json.loads(line))
        return found


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[Cable, Host, Host]]:
    """Robot and learner, with the key on both, as `scp -p` would leave it."""
    if not os.environ.get("INRIL_SLOW_LINK"):
        pytest.skip("it waits for minutes for what was cut to come back: set INRIL_SLOW_LINK=1 to run it")
    if missing := why_not():
        pytest.skip(missing)
    shared_memory = Path("/dev/shm")
    if not shared_memory.is_dir() or os.stat(shared_memory).st_dev == os.stat(tmp_path).st_dev:
        pytest.skip("no second file system (/dev/shm): files would be taken by a hard link, and not over the link")
    elsewhere = Path(tempfile.mkdtemp(prefix="inril-learner-", dir=shared_memory))
    (tmp_path / "robot").mkdir()
    load_or_create_key(tmp_path / "robot" / "weights.key")
    shutil.copy(tmp_path / "robot" / "weights.key", elsewhere / "weights.key")
    with cable() as wire, own_domain() as domain:
        wire.set(SLOW)
        robot = Host(wire, ROBOT, domain, tmp_path / "robot", tmp_path / "robot" / "weights.key")
        learner = Host(wire, LEARNER, domain, elsewhere, elsewhere / "weights.key")
        try:
            yield wire, robot, learner
        finally:
            learner.stop()
            robot.stop()
            print(f"--- robot ---\n{robot.log()[-4000:]}\n--- learner ---\n{learner.log()[-4000:]}")
            shutil.rmtree(elsewhere)


def until(condition: Callable[[], Any], what: str, *running: Host) -> Any:
    """Wait for a state of the files."""
    deadline_s = time.monotonic() + WAIT_S
    while time.monotonic() < deadline_s:
        if value := condition():
            return value
        ended = [host.exit_code() for host in running if host.exit_code() is not None]
        assert not ended, f"a graph ended with {ended} while waiting for {what}"
        time.sleep(0.2)
    raise AssertionError(f"no {what} within {WAIT_S:.0f} s")


def test_weights_and_episodes_cross_a_bad_link_that_was_cut(
    hosts: tuple[Cable, Host, Host], start: Start, preset: Path
) -> None:
    wire, robot, learner = hosts
    given = {"run_id": "pair", "initial_weights": start.weights}

    def ingested() -> set[str]:
        return {line["episode_id"] for line in learner.lines(learner.paths.learner / "ingest.jsonl")}

    def recorded() -> set[str]:
        ledger = robot.paths.session
        return (
            {result.episode_id for result in read_ledger(ledger).values if result.valid} if ledger.exists() else set()
        )

    def acting_n() -> int:
        log = robot.lines(robot.paths.weights / "log.jsonl")
        return max((line["n"] for line in log if line["event"] == "acting"), default=-1)

    # the learner first: whoever starts the robot again finds it there
    learner.up("finetune_learner", demos=start.demos, preset=preset, **given)
    robot.up("finetune_robot", plan="train:100000:steps", arm_at_start=True, **given)
    both = robot, learner
    until(lambda: ingested() & recorded(), "an episode at the learner", *both)
    before_n = until(lambda: (n := acting_n()) > 0 and n, "weights at the robot", *both)

    wire.set(Quality(up=False))
    cut_s, known = time.monotonic(), recorded()
    until(lambda: time.monotonic() > cut_s + LEASE_S, "end of the lease", *both)
    alone = until(lambda: recorded() - known - ingested(), "an episode without the learner", *both)
    wire.set(SLOW)
    until(lambda: alone <= ingested(), "the episodes of the outage at the learner", *both)
    until(lambda: acting_n() > before_n, "newer weights at the robot", *both)
    assert not any(text in robot.log() + learner.log() for text in ("another key", "synchronise both hosts"))
