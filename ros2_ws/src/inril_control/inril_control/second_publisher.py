"""Who else publishes what this graph alone may: seen in the ROS graph, before a message of theirs is heard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from inril_core.safety.faults import Blocks

FORGOTTEN_NS = 25_000_000_000
"""DDS lists a process that was killed for 20 s more. Until then its successor has a publisher of the same name."""
NOT_YET_KNOWN = "_NODE_NAME_UNKNOWN_"
"""rmw's name of a node whose publisher DDS has found before its name; the next look has it."""
LISTEN_NS = 1_500_000_000
"""A live arbiter says every 0.4 s who it is: one that is silent for so long after it was seen is dead."""


class Seen(NamedTuple):
    """A second publisher: what to say, and what it forbids."""

    detail: str
    blocks: Blocks


class SecondPublishers:
    """Watches topics that must have one publisher each.

    A second one under another node name counts at once. One under the same name counts once it outlasts what a killed
    process leaves behind. One of this node's own name says that it lives (`heard_namesake`) and counts at once; before
    it has had the time to say so nobody is armed. A dead predecessor says nothing and does not count.

    node: an rclpy node, which publishes `own`. own: resolved topics that this node alone publishes. heard: resolved
    topics that it hears, and the name of the node that publishes each.
    """

    def __init__(self, node: Any, own: tuple[str, ...], heard: Mapping[str, str]) -> None:
        self._node = node
        self._name = f"{node.get_namespace().rstrip('/')}/{node.get_name()}"
        self._heard = dict(heard)
        self._own = own
        self._doubled_since_ns: dict[str, int] = {}
        self._namesake_heard_ns: int | None = None

    def heard_namesake(self, mono_ns: int) -> None:
        """Another process of this node's name lives: it has just said so."""
        self._namesake_heard_ns = mono_ns

    def look(self, mono_ns: int, armed: bool) -> Seen | None:
        """The second publishers there are now; None: there is none."""
        details, blocks = [], Blocks.NOTHING
        for topic in (*self._own, *self._heard):
            others, doubled = self._others(topic)
            if doubled:
                since_ns = self._doubled_since_ns.setdefault(topic, mono_ns)
                if mono_ns - since_ns > FORGOTTEN_NS or (topic in self._own and self._lives(since_ns, mono_ns, armed)):
                    others += [f"{doubled} (a second node of that name)"]
            else:
                self._doubled_since_ns.pop(topic, None)
            if others:
                details.append(f"{topic} is published by {', '.join(others)} too")
                blocks = max(blocks, Blocks.TARGETS if topic in self._own else Blocks.MOTION)
        if not details:
            return None
        remedy = (
            "only this graph may: end the other node or give one graph another namespace or ROS_DOMAIN_ID; "
            "one that was killed is forgotten within 20 s (an arbiter within 2 s)"
        )
        return Seen(f"{'; '.join(details)}; {remedy}", blocks)

    def _lives(self, since_ns: int, mono_ns: int, armed: bool) -> bool:
        """Whether a second node of this one's name lives, or, before an arming, may live."""
        heard_ns = self._namesake_heard_ns
        if heard_ns is not None and mono_ns - heard_ns <= LISTEN_NS:
            return True
        return not armed and mono_ns - since_ns <= LISTEN_NS

    def _others(self, topic: str) -> tuple[list[str], str]:
        """Full names of the nodes that should not publish it, and that of the one that should if it is there twice."""
        infos = [i for i in self._node.get_publishers_info_by_topic(topic) if i.node_name != NOT_YET_KNOWN]
        if len(infos) < 2:
            return [], ""
        names = [f"{info.node_namespace.rstrip('/')}/{info.node_name}" for info in infos]
        wanted = self._wanted(topic, names)
        others = sorted(name for name in names if name != wanted)
        return others, wanted if names.count(wanted) > 1 else ""

    def _wanted(self, topic: str, names: list[str]) -> str:
        if topic in self._own:
            return self._name
        namespace = self._name.rpartition("/")[0]
        expected = f"{namespace}/{self._heard[topic]}"
        return expected if expected in names else names[0]
