"""Arming, disarming and stopping the graph at a place of this machine, without DDS discovery on the way.

Imports nothing that is slow to import: a person waits for `inril disarm`.
"""

from __future__ import annotations

import getpass
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inril_common.control_client import ask_arbiter

from inril_bringup.place import Place, PlaceError, holder, place_of
from inril_core.errors import InrilError
from inril_core.people import sayable

DOWN_TIMEOUT_S = 60.0
"""Longer than a supervisor takes from its first signal to its last."""


class Refused(InrilError):
    """The graph did not do what was asked; the message says why and the fix."""


class NoArbiter(InrilError):
    """A graph is here, and its arbiter's process does not answer."""


@dataclass(frozen=True)
class Here:
    """The graph that a launcher on this machine runs at a place."""

    place: Place
    graph_id: str
    run_dir: str
    launcher: int

    def ask(self, ask: str) -> str:
        """Ask the arbiter (`arm`, `disarm` or `status`) and return its message.

        Raises:
            NoArbiter: nobody listens, or no answer comes.
            Refused: the answer is no.
        """
        try:
            done, message = ask_arbiter(self.place.socket, ask, self.graph_id, person_name())
        except TimeoutError as error:
            raise NoArbiter(f"the arbiter of graph {self.graph_id} does not answer; see {self._log}") from error
        except (OSError, ValueError) as error:
            raise NoArbiter(
                f"the arbiter of graph {self.graph_id} does not run ({type(error).__name__}); see {self._log}"
            ) from error
        if not done:
            raise Refused(message)
        return message

    @property
    def _log(self) -> Path:
        return Path(self.run_dir) / "logs" / "arbiter_node.log"


def here(namespace: str, run_dir: Path | None = None) -> Here | None:
    """The graph at the place that the environment and ``namespace`` name; None if this user runs none here.

    Args:
        run_dir: the graph must be this run's.

    Raises:
        Refused: it is another run's, or ROS_DOMAIN_ID is no domain.
    """
    try:
        place = place_of(os.environ, namespace)
    except PlaceError as error:
        raise Refused(str(error)) from error
    told = holder(place)
    found = None if told is None else _read(place, told)
    if run_dir is not None and (found is None or Path(found.run_dir) != run_dir.expanduser().absolute()):
        there = "nobody runs" if found is None else f"graph {found.graph_id} of {found.run_dir} runs"
        raise Refused(f"{run_dir}: {there} at {place}; give the run's own ROS_DOMAIN_ID and --namespace")
    return found


def _read(place: Place, told: Mapping[str, Any]) -> Here:
    return Here(place, str(told.get("graph_id", "")), str(told.get("run_dir", "")), int(told.get("pid", 0)))


def down(namespace: str, run_dir: Path | None) -> str:
    """Stop the graph in order, as Ctrl-C does in its terminal, and wait for it.

    Raises:
        Refused: there is none, it is another run's, or it does not end.
    """
    graph = here(namespace, run_dir)
    if graph is None or graph.launcher <= 0:
        raise Refused(
            f"no graph of yours runs at {place_of(os.environ, namespace)} on this machine; each host stops its own"
        )
    os.kill(graph.launcher, signal.SIGINT)
    deadline_s = time.monotonic() + DOWN_TIMEOUT_S
    while time.monotonic() < deadline_s:
        now = here(namespace)
        if now is None or now.graph_id != graph.graph_id:
            return f"graph {graph.graph_id} has stopped"
        time.sleep(0.05)
    raise Refused(f"graph {graph.graph_id}: process {graph.launcher} has not ended within {DOWN_TIMEOUT_S:.0f} s")


def person_name() -> str:
    """Who sits at this shell."""
    try:
        return sayable(getpass.getuser())
    except (KeyError, OSError):
        return f"user {os.getuid()}"
