"""Pins: weights that are lost, stale or half-taken on their way to the policy, and a policy that waits for them."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from inril_core.blobs import BlobServer, pull
from inril_core.contract import load_contract
from inril_core.policies import GaussianPolicy, gaussian
from inril_core.weights import Key, Offer, Refusal, intake, write_pack
from inril_core.weights.acting import ActingPolicy
from inril_core.weights.gate import Gate, GateRules
from inril_core.weights.intake import Announced, Decided, Intake, Noted
from inril_core.weights.store import WeightStore

CONTRACT = load_contract("insert_leg")
OBSERVATION = np.linspace(-0.5, 0.5, CONTRACT.observation_size).astype(np.float32)
KEY = Key(bytes(range(32)))
PATIENCE_S = 60.0


def policy(bias: float = 0.0) -> GaussianPolicy:
    torch.manual_seed(0)
    made = GaussianPolicy(CONTRACT.observation_size, 6, gaussian.Config(hidden=(16,)))
    with torch.no_grad():
        made.head.bias[:6] = bias
    return made


class Learner:
    """Packs, serves and announces."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.server = folder, BlobServer(KEY)

    def push(self, n: int, bias: float = 0.0, **changes) -> Announced:
        made = policy(bias)
        manifest = {
            "run_id": "run",
            "n": n,
            "parent": None,
            "interface_digest": CONTRACT.interface_digest,
            "contract_text": CONTRACT.text,
            "policy": made.manifest(),
            "created_ns": 0,
        }
        path = self.folder / f"push-{n}-{bias}.pack"
        size, digest = write_pack(path, made.state_dict(), manifest)
        self.server.put(digest, path)
        offer = Offer.signed(KEY, "run", n, changes.get("size_bytes", size), digest)
        return Announced(offer, changes.get("address", self.server.address), 0)


class Robot:
    """A policy that acts, and its intake."""

    def __init__(self, folder: Path) -> None:
        self.store = WeightStore(folder)
        state = self.store.state
        gate = Gate(GateRules(CONTRACT.interface_digest), KEY, "run", state.highest_n, state.pinned)
        self.acting = ActingPolicy(CONTRACT, gate, self.store, KEY)
        if not self.acting.load_kept():
            facts = {"interface_digest": CONTRACT.interface_digest, "contract_text": CONTRACT.text}
            self.acting.load_initial(policy(), facts, 0)
        self._told = threading.Semaphore(0)
        self._news: list[Decided | Noted] = []
        self.intake = Intake(self.acting, self.store.incoming, KEY, 10.0, self._told.release)

    def next(self) -> Decided | Noted:
        """What the intake says next."""
        assert self._told.acquire(timeout=PATIENCE_S)
        self._news += self.intake.news()
        return self._news.pop(0)

    def decided(self) -> tuple[int, Refusal | None]:
        """Version and refusal of the next decision."""
        news = self.next()
        assert isinstance(news, Decided)
        return news.announced.offer.n, None if news.refusal is None else news.refusal.reason

    def act(self, step: int = 0) -> int:
        """The version that answers."""
        return self.acting.act(OBSERVATION, False, 0, step).n


@pytest.fixture
def learner(tmp_path: Path) -> Iterator[Learner]:
    (tmp_path / "learner").mkdir()
    made = Learner(tmp_path / "learner")
    yield made
    made.server.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], Robot]]:
    robots: list[Robot] = []

    def run() -> Robot:
        robots.append(Robot(tmp_path / "robot"))
        return robots[-1]

    yield run
    for robot in robots:
        robot.intake.close()


class Held:
    """Pulls stop here until they may go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go_on, self.pulled = threading.Semaphore(0), threading.Event(), []
        real = intake.pull_blob

        def held(blob, *arguments, **named) -> None:
            self.pulled.append(blob.digest)
            self.begun.release()
            assert self.go_on.wait(PATIENCE_S)
            real(blob, *arguments, **named)

        monkeypatch.setattr(intake, "pull_blob", held)


def test_a_pack_is_taken_while_the_policy_answers(start, learner, monkeypatch):
    robot, held = start(), Held(monkeypatch)
    robot.intake.want(learner.push(1, 0.1))
    assert held.begun.acquire(timeout=PATIENCE_S)
    assert [robot.act(step) for step in range(50)] == [0] * 50, "no answer waits for a pull"
    held.go_on.set()
    assert robot.decided() == (1, None)
    assert (robot.act(3), robot.act(0)) == (0, 1)
    robot.acting.after_answer(0)
    robot.intake.note_active()
    noted = robot.next()
    assert isinstance(noted, Noted) and noted.version.n == 1
    assert WeightStore(robot.store.incoming.parent).active().n == 1
    assert not list(robot.store.incoming.iterdir())


def test_a_policy_that_is_behind_takes_the_newest_only(start, learner, monkeypatch):
    robot, held = start(), Held(monkeypatch)
    pushed = {n: learner.push(n, 0.01 * n) for n in (1, 2, 3, 4)}
    robot.intake.want(pushed[1])
    assert held.begun.acquire(timeout=PATIENCE_S)
    for n in (2, 4, 3):  # an older one that is heard late must not take the newest one's place
        robot.intake.want(pushed[n])
    held.go_on.set()
    assert [robot.decided(), robot.decided()] == [(1, None), (4, None)]
    assert held.pulled == [pushed[1].offer.digest, pushed[4].offer.digest]
    assert robot.act() == 4


def test_an_offer_that_was_overtaken_while_it_could_not_be_pulled_is_no_refusal(start, learner, monkeypatch):
    """The learner would go back to what acts, although a newer version is on its way."""
    robot, held = start(), Held(monkeypatch)
    older, newer = learner.push(1, 0.1), learner.push(2, 0.1)
    robot.intake.want(older)
    assert held.begun.acquire(timeout=PATIENCE_S)
    learner.server.remove(older.offer.digest)
    robot.intake.want(newer)
    held.go_on.set()
    assert robot.decided() == (2, None)
    assert robot.acting.rejected == 0


def test_of_two_pushes_at_once_under_one_number_one_acts(start, learner):
    """Two learners of one run: both hold the key."""
    robot, one, other = start(), learner.push(1, 0.1), learner.push(1, -0.1)
    threads = [threading.Thread(target=robot.intake.want, args=(announced,)) for announced in (one, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    decided = [robot.decided()]
    if not robot.acting.knows(one.offer) or not robot.acting.knows(other.offer):
        robot.intake.want(learner.push(2, 0.05))
        while decided[-1] != (2, None):
            decided.append(robot.decided())
    accepted = [n for n, refusal in decided if refusal is None]
    assert accepted == [1, 2]
    assert robot.act() == 2


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"size_bytes": 1}, Refusal.PULL_FAILED),
        ({"size_bytes": 1 << 20}, Refusal.PULL_FAILED),
        ({"address": "nonsense"}, Refusal.PULL_FAILED),
        ({"address": "127.0.0.1:1"}, Refusal.PULL_FAILED),
    ],
)
def test_an_offer_that_lies_is_refused_and_the_next_one_is_taken(start, learner, changes, reason, monkeypatch):
    monkeypatch.setattr(pull, "RETRY_MIN_S", 0.001)
    robot = start()
    robot.intake.want(learner.push(1, 0.1, **changes))
    assert robot.decided() == (1, reason)
    assert (robot.act(), robot.acting.last_rejected_n) == (0, 1)
    robot.intake.want(learner.push(2, 0.1))
    assert robot.decided() == (2, None)


def test_a_pack_that_was_changed_where_it_is_served_is_refused(start, learner):
    robot, announced = start(), learner.push(1, 0.1)
    (path,) = learner.folder.iterdir()
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    robot.intake.want(announced)
    assert robot.decided() == (1, Refusal.PULL_FAILED)
    assert not list(robot.store.incoming.iterdir()) and robot.act() == 0


def test_a_full_disk_refuses_and_the_next_one_is_taken(start, learner, monkeypatch):
    robot = start()

    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", full)
        patch.setattr(os, "pwrite", full)
        robot.intake.want(learner.push(1, 0.1))
        assert robot.decided() == (1, Refusal.NOT_KEPT)
    robot.intake.want(learner.push(2, 0.1))
    assert robot.decided() == (2, None)


def test_a_disk_that_cannot_note_which_pack_acts_is_tried_again(start, learner, monkeypatch):
    robot = start()
    robot.intake.want(learner.push(1, 0.1))
    assert robot.decided() == (1, None) and robot.act() == 1

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(WeightStore, "activate", full)
        robot.intake.note_active()
        assert "No space" in robot.next().problem and not robot.acting.is_noted
    while robot.intake._note is not None and not robot.intake._note.done():
        pass
    robot.intake.note_active()
    assert robot.next().version.n == 1 and robot.acting.is_noted


@pytest.mark.parametrize("error", [ZeroDivisionError, OSError, MemoryError])
def test_a_policy_that_raises_when_tried_ends_nothing(start, learner, monkeypatch, error):
    robot = start()

    def fails(*_: object) -> None:
        raise error("no")

    robot.act()
    with monkeypatch.context() as patch:
        patch.setattr(GaussianPolicy, "trial", fails)
        robot.intake.want(learner.push(1, 0.1))
        assert robot.decided() == (1, Refusal.TRIAL_FAILED)
    robot.intake.want(learner.push(2, 0.1))
    assert robot.decided() == (2, None)


def test_what_came_of_other_packs_is_cleared_away(start, learner):
    robot = start()
    for name in ("older.pack.part", "older.pack"):
        (robot.store.incoming / name).write_bytes(b"x" * 1000)
    robot.intake.want(learner.push(1, 0.1))
    assert robot.decided() == (1, None)
    assert not list(robot.store.incoming.iterdir())


def test_a_policy_that_was_killed_in_mid_pull_goes_on_with_what_has_come(start, learner, monkeypatch):
    """As kill -9 leaves it: a part in the folder, and nothing in memory."""
    announced = learner.push(1, 0.1)
    (path,) = learner.folder.iterdir()
    robot = start()
    robot.intake.close()
    part = robot.store.incoming / f"{announced.offer.digest.hex()[:32]}.pack.part"
    part.write_bytes(path.read_bytes()[: announced.offer.size_bytes // 2])
    asked = []
    real = pull._Talk.ask
    monkeypatch.setattr(pull._Talk, "ask", lambda self, *question: asked.append(question) or real(self, *question))
    again = start()
    again.intake.want(announced)
    assert again.decided() == (1, None)
    assert [(kind, offset) for kind, _, offset in asked] == [("send", announced.offer.size_bytes // 2)]
    assert again.act() == 1


def test_a_policy_that_was_killed_before_the_disk_had_what_acts_takes_the_latched_offer_again(
    start, learner, monkeypatch
):
    robot, announced = start(), learner.push(1, 0.1)
    acted, go_on = threading.Event(), threading.Event()

    def slow_disk(*_: object) -> None:
        acted.set()
        assert go_on.wait(PATIENCE_S)
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(WeightStore, "add", slow_disk)
        robot.intake.want(announced)
        assert acted.wait(PATIENCE_S) and robot.act() == 1, "it acts before the disk has it"
        robot.acting.after_answer(0)
        killed = start()  # what a process that is started now finds on the disk
        go_on.set()
        assert killed.acting.active.n == 0 and not killed.acting.knows(announced.offer)
        problem = robot.next()
        assert isinstance(problem, Noted) and "Input/output" in problem.problem
        assert robot.decided() == (1, None)
    killed.intake.want(announced)
    assert killed.decided() == (1, None) and killed.act() == 1


def test_memory_is_used_again_and_never_while_a_policy_looks_into_it(start, learner):
    robot = start()
    answers = {}
    for n in range(1, 9):
        robot.intake.want(learner.push(n, 0.05 * n))
        assert robot.decided() == (n, None)
        before = robot.acting.act(OBSERVATION, False, 0, 1)  # the older one still acts, on bytes that did not change
        assert n == 1 or np.array_equal(before.action, answers[n - 1])
        answers[n] = robot.acting.act(OBSERVATION, False, 0, 0).action
        robot.acting.after_answer(0)
        robot.intake.note_active()
        robot.next()
    assert len({answer.tobytes() for answer in answers.values()}) == 8
    assert len(robot.acting._memory_of_packs._buffers) <= 3


def test_a_closed_intake_ends_in_the_middle_of_a_pull(start, learner, monkeypatch):
    robot, held = start(), Held(monkeypatch)
    robot.intake.want(learner.push(1, 0.1))
    assert held.begun.acquire(timeout=PATIENCE_S)
    held.go_on.set()
    robot.intake.close()
    assert not robot.intake._thread.is_alive()
    again = start()
    again.intake.want(learner.push(2, 0.1))
    assert again.decided() == (2, None)
