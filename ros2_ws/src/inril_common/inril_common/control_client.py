"""Asks the arbiter over its control socket: without DDS, whatever else of the graph is dead. Standard library only."""

from __future__ import annotations

import json
import socket
from pathlib import Path

CONNECT_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = {"arm": 15.0, "disarm": 2.0, "status": 2.0}
"""Arming: longer than the arbiter gives the arm's watchdog to let go. Disarming: then the arm itself is told."""


def ask_arbiter(path: Path, ask: str, graph_id: str, operator_name: str) -> tuple[bool, str]:
    """Whether the arbiter did it (`arm`, `disarm` or `status`), and its message.

    Raises:
        TimeoutError: it is connected and does not answer.
        OSError, ValueError: nobody listens, or something else does.
    """
    request = {"ask": ask, "graph_id": graph_id, "operator_name": operator_name}
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(CONNECT_TIMEOUT_S)
        connection.connect(str(path))
        connection.settimeout(ANSWER_TIMEOUT_S[ask])
        connection.sendall(json.dumps(request).encode() + b"\n")
        line = connection.makefile("rb").readline()
    answer = json.loads(line)
    return bool(answer["success"]), str(answer["message"])
