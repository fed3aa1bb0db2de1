"""The web server of the console: its own thread with its own loop, so that neither waits for the other."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import hashlib
import logging
import secrets
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

from inril_core.console.access import SUBPROTOCOL, Access
from inril_core.console.messages import MAX_MESSAGE_BYTES, Frame
from inril_core.console.pages import Page, PageRefused, Pages
from inril_core.errors import ConfigError

STATIC = Path(__file__).parent / "static"
HELLO_S = 5.0
"""A connection that has not said hello by then is closed."""
SLOW_READER_S = 10.0
"""A page that has not taken a message by then is disconnected; it connects again when it can."""
TICK_S = 0.02
STOP_S = 4.0
"""Longest answer to a stop over HTTP."""
START_S = 10.0
MAX_CONNECTIONS = 128

POLICY_VIOLATION, TRY_LATER = 1008, 1013  # RFC 6455 section 7.4.1, and IANA's registry
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self' 'sha256-{importmap}'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; worker-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def bound_socket(host: str, port: int) -> socket.socket:
    """A listening address, taken before anything else is made.

    Raises:
        ConfigError: the port is in use, or the address is none of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(
            f"console_host = {host!r}: {error.strerror or error}; give an address of this host"
        ) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"console_port = {port}: another program listens there already (perhaps the console of another "
                f"graph); give another port, e.g. console_port:={port + 1 if port < 65535 else port - 1}"
            ) from error
        if error.errno == errno.EACCES:
            raise ConfigError(f"console_port = {port}: only root may use it; give one from 1024 on") from error
        raise ConfigError(f"console_host = {host!r}: {error.strerror}; give an address of this host") from error
    return listener


class ConsoleServer:
    """Serves the page, its WebSocket and the stop, in a thread of its own.

    Args:
        listener: from `bound_socket`.
        access: who may talk.
        pages: used in the server's thread alone; everybody else goes through `call`.
        stop: disarms, whatever else hangs; called in a thread of its own; whether it was done, and what to say.
        robot: the robot's description (URDF), for the 3-D view; empty: none.
        wanting: called in the server's thread, often, when a page could take pictures.
    """

    def __init__(
        self,
        listener: socket.socket,
        access: Access,
        pages: Pages,
        stop: Callable[[str], tuple[bool, str]],
        robot: str = "",
        wanting: Callable[[], None] = lambda: None,
    ) -> None:
        self._listener, self._access, self._pages = listener, access, pages
        self._stop, self._robot, self._wanting = stop, robot, wanting
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started = threading.Event()
        self.failure = ""
        """Why the server has ended by itself; empty: it has not."""
        # requests that cannot be read are their senders' affair; a flood of them must not fill a log
        logging.getLogger("uvicorn").setLevel(logging.ERROR)
        config = uvicorn.Config(
            self._app(),
            log_config=None,
            access_log=False,
            ws="websockets",
            ws_max_size=MAX_MESSAGE_BYTES,
            ws_max_queue=32,
            ws_ping_interval=5.0,
            ws_ping_timeout=10.0,
            ws_per_message_deflate=False,
            h11_max_incomplete_event_size=16384,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=10,
            timeout_graceful_shutdown=1,
            lifespan="off",
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="console", daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    def start(self) -> None:
        """Begin to serve.

        Raises:
            ConfigError: the server does not come up.
        """
        self._thread.start()
        if not self._started.wait(START_S) or self.failure:
            raise ConfigError(f"the console's web server does not start: {self.failure or 'no answer'}")

    def call(self, action: Callable[[], None]) -> None:
        """Do something in the server's thread, soon. From any thread; nothing after the end."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has just ended
                loop.call_soon_threadsafe(action)

    def close(self) -> None:
        """End all connections and the thread; waits for it for a moment only."""
        self._server.should_exit = True
        self._thread.join(3.0)
        self._listener.close()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:
            self.failure = f"{type(error).__name__}: {error}"
        finally:
            self._loop = None
            self._started.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        ticking = asyncio.create_task(self._tick())
        self._loop.call_soon(self._started.set)
        try:
            await self._server.serve(sockets=[self._listener])
        finally:
            ticking.cancel()

    async def _tick(self) -> None:
        while True:
            self._pages.tick(time.monotonic_ns())
            if self._pages.wanting_frames:
                self._wanting()
            await asyncio.sleep(TICK_S)

    def _app(self) -> Any:
        app = Starlette(
            routes=[
                Route("/", self._page),
                Route("/robot.urdf", self._urdf),
                Route("/check", self._check),
                Route("/stop", self._on_stop, methods=["POST"]),
                WebSocketRoute("/ws", self._on_page),
                Mount("/static", StaticFiles(directory=STATIC)),
            ]
        )
        return _Guarded(GZipMiddleware(app, minimum_size=2000), self._access)

    async def _page(self, request: Request) -> Response:
        return Response((STATIC / "index.html").read_bytes(), media_type="text/html")

    async def _urdf(self, request: Request) -> Response:
        return Response(self._robot, media_type="application/xml") if self._robot else Response(status_code=404)

    async def _check(self, request: Request) -> Response:
        """Whether the token is right: a browser tells a page nothing of a refused WebSocket."""
        return Response(status_code=204 if self._has_token(request) else 401)

    def _has_token(self, request: Request) -> bool:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and self._access.knows_token(token)

    async def _on_stop(self, request: Request) -> Response:
        """The big stop, beside the WebSocket: it works when that is slow or lost."""
        if not self._has_token(request):
            return PlainTextResponse("the token is missing or wrong", status_code=401)
        try:
            done, text = await asyncio.wait_for(asyncio.to_thread(self._stop, "console"), STOP_S)
        except TimeoutError:
            done, text = False, "the arbiter does not answer; press the arm's own emergency stop"
        return JSONResponse({"success": done, "message": text}, status_code=200 if done else 503)

    async def _on_page(self, socket: WebSocket) -> None:
        protocols = socket.scope.get("subprotocols", [])
        if SUBPROTOCOL not in protocols or not self._access.knows_token(self._access.token_of(protocols)):
            await socket.close()  # before it is accepted: the answer is 403
            return
        try:
            page = self._pages.join(secrets.token_hex(4), time.monotonic_ns())
        except PageRefused as error:
            await socket.accept(SUBPROTOCOL)
            await socket.close(TRY_LATER, str(error))
            return
        news = asyncio.Event()
        page.wake = news.set
        try:
            await socket.accept(SUBPROTOCOL)
            await self._talk(socket, page, news)
        except (WebSocketDisconnect, RuntimeError, OSError):
            pass  # it went away
        finally:
            self._pages.leave(page)

    async def _talk(self, socket: WebSocket, page: Page, news: asyncio.Event) -> None:
        """Both directions, until one ends."""
        tasks = [asyncio.create_task(self._listen(socket, page)), asyncio.create_task(self._send(socket, page, news))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        reason = next((str(error) for error in outcomes if isinstance(error, PageRefused)), "")
        with contextlib.suppress(TimeoutError, RuntimeError, WebSocketDisconnect):
            await asyncio.wait_for(socket.close(POLICY_VIOLATION if reason else 1000, reason[:120]), 1.0)

    async def _listen(self, socket: WebSocket, page: Page) -> None:
        try:
            while True:
                text = await asyncio.wait_for(socket.receive_text(), None if page.name else HELLO_S)
                self._pages.hear(page, text, time.monotonic_ns())
        except TimeoutError as error:
            raise PageRefused("no hello within 5 s") from error
        except KeyError as error:
            raise PageRefused("a message that is no text") from error

    async def _send(self, socket: WebSocket, page: Page, news: asyncio.Event) -> None:
        while True:
            await news.wait()
            news.clear()
            while (thing := page.outbox.take()) is not None:
                try:
                    await asyncio.wait_for(_sending(socket, thing), SLOW_READER_S)
                except TimeoutError as error:
                    raise PageRefused("the page does not read what it is sent") from error
            if page.outbox.overflowed:
                raise PageRefused("the page does not read what it is sent")


def _sending(socket: WebSocket, thing: str | Frame) -> Coroutine[Any, Any, None]:
    if isinstance(thing, Frame):
        return socket.send_bytes(thing.encode(time.monotonic_ns()))
    return socket.send_text(thing)


class _Guarded:
    """Refuses requests to unknown hosts and from other pages, and adds the headers that every answer carries."""

    def __init__(self, app: Any, access: Access) -> None:
        self._app, self._access = app, access
        headers = HEADERS | {"Content-Security-Policy": CONTENT_POLICY.format(importmap=_importmap_hash())}
        self._headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = {name: value.decode("latin-1") for name, value in scope.get("headers", [])}
        host, origin = headers.get(b"host"), headers.get(b"origin")
        refused = self._access.refuses_origin(origin, host)
        if refused and scope["type"] == "http":
            await PlainTextResponse(refused, status_code=403)(scope, receive, send)
            return
        if refused:
            await WebSocket(scope, receive, send).close()
            return

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *self._headers]}
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)


def _importmap_hash() -> str:
    """SHA-256 of the page's one inline script, which names the modules' files."""
    text = (STATIC / "index.html").read_text()
    start = text.index('<script type="importmap">') + len('<script type="importmap">')
    return base64.b64encode(hashlib.sha256(text[start : text.index("</script>", start)].encode()).digest()).decode()
