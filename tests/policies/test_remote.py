"""A base in another process: what it says is executed, what it did not say in time and in order is not.

Over 400 lines: every kind of wrong server shares one harness.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inril_core.errors import ConfigError
from inril_core.finetune.config import load_config
from inril_core.finetune.learner import Learner
from inril_core.finetune.pretrain import pretrain
from inril_core.policies import GaussianPolicy, Memory, exploration_rng, policy_config, save_policy
from inril_core.policies import client as client_module
from inril_core.policies import server as server_module
from inril_core.policies.client import PolicyClient, RemoteError, Terms, piece_rows
from inril_core.policies.server import PolicyServer
from inril_core.wire import MAX_BODY_BYTES, BadFrame, Decoder, encode
from tests.finetune.point_task import contract, demos, make_episode, roll

D, A, CHUNK = 4, 6, 3
ROW = np.linspace(-0.5, 0.5, D, dtype=np.float32)
LATE_S = 0.3  # the question is sent by then, and an answer never comes
PATIENT_S = 30.0  # for a busy machine; nothing is asserted about it


def plan_of(row: np.ndarray) -> np.ndarray:
    return np.stack([np.resize(row, A) * (i + 1) / CHUNK for i in range(CHUNK)]).astype(np.float32)


@contextlib.contextmanager
def served(
    function: Callable = lambda row, explore, rng: plan_of(row), chunk: int = CHUNK, **more
) -> Iterator[PolicyServer]:
    with PolicyServer(function, "127.0.0.1:0", D, A, chunk, **more) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def terms(address: str, **changes) -> Terms:
    return replace(Terms(address, D, A, CHUNK, PATIENT_S, 0.5, 0.05, 2.0), **changes)


def remote(address: str, **changes):
    values = {"kind": "remote", "address": address, "chunk": CHUNK, "timeout_s": PATIENT_S, **changes}
    return policy_config(values).build(D, A)


class Scripted:
    """A server of this test's making: greets, and then answers each question as it is told; None: hangs up."""

    def __init__(self, *replies: Callable[[dict], bytes | None], hello: dict | None = None) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        greeting = {"type": "hello", "protocol": 1, "observation_size": D, "action_size": A, "chunk": CHUNK}
        self._hello, self._replies = greeting | (hello or {}), list(replies)
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection:
                    self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        connection.sendall(encode(self._hello))
        decoder = Decoder()
        while self._replies:
            while (question := decoder.next()) is None:
                data = connection.recv(1 << 16)
                if not data:
                    return
                decoder.feed(data)
            said = self._replies.pop(0)(question[0])
            if said is None:
                return
            connection.sendall(said)
        connection.recv(1)  # stays on the line

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()


def reply(shift: int = 0, plans: np.ndarray | None = None, **header) -> Callable[[dict], bytes]:
    body = plan_of(ROW)[None] if plans is None else plans
    return lambda question: encode({"type": "plan", "id": question["id"] + shift, **header}, body)


def refused(reason: str, client: PolicyClient) -> None:
    before = client.counts[reason]
    with pytest.raises(RemoteError) as error:
        client.ask(ROW[None], False, [0])
    assert error.value.reason == reason and client.counts[reason] == before + 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.floats(width=32), max_size=6), max_size=4), st.integers(1, 40))
def test_frames_survive_any_cut_of_the_stream(bodies: list[list[float]], piece: int) -> None:
    sent = [({"n": n}, np.array(body, np.float32)) for n, body in enumerate(bodies)]
    stream, decoder, got = b"".join(encode(h, b) for h, b in sent), Decoder(), []
    for first in range(0, len(stream), piece):
        decoder.feed(stream[first : first + piece])
        while (frame := decoder.next()) is not None:
            got.append(frame)
    assert [h["n"] for h, _ in got] == [h["n"] for h, _ in sent]
    for (_, a), (_, b) in zip(got, sent, strict=True):
        np.testing.assert_array_equal(a, b)


def frame(header: bytes, body: bytes = b"", magic: bytes = b"INR1", body_bytes: int | None = None) -> bytes:
    return struct.pack("<4sII", magic, len(header), len(body) if body_bytes is None else body_bytes) + header + body


BAD_FRAMES = {
    "not ours": b"GET / HTTP/1.1\r\n\r\n",
    "too large": frame(b"{}", body_bytes=MAX_BODY_BYTES + 1),
    "huge header": struct.pack("<4sII", b"INR1", 1 << 31, 0),
    "not JSON": frame(b"{'a'"),
    "not an object": frame(b"[1]"),
    "deep": frame(b"[" * 60000),
    "another shape": frame(json.dumps({"shape": [3]}).encode(), bytes(8)),
    "negative": frame(json.dumps({"shape": [-1, -2]}).encode(), bytes(8)),
    "no shape": frame(b"{}", bytes(8)),
    "empty, but huge": frame(json.dumps({"shape": [0] + [2**31 - 1] * 3}).encode()),
    "many axes": frame(json.dumps({"shape": [1] * 9}).encode(), bytes(4)),
    "no number": frame(json.dumps({"shape": [True]}).encode(), bytes(4)),
}


@pytest.mark.parametrize("name", BAD_FRAMES)
def test_what_is_no_frame_is_refused_by_both_sides(name: str) -> None:
    """Pins: memory taken on an announcement, a server that one bad client ends, a plan read from noise."""
    decoder = Decoder()
    decoder.feed(BAD_FRAMES[name])
    with pytest.raises(BadFrame):
        decoder.next()
    with served() as server:
        host, port = server.server_address
        with socket.create_connection((host, port), PATIENT_S) as client:
            client.sendall(BAD_FRAMES[name])
            decoder, said = Decoder(), []
            while data := client.recv(1 << 16):
                decoder.feed(data)
            while (got := decoder.next()) is not None:
                said.append(got[0]["type"])
        assert said == ["hello", "error"]
        assert PolicyClient(terms(server.address)).ask(ROW[None], False, [0]).shape == (1, CHUNK, A)
    with Scripted(lambda _: BAD_FRAMES[name]) as bad:
        refused("garbage", PolicyClient(terms(bad.address)))


def test_it_executes_what_the_server_planned_and_asks_once_a_plan() -> None:
    asked = []

    def function(row: np.ndarray, explore: bool, rng: np.random.Generator) -> np.ndarray:
        asked.append((explore, rng.random()))
        return plan_of(row) * 4.0

    with served(function) as server:
        policy, memory = remote(server.address), Memory()
        made = [policy.act(ROW + t, t > 2, exploration_rng(7, t), memory) for t in range(5)]
        assert len(asked) == 2 and [a[0] for a in asked] == [False, True]
        assert [d.chunk_index for d in made] == [0, 1, 2, 0, 1]
        wanted = np.concatenate([plan_of(ROW), plan_of(ROW + 3)[:2]]) * 4.0
        np.testing.assert_allclose(np.stack([d.action for d in made]), wanted.clip(-1, 1), atol=1e-6)
        policy.act(ROW, False, exploration_rng(7, 0), Memory())
        assert asked[2][1] == asked[0][1], "the same step draws the same noise"
        assert not list(policy.parameters())


@pytest.mark.parametrize(
    ("reason", "answer"),
    [
        ("not_finite", reply(plans=np.full((1, CHUNK, A), np.nan, np.float32))),
        ("shape", reply(plans=np.zeros((1, CHUNK - 1, A), np.float32))),
        ("shape", reply(plans=np.zeros((1, CHUNK, A + 1), np.float32))),
        ("shape", reply(plans=np.zeros((2, CHUNK, A), np.float32))),
        ("shape", reply(plans=np.zeros((CHUNK, A), np.float32))),
        ("stale", reply(age_s=0.6)),
        ("stale", reply(age_s=-1.0)),
        ("stale", reply(age_s="young")),
        ("mismatch", reply(shift=1)),
        ("server", lambda q: encode({"type": "error", "id": q["id"], "message": "out of memory"})),
        ("connection", lambda _: None),
    ],
)
def test_an_answer_that_must_not_be_executed_is_refused_and_counted(reason: str, answer: Callable) -> None:
    with Scripted(answer, reply()) as server:
        client = PolicyClient(terms(server.address, retry_min_s=1e-9, retry_max_s=1e-9))
        refused(reason, client)
        if reason not in ("mismatch", "connection"):  # the connection is as good as before
            assert client.ask(ROW[None], False, [0]).shape == (1, CHUNK, A)


def test_an_answer_that_comes_late_is_not_taken_for_the_next() -> None:
    """Pins: acting on the observation before: the late answer and the right one arrive together."""
    late = plan_of(ROW)[None] * 0.0 + 0.9

    def both(question: dict) -> bytes:
        return reply(-1, plans=late)(question) + reply()(question)

    with Scripted(reply(), lambda _: b"", both) as server:
        client = PolicyClient(terms(server.address))
        client.ask(ROW[None], False, [0])
        with pytest.raises(RemoteError, match="in time"):
            client.ask(ROW[None], False, [0], timeout_s=LATE_S)
        np.testing.assert_allclose(client.ask(ROW[None], False, [0])[0], plan_of(ROW), atol=1e-6)
        assert client.counts == {"timeout": 1, "stale": 1, "ok": 2}


@pytest.mark.parametrize("hello", [{"action_size": 7}, {"observation_size": 5}, {"protocol": 2}, {"chunk": CHUNK - 1}])
def test_a_server_of_another_task_is_refused(hello: dict) -> None:
    with Scripted(reply(), hello=hello) as server:
        refused("mismatch", PolicyClient(terms(server.address)))


def test_it_pauses_longer_and_longer_before_it_connects_again_and_never_waits_for_it() -> None:
    """Pins: a control loop that hammers, or sleeps on, a dead server."""
    now = [100.0]
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    client = PolicyClient(terms(address, retry_min_s=1.0, retry_max_s=3.0), clock=lambda: now[0])
    for pause_s in (1.0, 2.0, 3.0, 3.0):
        refused("connection", client)
        now[0] += 0.9 * pause_s
        refused("not_connected", client)
        now[0] += 0.2 * pause_s


def test_a_name_that_is_not_resolved_in_time_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pins: a control loop that waits for a name server; one more thread at each question."""
    go, asked, real = threading.Event(), [], socket.getaddrinfo

    def slow(host, *rest, **more):
        if host != "policy.lab":
            return real(host, *rest, **more)
        asked.append(host)
        go.wait(PATIENT_S)
        return real("127.0.0.1", *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    with served() as server:
        port = server.address.rpartition(":")[2]
        address = terms(f"policy.lab:{port}", timeout_s=0.01, retry_min_s=0.0, retry_max_s=0.0)
        client = PolicyClient(address, clock=lambda: 0.0)  # starting the resolver costs none of the 10 ms
        refused("connection", client)
        refused("connection", client)
        assert asked == ["policy.lab"]
        go.set()
        assert client.ask(ROW[None], False, [0], timeout_s=PATIENT_S).shape == (1, CHUNK, A)
    unknown = PolicyClient(terms("no-such-host.invalid:1", retry_min_s=0.0, retry_max_s=0.0))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: (_ for _ in ()).throw(socket.gaierror("unknown name")))
    for _ in range(2):
        with pytest.raises(RemoteError, match="unknown name"):
            unknown.ask(ROW[None], False, [0])


def test_an_idle_client_gives_way_where_all_places_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pins: sixteen forgotten connections that lock the robot out; a client at work that is thrown out."""
    monkeypatch.setattr(server_module, "MAX_CLIENTS", 2)
    monkeypatch.setattr(server_module, "GIVES_WAY_S", PATIENT_S)
    with served() as server:
        clients = [PolicyClient(terms(server.address, retry_min_s=0.0, retry_max_s=0.0)) for _ in range(3)]
        for client in clients[:2]:
            client.ask(ROW[None], False, [0])
        with pytest.raises(RemoteError, match="2 clients already"):
            clients[2].ask(ROW[None], False, [0])
        monkeypatch.setattr(server_module, "IDLE_S", 0.0)
        clients[0].ask(ROW[None], False, [0])  # the other one has been idle longer
        clients[2].ask(ROW[None], False, [0])
        clients[0].ask(ROW[None], False, [0])
        refused("connection", clients[1])


def test_a_frame_that_drips_in_is_given_up_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pins: a client that keeps a place for ever with a byte now and then."""
    monkeypatch.setattr(server_module, "FRAME_TIMEOUT_S", 10.0)
    six_s_a_look = itertools.count(0.0, 6.0)
    with (
        served(clock=six_s_a_look.__next__) as server,
        socket.create_connection(tuple(server.server_address[:2]), PATIENT_S) as connection,
    ):
        decoder = Decoder()
        while decoder.next() is None:
            decoder.feed(connection.recv(1 << 16))
        connection.sendall(b"I")
        connection.sendall(b"N")
        assert connection.recv(1) == b""


def test_a_client_that_asks_again_is_answered_for_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pins: a slow server that works through questions nobody waits for any more."""
    begun, go, asked = threading.Event(), threading.Event(), []

    def function(row: np.ndarray, explore: bool, rng: np.random.Generator) -> np.ndarray:
        asked.append(round(float(row[0])))
        if asked[-1] == 1:
            begun.set()
            assert go.wait(PATIENT_S)
        return plan_of(row)

    def question(n: int) -> np.ndarray:
        return np.full((1, D), n, np.float32)

    with served(function) as server:
        client = PolicyClient(terms(server.address))
        client.ask(question(0), False, [0])
        for n in (1, 2):
            with pytest.raises(RemoteError, match="in time"):
                client.ask(question(n), False, [0], timeout_s=LATE_S)
            assert begun.wait(PATIENT_S)
        send = client._send
        monkeypatch.setattr(client, "_send", lambda *arguments: (send(*arguments), go.set()))
        np.testing.assert_allclose(client.ask(question(3), False, [0])[0], plan_of(question(3)[0]).clip(-1, 1))
        assert asked == [0, 1, 3] and client.counts["stale"] == 2


def test_two_clients_at_once_get_their_own_answers() -> None:
    with served() as server:
        wrong: list[int] = []

        def ask(which: int) -> None:
            client = PolicyClient(terms(server.address))
            for n in range(30):
                row = ROW * which * n / 100
                if not np.allclose(client.ask(row[None], False, [n])[0], plan_of(row), atol=1e-6):
                    wrong.append(which)

        threads = [threading.Thread(target=ask, args=(which,)) for which in (1, -1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


def test_what_the_function_raises_reaches_the_client() -> None:
    def function(row: np.ndarray, explore: bool, rng: np.random.Generator) -> np.ndarray:
        if row[0] > 0:
            raise KeyError("camera")
        return plan_of(row) * (np.nan if row[1] > 0 else 1.0)

    with served(function) as server:
        client = PolicyClient(terms(server.address))
        for row, message in ((np.ones(D), "camera"), (np.array([-1, 1, 0, 0]), "finite")):
            with pytest.raises(RemoteError, match=message):
                client.ask(row[None].astype(np.float32), False, [0])
        assert client.ask(-np.ones((1, D), np.float32), False, [0]).shape == (1, CHUNK, A)


@contextlib.contextmanager
def process(policy_file: Path, address: str = "127.0.0.1:0") -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-m", "inril_core.policies.server", "--policy", str(policy_file), "--address", address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}) as it:
        assert it.stdout is not None
        try:
            yield it, it.stdout.readline().split()[-1]
        finally:
            it.kill()


def test_a_killed_server_is_an_error_and_a_restarted_one_is_found_again(tmp_path: Path) -> None:
    torch.manual_seed(0)
    local = GaussianPolicy(D, A)
    save_policy(tmp_path / "base.inril", local, {})
    wanted = local.act(ROW, False, exploration_rng(0, 0)).action
    with process(tmp_path / "base.inril") as (first, address):
        policy = remote(address, chunk=1, retry_min_s=1e-6, retry_max_s=1e-6)
        np.testing.assert_allclose(policy.act(ROW, False, exploration_rng(0, 0)).action, wanted, atol=1e-6)
        first.send_signal(signal.SIGKILL)
        first.wait(PATIENT_S)
    for _ in range(3):
        with pytest.raises(RemoteError) as error:
            policy.act(ROW, False, exploration_rng(0, 0))
        assert error.value.reason == "connection"
    with process(tmp_path / "base.inril", address):
        np.testing.assert_allclose(policy.act(ROW, False, exploration_rng(0, 0)).action, wanted, atol=1e-6)


def residual_config(address: str, **changes):
    base = {"kind": "remote", "address": address, "chunk": CHUNK, "timeout_s": PATIENT_S}
    policy = {"kind": "residual", "base": base, "freeze_base": True, "hidden": [16], "scale": 0.5}
    small = {
        "rl.hidden": [16],
        "rl.batch": 16,
        "schedule.rewards_before_actor": 0,
        "schedule.warmup_steps": 10,
        "schedule.critic_warmup_updates": 5,
    }
    small |= {"schedule.budget_steps": 400, "metrics_every_updates": 10}
    return load_config("rl_only").changed(**{"policy": policy, **small, **changes})


def test_a_residual_over_it_acts_and_trains_without_asking_again(tmp_path: Path) -> None:
    """Pins: training on what the server would say now instead of what it said; a learner that needs it every step."""
    asked: list[int] = []

    def function(row: np.ndarray, explore: bool, rng: np.random.Generator) -> np.ndarray:
        asked.append(1)
        return plan_of(row) * 0.5

    with served(function) as server:
        config, shown = residual_config(server.address), demos(2)
        policy = pretrain(config, contract(), shown)
        assert not asked
        learner = Learner(config, contract(), policy, shown, tmp_path)
        assert len(asked) == sum(demo.steps for demo in shown), "each demonstrated step once"
        memory, aux = Memory(), []

        def act(row: np.ndarray, step: int) -> np.ndarray:
            made = policy.act(row, True, exploration_rng(0, step), memory)
            aux.append(made.aux)
            return made.action

        episode = roll(act, 3)
        episode = replace(episode, aux=np.stack(aux))
        asked.clear()
    inputs = policy.inputs(episode)
    np.testing.assert_array_equal(inputs[:-1, D:].numpy(), np.stack(aux))
    before = learner.parts.actor.value.clone()
    learner.ingest(episode)
    for _ in range(10):
        learner.train_step()
    assert not asked and not torch.equal(before, learner.parts.actor.value)
    assert policy.plan_steps == CHUNK, "a plan is given up where it was not followed"
    assert np.isfinite(policy.trial(episode.observations)).all() and not asked


def test_where_nobody_acted_its_last_answer_stands_in_and_a_human_step_is_asked() -> None:
    with served(lambda row, explore, rng: np.full((CHUNK, A), 0.7, np.float32)) as server:
        policy = residual_config(server.address).policy.build(D, A)
        aux = np.full((4, A), np.nan, np.float32)
        aux[0] = 0.1
        source = np.array([0, 2, 1, 3])
        made = replace(make_episode(np.zeros((5, D)), np.zeros((4, A)), None, source=source), aux=aux)
        np.testing.assert_allclose(policy.inputs(made)[:, D].numpy(), [0.1, 0.1, 0.7, 0.7, 0.7], atol=1e-6)


def test_demonstrations_with_large_images_are_asked_for_in_pieces_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pins: 64 observations with two images of 224 x 224 are more than a frame holds; no demonstration came through."""
    monkeypatch.setattr(client_module, "MAX_BODY_BYTES", 4 * D * 5)
    sizes: list[int] = []

    def counted(server: PolicyServer, header: dict, observations: np.ndarray) -> tuple[np.ndarray, float]:
        sizes.append(len(observations))
        return plans(server, header, observations)

    plans = PolicyServer.plans
    monkeypatch.setattr(PolicyServer, "plans", counted)
    rows = np.linspace(-1, 1, 12 * D, dtype=np.float32).reshape(12, D)
    with served() as server:
        made = remote(server.address).answers(rows, np.arange(12), 0)
    assert sizes == [5, 5, 2]
    np.testing.assert_allclose(made, [plan_of(row)[0] for row in rows], atol=1e-6)
    assert piece_rows(MAX_BODY_BYTES) == 1


def test_what_cannot_work_is_refused_when_it_is_read() -> None:
    base = {"kind": "remote"}
    with pytest.raises(ConfigError, match="freeze_base"):
        policy_config({"kind": "residual", "base": base})
    with pytest.raises(ConfigError, match="freeze_base forbids|nothing to project"):
        load_config("interleave").changed(policy={"kind": "residual", "base": base, "freeze_base": True})
    for address in ("nowhere", "host:", ":1", "host:99999", "a..b:7777", f"{'h' * 70}:7777"):
        with pytest.raises(ConfigError, match="address"):
            policy_config({"kind": "remote", "address": address})
    with pytest.raises(ConfigError, match="address"):
        PolicyServer(lambda *_: None, "127.0.0.1:x", D, A, 1)
