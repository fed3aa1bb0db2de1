"""Pins: a hostile or broken client that stops the console, eats its memory, or gets in. Real sockets on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from inril_core.console import messages as m
from inril_core.console.console import Console
from inril_core.console.pages import MAX_PAGES
from inril_core.console.server import bound_socket
from inril_core.errors import ConfigError
from tests.console.made import TOKEN, console

PATIENT_S = 60.0
PROTOCOLS = ["inril", f"token.{TOKEN.reveal}"]


def request(port: int, path: str, **options: Any) -> tuple[int, bytes]:
    asked = urllib.request.Request(f"http://127.0.0.1:{port}{path}", **options)
    try:
        with urllib.request.urlopen(asked, timeout=PATIENT_S) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@contextlib.asynccontextmanager
async def page(port: int, name: str = "Ada", **options: Any) -> AsyncIterator[ClientConnection]:
    settings: dict[str, Any] = {"subprotocols": PROTOCOLS, "open_timeout": PATIENT_S, "proxy": None, **options}
    async with connect(f"ws://127.0.0.1:{port}/ws", **settings) as made:
        if name:
            await made.send(json.dumps({"kind": "hello", "name": name}))
        yield made


async def hear(made: ClientConnection, kind: str, fits: Callable[[Any], bool] = lambda _: True) -> Any:
    """The next message of a kind that fits."""
    async with asyncio.timeout(PATIENT_S):
        while True:
            text = await made.recv()
            if isinstance(text, str) and (said := json.loads(text))["kind"] == kind and fits(said):
                return said


async def closed(made: ClientConnection) -> tuple[int | None, str | None]:
    """Read until the console ends the connection; code and reason."""
    async with asyncio.timeout(PATIENT_S):
        with contextlib.suppress(ConnectionClosed):
            while True:
                await made.recv()
    return made.close_code, made.close_reason


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


async def still_serves(made: Console) -> None:
    async with page(made.port, "Well") as well:
        await hear(well, "welcome")
        await hear(well, "beat")


def test_the_page_its_parts_and_its_headers() -> None:
    with console() as (made, _):
        status, text = request(made.port, "/")
        assert status == 200 and b"STOP" in text
        for name in ("main.js", "style.css", "vendor/three.module.min.js", "vendor/LICENSE.three"):
            assert request(made.port, f"/static/{name}")[0] == 200, name
        for name in ("/static/../server.py", "/static/%2e%2e/server.py", "/server.py", "/robot.urdf"):
            assert request(made.port, name)[0] == 404, name
        with urllib.request.urlopen(f"http://127.0.0.1:{made.port}/", timeout=PATIENT_S) as answer:
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy


def test_without_the_token_nobody_gets_in_and_nothing_is_stopped() -> None:
    stops: list[str] = []
    with console(lambda by: (stops.append(by) is None, "")) as (made, _):
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN.reveal}"}):
            assert request(made.port, "/stop", method="POST", headers=headers)[0] == 401
            assert request(made.port, "/check", headers=headers)[0] == 401
        bearer = {"Authorization": f"Bearer {TOKEN.reveal}"}
        assert request(made.port, "/check", headers=bearer)[0] == 204
        assert request(made.port, "/stop", headers=bearer)[0] == 405
        assert stops == []
        evil = {**bearer, "Origin": "http://evil.example"}
        assert request(made.port, "/stop", method="POST", headers=evil)[0] == 403
        assert request(made.port, "/", headers={"Host": "evil.example"})[0] == 403

        async def work() -> None:
            for options in (
                {"subprotocols": ["inril"]},
                {"subprotocols": ["inril", "token.wrong"]},
                {"subprotocols": None},
                {"origin": "http://evil.example"},
                {"origin": f"http://127.0.0.1:{made.port + 1}"},
            ):
                with pytest.raises(InvalidStatus) as refused:
                    async with page(made.port, **options):
                        pass
                assert refused.value.response.status_code == 403
            await still_serves(made)

        run(work())
        assert stops == []


def test_frames_and_messages_that_no_page_sends_end_that_connection_alone() -> None:
    async def bad(made: Console, send: str | bytes, codes: tuple[int, ...], reason: str) -> None:
        async with page(made.port) as hostile:
            await hear(hostile, "welcome")
            await hostile.send(send)
            told = await closed(hostile)
            assert told[0] in codes and reason in (told[1] or ""), told

    async def work(made: Console) -> None:
        async with page(made.port, "Watcher") as watcher:
            await hear(watcher, "welcome")
            await bad(made, "x" * 200_000, (1009, 1006), "")  # 1006: cut while it was still sending
            await bad(made, "{", (1008,), "cannot be read")
            await bad(made, b"\x00\x01", (1008,), "no text")
            await bad(made, '{"kind":"hello","name":"again"}', (1008,), "hello came twice")
            await hear(watcher, "beat")
        async with page(made.port, "") as silent:
            assert await closed(silent) == (1008, "no hello within 5 s")

    with console() as (made, _):
        run(work(made))


def test_a_flood_ends_its_own_connection() -> None:
    async def work(made: Console) -> None:
        async with page(made.port) as flood:
            with contextlib.suppress(ConnectionClosed):
                for i in range(20_000):
                    await flood.send(json.dumps({"kind": "frame_shown", "frame_id": i}))
            # 1006: the reason was behind what the client itself had not let through
            assert (await closed(flood))[0] in (1006, 1008)
        await still_serves(made)

    with console() as (made, _):
        run(work(made))


def test_a_hundred_clients_leave_room_for_the_stop() -> None:
    stops: list[str] = []

    async def work(made: Console) -> None:
        async with contextlib.AsyncExitStack() as stack:
            pages = [await stack.enter_async_context(page(made.port, f"p{i}")) for i in range(MAX_PAGES)]
            for one in pages:
                await hear(one, "welcome")
            for _ in range(100 - MAX_PAGES):
                async with page(made.port, "") as refused:
                    code, reason = await closed(refused)
                    assert code == 1013 and "16 pages are connected" in (reason or "")
            bearer = {"Authorization": f"Bearer {TOKEN.reveal}"}
            answer = await asyncio.to_thread(request, made.port, "/stop", method="POST", headers=bearer)
            assert answer[0] == 200 and len(stops) == 1
            await hear(pages[-1], "beat")
        await still_serves(made)

    with console(lambda by: (stops.append(by) is None, "disarmed")) as (made, _):
        run(work(made))


def test_a_slow_reader_gets_the_newest_and_holds_up_nobody() -> None:
    """It takes nothing while thousands of states and pictures are told; another page hears each turn."""
    pixels = np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)

    async def work(made: Console) -> None:
        async with page(made.port, "Slow", max_queue=1) as slow, page(made.port, "Well") as well:
            await hear(slow, "welcome")
            await hear(well, "welcome")
            for i in range(3_000):
                made.tell(m.Disagreement((i,), (0.5,) * 40, "e"))
                made.put_image("front", lambda: pixels)
            newest = lambda said: said["steps"] == [2_999]  # noqa: E731
            await hear(well, "disagreement", newest)
            count = 1
            async with asyncio.timeout(PATIENT_S):
                while True:
                    text = await slow.recv()
                    count += 1
                    if isinstance(text, str) and json.loads(text).get("steps") == [2_999]:
                        break
            assert count < 2_000  # it was spared most of them

    with console() as (made, _):
        run(work(made))


def test_one_picture_is_under_way_and_the_newest_follows() -> None:
    async def work(made: Console) -> None:
        async with page(made.port) as one:
            await hear(one, "welcome")

            async def picture() -> dict[str, Any]:
                async with asyncio.timeout(PATIENT_S):
                    while isinstance(data := await one.recv(), str):
                        pass
                length = int.from_bytes(data[:2], "big")
                assert data[2 + length :][:2] == b"\xff\xd8"  # JPEG
                return dict(json.loads(data[2 : 2 + length]))

            shade = lambda i: np.full((48, 64, 3), i, np.uint8)  # noqa: E731
            made.put_image("front", lambda: shade(1))
            first = await picture()
            for i in range(2, 30):
                made.put_image("front", lambda i=i: shade(i))
            beats = 0
            while beats < 10:  # half a second of nothing but states
                data = await one.recv()
                assert isinstance(data, str), "a second picture while the first is under way"
                beats += json.loads(data)["kind"] == "beat"
            await one.send(json.dumps({"kind": "frame_shown", "frame_id": first["frame_id"]}))
            second = await picture()
            assert second["frame_id"] > first["frame_id"] and second["age_s"] >= 0.0

    with console() as (made, _):
        run(work(made))


def test_a_picture_that_cannot_be_read_is_left_out() -> None:
    def broken() -> np.ndarray:
        raise ValueError("padded")

    async def work(made: Console) -> None:
        made.put_image("front", broken)
        await still_serves(made)

    with console() as (made, _):
        run(work(made))


def test_the_stop_does_not_wait_for_the_owner() -> None:
    """Nobody takes what is asked, as when the node hangs; the stop is done all the same, and everybody is told."""
    stopped: queue.SimpleQueue[str] = queue.SimpleQueue()

    async def work(made: Console) -> None:
        async with page(made.port, "Ada") as ada, page(made.port, "Bob") as bob:
            await hear(bob, "welcome")
            await ada.send('{"kind":"stop"}')
            said = await hear(bob, "notice")
            assert said["text"] == "Stop by Ada: disarmed" and said["level"] == "warning"

    with console(lambda by: (stopped.put(by) is None, "disarmed")) as (made, _):
        run(work(made))
    assert stopped.get(timeout=PATIENT_S) == "Ada"


def test_a_stop_that_fails_says_so_loudly() -> None:
    def fails(by: str) -> tuple[bool, str]:
        raise ConnectionRefusedError("nobody listens")

    async def work(made: Console) -> None:
        async with page(made.port) as ada:
            await hear(ada, "welcome")
            await ada.send('{"kind":"stop"}')
            said = await hear(ada, "notice")
            assert said["level"] == "error" and "STOP FAILED" in said["text"] and "emergency stop" in said["text"]

    with console(fails) as (made, _):
        run(work(made))


def test_what_is_asked_wakes_the_owner() -> None:
    with console(drive_timeout_s=PATIENT_S / 12) as (made, woken):

        async def work() -> None:
            async with page(made.port) as ada:
                beat = (await hear(ada, "beat"))["beat"]
                await ada.send('{"kind":"take_control","from_id":""}')
                await hear(ada, "control", lambda said: said["holder"] == "Ada")
                await ada.send('{"kind":"session_word","word":"pause","episode_id":""}')
                drive = {"kind": "drive", "seq": 1, "beat": beat, "motion": [0.5, 0, 0, 0, 0, 0]}
                await ada.send(json.dumps({**drive, "gripper": None, "grab": True, "release": False}))
                assert await asyncio.to_thread(woken.wait, PATIENT_S)
                asked = await asyncio.to_thread(made.asked.get, True, PATIENT_S)
                assert (asked.by, asked.message) == ("Ada", m.SessionWord("pause", ""))
                driven, heard_ns = await asyncio.to_thread(made.driven.get, True, PATIENT_S)
                assert driven.motion[0] == 0.5 and driven.grab and heard_ns <= time.monotonic_ns()

        run(work())


def test_a_port_in_use_is_named_with_the_fix() -> None:
    with console() as (made, _), pytest.raises(ConfigError) as refused:
        bound_socket("127.0.0.1", made.port)
    assert f"console_port = {made.port}: another program listens" in str(refused.value)
    assert f"console_port:={made.port + 1}" in str(refused.value)
    with pytest.raises(ConfigError, match="console_host = '203.0.113.1'.*address of this host"):
        bound_socket("203.0.113.1", 0)


def test_the_end_of_the_console_ends_its_thread_and_frees_the_port() -> None:
    with console() as (made, _):
        port = made.port
    assert not [thread for thread in threading.enumerate() if thread.name == "console"]
    bound_socket("127.0.0.1", port).close()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
