"""Where a graph runs: a ROS domain and a namespace in it, of which a machine's user runs at most one graph.

The file of a place is locked by the launcher for as long as it lives, and says whose graph it is. So a second start is
refused at once, and `inril arm` finds the graph without DDS discovery. Standard library only.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import socket
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

MAX_DOMAIN = 232
"""Above, the UDP ports that DDS derives from the domain leave the range of ports."""
READERS_WAIT_S = 1.0
"""Longest that a starter waits for others who only look whether the place is taken."""
_PAUSE_S = 0.02
_LONGEST_KEY = 48  # keeps the path of the socket far below the 107 bytes that Linux allows


class PlaceTaken(RuntimeError):
    """Another graph runs at this place."""


class PlaceError(RuntimeError):
    """The environment names no place, or the folder of the places cannot be used; the message says why and the fix."""


@dataclass(frozen=True)
class Place:
    """A ROS domain and a namespace such as ``left``; empty: the root."""

    domain: int
    namespace: str = ""

    @property
    def _key(self) -> str:
        key = f"{self.domain}" + (f"-{self.namespace.replace('/', '.')}" if self.namespace else "")
        return key if len(key) <= _LONGEST_KEY else hashlib.sha256(key.encode()).hexdigest()[:16]

    @property
    def file(self) -> Path:
        """Says who runs here; locked while somebody does."""
        return _folder() / f"{self._key}.json"

    @property
    def socket(self) -> Path:
        """Where the graph's arbiter listens for the people at this machine."""
        return _folder() / f"{self._key}.sock"

    def __str__(self) -> str:
        return f"ROS domain {self.domain}" + (f", namespace /{self.namespace}" if self.namespace else "")


def place_of(environment: Mapping[str, str], namespace: str = "") -> Place:
    """The place that this environment names.

    Raises:
        PlaceError: ROS_DOMAIN_ID is no domain.
    """
    text = environment.get("ROS_DOMAIN_ID", "").strip() or "0"
    if not (text.isascii() and text.isdigit()) or int(text) > MAX_DOMAIN:
        raise PlaceError(f"ROS_DOMAIN_ID = {text!r}: give an integer from 0 to {MAX_DOMAIN} (0 to 101 fits everywhere)")
    return Place(int(text), namespace.strip("/"))


def _folder() -> Path:
    # Not XDG_RUNTIME_DIR: a shell over ssh, a service and a cron job of one user would look at different places.
    return Path(f"/tmp/inril-{os.geteuid()}")


def made_folder() -> Path:
    """The folder of the places, made if it is not there.

    Raises:
        PlaceError: it cannot be used.
    """
    folder = _folder()
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise PlaceError(f"{folder}: {error.strerror}; make /tmp writable") from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise PlaceError(f"{folder}: must be a folder of yours with mode 700; look at who made it, and remove it")
    return folder


def hold_place(place: Place, facts: Mapping[str, Any]) -> IO[str]:
    """Take the place until the returned file is closed or this process ends.

    Args:
        facts: graph_id and run_dir, for whoever finds the place taken.

    Raises:
        PlaceTaken: another graph runs here; the message says whose, and what to do.
        PlaceError: the folder of the places cannot be used.
    """
    made_folder()
    try:
        file = place.file.open("a+")
    except OSError as error:
        raise PlaceError(f"{place.file}: {error.strerror}") from error
    deadline_s = time.monotonic() + READERS_WAIT_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError:
            if time.monotonic() > deadline_s:
                told = _read(file)
                file.close()
                raise PlaceTaken(taken(place, told)) from None
            time.sleep(_PAUSE_S)
    file.truncate(0)
    file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), **facts}))
    file.flush()
    return file


def holder(place: Place) -> dict[str, Any] | None:
    """What the launcher that holds the place says of itself: pid, host, graph_id, run_dir; None: nobody runs here."""
    try:
        with place.file.open("r") as file:
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return None
            return _read(file)
    except OSError:
        return None


def taken(place: Place, told: Mapping[str, Any]) -> str:
    """Whose graph is there, and the cures."""
    whose = f"graph {told['graph_id']}" if told.get("graph_id") else "a graph"
    whose += f" (run_dir {told['run_dir']})" if told.get("run_dir") else ""
    whose += f", process {told['pid']} on {told.get('host', 'this host')}," if told.get("pid") else ""
    option = f" -n {place.namespace}" if place.namespace else ""
    return (
        f"{place} is in use: {whose} runs there. Give this graph a place of its own (namespace:=NAME, or another "
        f"ROS_DOMAIN_ID), or stop the other one (inril{option} down)"
    )


def _read(file: IO[str]) -> dict[str, Any]:
    try:
        file.seek(0)
        content = json.loads(file.read())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
