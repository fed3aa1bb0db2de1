"""Pins: a second graph in the same namespace that goes unnoticed, and a killed node's remains that count as one."""

from types import SimpleNamespace

from inril_control.second_publisher import FORGOTTEN_NS, LISTEN_NS, NOT_YET_KNOWN, SecondPublishers

from inril_core.safety.faults import Blocks

TARGET, OBSERVATION = "/target", "/observation"


class Graph:
    """The ROS graph as an rclpy node shows it."""

    def __init__(self, **publishers: list[str]) -> None:
        self.publishers = {f"/{topic}": names for topic, names in publishers.items()}

    def get_name(self) -> str:
        return "arbiter_node"

    def get_namespace(self) -> str:
        return "/"

    def get_publishers_info_by_topic(self, topic: str) -> list[SimpleNamespace]:
        names = self.publishers.get(topic, [])
        return [SimpleNamespace(node_namespace="/", node_name=name) for name in names]


def watch(graph: Graph) -> SecondPublishers:
    return SecondPublishers(graph, own=(TARGET,), heard={OBSERVATION: "observation_node"})


def test_one_publisher_each_is_nothing() -> None:
    assert watch(Graph(target=["arbiter_node"], observation=["observation_node"])).look(0, True) is None
    assert watch(Graph(target=["arbiter_node"])).look(0, True) is None


def test_another_node_counts_at_once_and_is_named() -> None:
    seen = watch(Graph(target=["intruder", "arbiter_node"])).look(0, True)
    assert seen is not None and seen.blocks == Blocks.TARGETS
    assert "/target is published by /intruder too" in seen.detail
    seen = watch(Graph(target=["arbiter_node"], observation=["observation_node", "replay"])).look(0, True)
    assert seen is not None and seen.blocks == Blocks.MOTION
    assert "/observation is published by /replay too" in seen.detail


def test_a_node_of_the_same_name_counts_once_it_outlasts_a_killed_ones_remains() -> None:
    graph = Graph(target=["arbiter_node"], observation=["observation_node"] * 2)
    made = watch(graph)
    assert made.look(0, True) is None
    assert made.look(FORGOTTEN_NS, True) is None
    seen = made.look(FORGOTTEN_NS + 1, True)
    assert seen is not None and "/observation_node" in seen.detail
    graph.publishers["/observation"] = ["observation_node"]
    assert made.look(FORGOTTEN_NS + 2, True) is None
    graph.publishers["/observation"] *= 2
    assert made.look(FORGOTTEN_NS + 3, True) is None, "the time counts anew"


def test_beside_a_live_arbiter_of_the_same_name_nobody_arms() -> None:
    made = watch(Graph(target=["arbiter_node", "arbiter_node"]))
    refused = made.look(0, False)
    assert refused is not None and "/arbiter_node" in refused.detail, "it has had no time yet to say that it lives"
    for now_ns in range(0, 10 * LISTEN_NS, LISTEN_NS):
        made.heard_namesake(now_ns)
        for armed in (False, True):
            seen = made.look(now_ns + LISTEN_NS, armed)
            assert seen is not None and seen.blocks == Blocks.TARGETS, "a live one is a fault while armed, too"


def test_a_dead_predecessors_remains_cost_no_more_than_listening_for_it() -> None:
    made = watch(Graph(target=["arbiter_node", "arbiter_node"]))
    made.look(0, False)
    assert made.look(LISTEN_NS + 1, False) is None
    assert made.look(FORGOTTEN_NS, True) is None, "nor are they a fault while armed"
    assert made.look(FORGOTTEN_NS + 1, True) is not None, "what DDS lists for longer is no remains"


def test_a_namesake_that_was_heard_and_has_gone_is_forgotten() -> None:
    graph = Graph(target=["arbiter_node", "arbiter_node"])
    made = watch(graph)
    made.heard_namesake(0)
    assert made.look(0, False) is not None
    assert made.look(LISTEN_NS + 1, False) is None
    graph.publishers["/target"].pop()
    made.heard_namesake(LISTEN_NS + 2)
    assert made.look(LISTEN_NS + 2, False) is None, "it publishes nothing"


def test_a_node_whose_name_dds_does_not_know_yet_is_looked_at_again() -> None:
    """Pins: a fault because a restarted node's publisher was found before its name."""
    graph = Graph(target=["arbiter_node"], observation=["observation_node", NOT_YET_KNOWN])
    assert watch(graph).look(0, True) is None
