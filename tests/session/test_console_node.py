"""Pins: a button that does nothing, a stop that waits for the session, an observer that costs an unwatched graph."""

from __future__ import annotations

import asyncio
import json
import math
import socketserver
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("rclpy")

from inril_common.convert import stamp_to_ns
from inril_common.qos import LATCHED, TICK
from inril_msgs.msg import ArbiterStatus, ExecutedAction, PageInput, PolicyStatus, SessionStatus
from inril_msgs.srv import LabelEpisode, RollBack, SessionCommand
from inril_session.console_node import ConsoleNode
from websockets.asyncio.client import ClientConnection, connect

from inril_core.console.access import load_or_create_token
from inril_core.console.driving import PersonInput
from inril_core.errors import ConfigError
from inril_core.evaluation.session.folder import SessionFolder
from inril_core.evaluation.session.make import Wish, make_session
from inril_core.session.ledger import EpisodeResult, Ledger
from tests.control.test_policy_node_evaluation import save
from tests.sim.nodes import Bench, bench

PATIENT_S = 60.0


class Arbiter(socketserver.ThreadingUnixStreamServer):
    """The arbiter's control socket, which records what it is asked."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        self.asked: list[dict[str, Any]] = []
        super().__init__(str(path), _Connection)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Connection(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        request = json.loads(self.rfile.readline())
        self.server.asked.append(request)  # type: ignore[attr-defined]
        answer = {"success": True, "message": f"{request['ask']} by {request['operator_name']}"}
        self.wfile.write(json.dumps(answer).encode() + b"\n")


class Console(Bench):
    """The node with the arbiter's socket, the services that it calls, and a page's connection."""

    def __init__(self, node: ConsoleNode, run_dir: Path) -> None:
        super().__init__(node)
        self._run_dir = run_dir
        self.requests: list[Any] = []
        for kind, name in (
            (SessionCommand, "session/command"),
            (LabelEpisode, "session/label_episode"),
            (RollBack, "policy/roll_back"),
        ):
            self.client.create_service(kind, name, self._answer)

    def _answer(self, request: Any, response: Any) -> Any:
        self.requests.append(request)
        response.success, response.message = True, "as you say"
        return response

    def start(self) -> None:
        super().start()
        self.port = self.node._console.port
        self._token = load_or_create_token(self._run_dir / "console.token").reveal

    def talk(self, work: Callable[[ClientConnection], Awaitable[Any]]) -> Any:
        """Run a page's conversation in a thread while the node spins."""
        results: list[Any] = []

        async def run() -> Any:
            protocols: Any = ["inril", f"token.{self._token}"]
            address = f"ws://127.0.0.1:{self.port}/ws"
            async with connect(address, subprotocols=protocols, open_timeout=PATIENT_S, proxy=None) as page:
                await page.send('{"kind":"hello","name":"Ada"}')
                return await asyncio.wait_for(work(page), PATIENT_S)

        def target() -> None:
            try:
                results.append(asyncio.run(run()))
            except BaseException as error:
                results.append(error)

        threading.Thread(target=target, daemon=True).start()
        self.until(lambda: results, "the end of the conversation", 2 * PATIENT_S)
        if isinstance(results[0], BaseException):
            raise results[0]
        return results[0]


async def hear(page: ClientConnection, kind: str, fits: Callable[[Any], bool] = lambda _: True) -> Any:
    while True:
        text = await page.recv()
        if isinstance(text, str) and (said := json.loads(text))["kind"] == kind and fits(said):
            return said


async def take(page: ClientConnection) -> None:
    await page.send('{"kind":"take_control","from_id":""}')
    await hear(page, "control", lambda said: said["holder"] == "Ada")


@contextmanager
def made(run_dir: Path, **parameters: Any) -> Iterator[Console]:
    settings = {"run_dir": str(run_dir), "console_port": 0, "drive_timeout_s": 5.0, "graph_id": "g", **parameters}
    with bench(ConsoleNode, lambda node: Console(node, run_dir), **settings) as console:
        yield console


def test_what_the_page_asks_reaches_the_graph_in_the_persons_name(tmp_path: Path) -> None:
    arbiter = Arbiter(tmp_path / "a.sock")
    with made(tmp_path / "run", control_socket=str(tmp_path / "a.sock")) as console:
        inputs = console.hear(PageInput, "page_input")

        async def work(page: ClientConnection) -> None:
            beat = (await hear(page, "beat"))["beat"]
            await take(page)
            for asked, name in (
                ({"kind": "session_word", "word": "success", "episode_id": "e1"}, "SessionWord"),
                ({"kind": "label", "episode_id": "e0", "label": "failure", "tag": "lost"}, "Label"),
                ({"kind": "roll_back_to", "run_id": "r", "n": 3}, "RollBackTo"),
                ({"kind": "unpin"}, "Unpin"),
                ({"kind": "arm_again"}, "ArmAgain"),
            ):
                await page.send(json.dumps(asked))
                said = await hear(page, "notice", lambda said, name=name: said["asked"] == name)
                assert said["level"] == "info", said
            drive = {"kind": "drive", "seq": 4, "beat": beat, "motion": [0, -0.5, 0, 0, 0, 0], "gripper": None}
            while not inputs:
                beat = (await hear(page, "beat"))["beat"]
                drive |= {"seq": drive["seq"] + 1, "beat": beat}
                await page.send(json.dumps({**drive, "grab": True, "release": False}))

        console.talk(work)
        console.until(lambda: len(inputs) > 0, "page_input")
        assert inputs[0].operator_name == "Ada" and inputs[0].grab and list(inputs[0].motion)[1] == -0.5
        session, label, back, unpin = console.requests
        assert (session.command, session.episode_id, session.by) == (SessionCommand.Request.SUCCESS, "e1", "Ada")
        assert (label.episode_id, label.label, label.tag, label.by) == ("e0", 2, "lost", "Ada")
        assert (back.run_id, back.n, back.unpin, unpin.unpin) == ("r", 3, False, True)
        assert {request.graph_id for request in console.requests} == {"g"}
        assert [(a["ask"], a["operator_name"], a["graph_id"]) for a in arbiter.asked] == [("arm", "Ada", "g")]
    arbiter.shutdown()


def test_what_waited_in_the_console_is_as_old_as_it_is(tmp_path: Path) -> None:
    """Pins: a node that stalled and gave what a page had said long ago as new: the arm moved on for nobody."""
    with made(tmp_path / "run") as console:
        inputs = console.hear(PageInput, "page_input")
        node = console.node
        console.until(lambda: node._page_input.get_subscription_count() == 1, "subscription")
        said = PersonInput("1-a", "Ada", 0, (0.5, 0.0, 0.0, 0.0, 0.0, 0.0), math.nan, True, False)
        node._console.driven.put((said, node.mono_ns() - 2_000_000_000))
        node._guard.trigger()
        console.until(lambda: inputs, "page_input")
        assert stamp_to_ns(inputs[0].header.stamp) <= node.ros_ns() - 1_900_000_000


def test_the_stop_works_while_the_node_hangs(tmp_path: Path) -> None:
    """The executor is not spun at all: nothing but the socket is needed."""
    arbiter = Arbiter(tmp_path / "a.sock")
    with made(tmp_path / "run", control_socket=str(tmp_path / "a.sock")) as console:

        async def work(page: ClientConnection) -> str:
            await page.send('{"kind":"stop"}')
            return str((await hear(page, "notice"))["text"])

        console.until = lambda condition, what, timeout_s=PATIENT_S: _wait(condition)  # type: ignore[method-assign]
        assert console.talk(work) == "Stop by Ada: disarm by Ada"
    assert [asked["ask"] for asked in arbiter.asked] == ["disarm"]
    arbiter.shutdown()


def _wait(condition: Callable[[], Any]) -> None:
    waiting = threading.Event()
    deadline = time.monotonic() + 2 * PATIENT_S
    while not condition() and time.monotonic() < deadline:
        waiting.wait(0.01)


def test_a_dead_arbiter_is_said_and_not_taken_for_a_stop(tmp_path: Path) -> None:
    with made(tmp_path / "run", control_socket=str(tmp_path / "nobody.sock")) as console:

        async def work(page: ClientConnection) -> Any:
            await page.send('{"kind":"stop"}')
            return await hear(page, "notice")

        said = console.talk(work)
        assert said["level"] == "error"
        assert "STOP FAILED" in said["text"] and "the arm's own watchdog holds" in said["text"]


def test_the_page_is_told_how_things_are_and_ticks_are_heard_only_while_it_is_open(tmp_path: Path) -> None:
    weights = tmp_path / "run" / "weights"
    weights.mkdir(parents=True)
    packs = [{"run_id": "r", "n": n, "size_bytes": 9, "digest": f"{n}" * 64, "mac": "0" * 64} for n in (1, 2)]
    state = {"run_id": "r", "highest_n": 2, "pinned": False, "active": "2" * 64, "packs": packs}
    (weights / "state.json").write_text(json.dumps(state))
    with made(tmp_path / "run") as console:
        arbiter = console.client.create_publisher(ArbiterStatus, "arbiter_status", LATCHED)
        session = console.client.create_publisher(SessionStatus, "session_status", LATCHED)
        policy = console.client.create_publisher(PolicyStatus, "policy_status", LATCHED)
        executed = console.client.create_publisher(ExecutedAction, "executed_action", TICK)
        target = console.client.count_subscribers
        node = console.node

        def say() -> None:
            arbiter.publish(ArbiterStatus(armed=True, in_control=1, faults=["link_stale"], details=["front is old"]))
            session.publish(SessionStatus(state="waiting", segment="train", waiting_for="a recorder", episodes=3))
            policy.publish(PolicyStatus(active_run_id="r", active_n=2, pending_n=-1, last_rejection="wild_action"))

        say()
        console.until(lambda: node._heard.newest("policy") and node._heard.newest("session"), "statuses")
        assert target("/robot_state") == target("/target") == target("/executed_action") == 0

        async def work(page: ClientConnection) -> None:
            said = await hear(page, "safety", lambda said: said["heard"])
            assert said["armed"] and said["in_control"] == "human"
            assert said["faults"] == [{"name": "link_stale", "detail": "front is old"}]
            said = await hear(page, "session_state", lambda said: said["heard"])
            assert (said["waiting_for"], said["episodes"], said["eta_s"]) == ("a recorder", 3, 0.0)
            said = await hear(page, "policy_state", lambda said: said["versions"])
            assert said["last_rejection"] == "wild_action" and [v["n"] for v in said["versions"]] == [1, 2]
            await hear(page, "disagreement", lambda said: set(said["distance"]) == {0.25})

        def step() -> None:
            say()
            if executed.get_subscription_count():
                message = ExecutedAction(episode_id="e", step=1, source=1, handover=1, disagreement=0.25)
                executed.publish(message)

        timer = console.client.create_timer(0.05, step)
        console.talk(work)
        console.client.destroy_timer(timer)
        console.until(lambda: target("/robot_state") == 0, "the end of the subscriptions")


def test_the_start_that_is_laid_out_is_shown_as_wanted_and_no_longer(tmp_path: Path) -> None:
    starts = tmp_path / "run" / "starts"
    starts.mkdir(parents=True)
    Image.fromarray(np.zeros((24, 32, 3), np.uint8)).save(starts / "12-front.png")
    with made(tmp_path / "run") as console:
        session = console.client.create_publisher(SessionStatus, "session_status", LATCHED)
        state = ["resetting"]
        timer = console.client.create_timer(0.05, lambda: session.publish(SessionStatus(state=state[0], start=12)))

        async def work(page: ClientConnection) -> None:
            said = await hear(page, "wanted_start", lambda said: said["start"] == 12)
            assert [picture["camera"] for picture in said["pictures"]] == ["front"] and said["pictures"][0]["jpeg"]
            state[0] = "running"
            await hear(page, "wanted_start", lambda said: said["start"] == -1 and not said["pictures"])

        console.talk(work)
        console.client.destroy_timer(timer)


def test_a_page_shows_what_was_said_of_trials_and_no_policys_name(tmp_path: Path) -> None:
    """Labels lie beside the results; a page that showed the results alone told an operator that none was taken."""
    root = tmp_path / "run"
    subjects = {"unmistakable-one": save(tmp_path / "1", 1), "unmistakable-two": save(tmp_path / "2", 2)}
    make_session(root, Wish("insert_leg", subjects, "unmistakable-one", {"full": 2}, 0.3, failure_tags=("lost",)))
    folder = SessionFolder(root)
    ledger = Ledger(folder.paths.session)
    for number in range(2):
        source, reason = ("cell", "") if number == 0 else ("safety", "safety stop: limit_stop")
        ledger.append(
            EpisodeResult(
                *(0, "eval:4:episodes", number, f"e{number}", "eval", folder.plan.trials[number].seed, 9, number == 0),
                *(True, source, reason),
                *(0, 0, 1.0, 1.0, True),
            )
        )
    told: list[str] = []
    with made(root) as console:
        session = console.client.create_publisher(SessionStatus, "session_status", LATCHED)
        status = SessionStatus(state="running", segment="eval", trials=4, failure_tags=["lost"])
        timer = console.client.create_timer(0.05, lambda: session.publish(status))

        newest: dict[str, Any] = {}

        async def work(page: ClientConnection) -> None:
            async def until(fits: Callable[[], bool]) -> None:
                while not fits():
                    text = await page.recv()
                    if isinstance(text, str):
                        told.append(text)
                        said = json.loads(text)
                        newest[said["kind"]] = said

            def point(number: int) -> Any:
                return newest["episodes"]["points"][number]

            await until(lambda: "episodes" in newest and newest.get("session_state", {}).get("heard"))
            assert (newest["session_state"]["trials"], newest["session_state"]["failure_tags"]) == (4, ["lost"])
            said = point(1)
            assert (said["success"], said["by"], said["tag"], said["index"]) == (False, "safety", "safety stop", 1)
            folder.label(0, False, "lost", "Bob", 1.0)
            await until(lambda: point(0)["by"] == "Bob")
            assert (point(0)["success"], point(0)["tag"], point(0)["task_says"]) == (False, "lost", "success")
            folder.label(0, None, "", "Bob", 2.0)
            await until(lambda: point(0)["success"] and point(0)["by"] == "cell")

        console.talk(work)
        console.client.destroy_timer(timer)
    assert not [text for text in told if "unmistakable" in text]


def test_a_console_whose_port_is_taken_says_so(tmp_path: Path) -> None:
    with made(tmp_path / "run") as console:
        rival = ConsoleNode()
        try:
            with pytest.raises(ConfigError, match=f"console_port = {console.port}: another program listens"):
                rival.param = _with_port(rival.param, console.port)  # type: ignore[method-assign]
                rival.setup()
        finally:
            rival.end()
            rival.destroy_node()


def _with_port(param: Any, port: int) -> Any:
    def changed(name: str, *rest: Any, **more: Any) -> Any:
        return port if name == "console_port" else param(name, *rest, **more)

    return changed
