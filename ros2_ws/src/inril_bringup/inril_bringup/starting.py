"""From a resolved graph to one that may be started: everything is looked at before the first process."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass

from inril_bringup.check import check
from inril_bringup.graph import ResolvedGraph
from inril_bringup.neighbours import refuse_neighbours
from inril_bringup.network import network_fault, this_host
from inril_bringup.place import Place, PlaceError, holder, place_of, taken
from inril_core.errors import ConfigError
from inril_core.run import open_run


@dataclass(frozen=True)
class Start:
    """A graph with the identity of one launch."""

    graph: ResolvedGraph
    graph_id: str
    place: Place | None
    """To be held while the graph runs; None for one that joins another graph."""

    @property
    def facts(self) -> dict[str, str]:
        """What others are told who find the place taken."""
        return {"graph_id": self.graph_id, "graph": self.graph.name, "run_dir": str(self.graph.run_dir)}


def prepare(graph: ResolvedGraph) -> Start:
    """Check a graph, look for others where it is to run, open its run folder and give it an id.

    Of two who start at the same time both may find nobody: one of them then gets the place. From two hosts or users
    both may start; their lifecycle_managers hear each other before they bring up anything, and refuse.

    Raises:
        ConfigError: it cannot run as it is given, or another graph is where it is to run.
    """
    try:
        place = place_of(os.environ, graph.namespace)
    except PlaceError as error:
        raise ConfigError(str(error)) from error
    if fault := network_fault(os.environ):
        raise ConfigError(fault)
    check(graph)
    other = None if graph.joins else holder(place)
    if other is not None:
        raise ConfigError(taken(place, other))
    refuse_neighbours(graph, place)
    run_id = graph.arguments.get("run_id")
    run = open_run(graph.run_dir, None if run_id is None else str(run_id))
    graph_id = f"{run.run_id}.{uuid.uuid4().hex[:8]}"
    started = graph.started_as(graph_id, str(place.socket), this_host(os.environ))
    return Start(started, graph_id, None if graph.joins else place)
