"""Pins: a base that is slower than a tick and holds the robot at each question; a plan that is executed from its first
row although time has passed; the plan of another client's observation."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import pytest

from inril_core.policies.ahead import AheadServer, NoPlan
from inril_core.policies.client import PolicyClient, RemoteError, Terms

D, A, ROWS, CHUNK, PERIOD_S = 3, 2, 12, 4, 0.1
PATIENT_S = 30.0  # for a busy machine; nothing is asserted about it


class Slow:
    """A model whose plans are made when the test says so. Row n of a plan: the observation's first number plus n."""

    def __init__(self) -> None:
        self.go, self.asked = threading.Semaphore(0), []

    def __call__(self, row: np.ndarray, explore: bool, rng: np.random.Generator) -> np.ndarray:
        self.asked.append(float(row[0]))
        assert self.go.acquire(timeout=PATIENT_S)
        if row[0] < 0.0:
            raise RuntimeError("out of memory")
        return np.repeat(row[0] + 0.01 * np.arange(ROWS, dtype=np.float32)[:, None], A, 1)


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@contextlib.contextmanager
def serving(model: Slow, clock: Clock) -> Iterator[AheadServer]:
    with AheadServer(model, "127.0.0.1:0", D, A, CHUNK, PERIOD_S, clock=clock) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        for _ in range(20):
            model.go.release()
        server.shutdown()
        thread.join()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def model() -> Slow:
    return Slow()


@pytest.fixture
def server(model: Slow, clock: Clock) -> Iterator[AheadServer]:
    with serving(model, clock) as it:
        yield it


def ask(server: AheadServer, value: float, patient: bool = False):
    return server.made(np.full(D, value, np.float32), False, np.random.default_rng(0), patient)


def finish(server: AheadServer, model: Slow) -> None:
    """Let the plan that this thread asked for be made, and wait for it."""
    model.go.release()
    wait([server._own.making.plan], timeout=PATIENT_S)


def test_a_question_is_answered_by_the_plan_before_from_the_row_that_is_due(server, model, clock) -> None:
    with pytest.raises(NoPlan, match="no plan is finished yet"):
        ask(server, 0.1)
    clock.now_s += 0.1
    with pytest.raises(NoPlan, match="no plan is finished yet"):
        ask(server, 0.2)
    finish(server, model)
    clock.now_s += 0.2
    plan, age_s = ask(server, 0.3)
    assert age_s == pytest.approx(0.3)
    np.testing.assert_allclose(plan[:, 0], 0.1 + 0.01 * np.arange(3, ROWS), atol=1e-6)
    finish(server, model)
    assert model.asked == pytest.approx([0.1, 0.3]), "one plan at a time, each from the newest observation"
    clock.now_s += 0.1
    plan, age_s = ask(server, 0.4)
    assert (age_s, float(plan[0, 0])) == pytest.approx((0.1, 0.31))


def test_until_the_next_plan_is_made_the_last_one_is_followed_until_it_is_used_up(server, model, clock) -> None:
    with pytest.raises(NoPlan):
        ask(server, 0.1)
    finish(server, model)
    for due in range(1, ROWS - CHUNK + 1):
        clock.now_s += PERIOD_S
        plan, age_s = ask(server, 0.5)
        assert (age_s, float(plan[0, 0])) == pytest.approx((due * PERIOD_S, 0.1 + 0.01 * due))
    clock.now_s += PERIOD_S
    with pytest.raises(NoPlan, match="used up"):
        ask(server, 0.6)
    finish(server, model)  # its observation is as old: this one is used up, too
    clock.now_s += PERIOD_S
    with pytest.raises(NoPlan, match="used up"):
        ask(server, 0.7)
    finish(server, model)
    clock.now_s += PERIOD_S
    assert float(ask(server, 0.8)[0][0, 0]) == pytest.approx(0.71)


def test_a_patient_question_is_answered_from_its_own_observation(server, model) -> None:
    with pytest.raises(NoPlan):
        ask(server, 0.1)
    for _ in range(2):
        model.go.release()
    np.testing.assert_allclose(ask(server, 0.9, patient=True)[0], 0.9)


def test_another_connection_is_never_given_the_plan(server, model) -> None:
    with pytest.raises(NoPlan):
        ask(server, 0.1)
    finish(server, model)
    with ThreadPoolExecutor(1) as other, pytest.raises(NoPlan):
        other.submit(ask, server, 0.2).result(PATIENT_S)
    assert float(ask(server, 0.3)[0][0, 0]) == pytest.approx(0.1)


def test_what_the_model_raises_is_told_once_and_it_is_asked_again(server, model, clock) -> None:
    with pytest.raises(NoPlan):
        ask(server, -1.0)
    finish(server, model)
    with pytest.raises(RuntimeError, match="out of memory"):
        ask(server, 0.1)
    finish(server, model)
    assert float(ask(server, 0.2)[0][0, 0]) == pytest.approx(0.1)


def test_a_client_refuses_a_plan_that_is_too_old_and_takes_the_next(server, model, clock) -> None:
    """Pins: a plan from before a reset or a takeover that is executed after it."""
    client = PolicyClient(Terms(server.address, D, A, CHUNK, PATIENT_S, 0.35, 0.05, 2.0))

    def question(value: float) -> float:
        return float(client.ask(np.full((1, D), value, np.float32), False, [0])[0, 0, 0])

    with pytest.raises(RemoteError, match="no plan is finished"):
        question(0.1)
    model.go.release()
    clock.now_s += 0.4
    refused = RemoteError("", "")
    while "rests on an observation" not in str(refused):  # it may still be at the first plan
        with pytest.raises(RemoteError) as error:
            question(0.2)
        refused = error.value
        assert refused.reason in ("server", "stale")
    assert client.counts["stale"] == 1
    patient = np.full((1, D), 0.3, np.float32)
    model.go.release()
    model.go.release()
    assert client.ask(patient, False, [0], timeout_s=PATIENT_S)[0, 0, 0] == pytest.approx(0.3)
