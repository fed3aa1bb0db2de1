"""A Unix socket on which the user who runs a graph asks one of its processes, without DDS discovery on the way."""

from __future__ import annotations

import json
import os
import queue
import socket
import socketserver
import struct
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from inril_common.node import InrilNode

MAX_REQUEST_BYTES = 4096
READ_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 20.0
"""Far longer than any request takes; ends the connection of one that got lost."""

Request = dict[str, Any]
Reply = Callable[[bool, str], None]


class ControlSocket:
    """Takes one request per connection, a JSON object on a line, and answers `{"success": ..., "message": ...}`.

    Connections are read by threads; requests are handled in the node's executor, between its callbacks.
    Only the same user (SO_PEERCRED) and root are listened to.
    """

    def __init__(self, node: InrilNode, path: Path, handle: Callable[[Request, Reply], None]) -> None:
        """Listen at once.

        Args:
            path: of the socket; one that an earlier life of this process left behind is replaced.
            handle: gets a request and the function that answers it, then or later. Called in the executor.

        Raises:
            OSError: the path cannot be bound.
        """
        self._node, self._path, self._handle = node, path, handle
        self._requests: queue.SimpleQueue[tuple[Request, Future[tuple[bool, str]]]] = queue.SimpleQueue()
        path.unlink(missing_ok=True)
        self._server = _Server(str(path), self._ask)
        path.chmod(0o600)
        self._guard = node.create_guard_condition(self._serve)
        threading.Thread(target=self._server.serve_forever, name="control_socket", daemon=True).start()

    def close(self) -> None:
        """Stop listening. In the executor's thread."""
        self._server.shutdown()
        self._server.server_close()
        self._path.unlink(missing_ok=True)
        self._node.destroy_guard_condition(self._guard)

    def _ask(self, request: Request) -> tuple[bool, str]:
        answer: Future[tuple[bool, str]] = Future()
        self._requests.put((request, answer))
        self._guard.trigger()
        return answer.result(ANSWER_TIMEOUT_S)

    def _serve(self) -> None:
        while not self._requests.empty():
            self._node.guarded(self._answer)(*self._requests.get())

    def _answer(self, request: Request, answer: Future[tuple[bool, str]]) -> None:
        try:
            self._handle(request, lambda success, message: answer.set_result((success, message)))
        except Exception as error:
            if not answer.done():
                answer.set_result((False, f"{type(error).__name__}: {error}; the node's log has the traceback"))
            raise


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, path: str, ask: Callable[[Request], tuple[bool, str]]) -> None:
        self.ask = ask
        super().__init__(path, _Connection)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Only the same user and root."""
        credentials = request.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return struct.unpack("3i", credentials)[1] in (0, os.geteuid())

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that went away is its own affair."""


class _Connection(socketserver.StreamRequestHandler):
    timeout = READ_TIMEOUT_S
    server: _Server

    def handle(self) -> None:
        """Read a line, have it answered, write the answer."""
        try:
            request = json.loads(self.rfile.readline(MAX_REQUEST_BYTES))
        except (OSError, ValueError, RecursionError):
            request = None
        if not isinstance(request, dict):
            success, message = False, "not a JSON object on one line"
        else:
            try:
                success, message = self.server.ask(request)
            except TimeoutError:
                success, message = False, f"not answered within {ANSWER_TIMEOUT_S:.0f} s"
        self.wfile.write(json.dumps({"success": success, "message": message}).encode() + b"\n")
