"""The order of lifecycle transitions, on a clock of its own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from inril_bringup.sequencer import ACTIVE, INACTIVE, UNCONFIGURED, UNKNOWN, Ask, Sequencer

SECOND_NS = 10**9
AFTER = {Ask.CONFIGURE: INACTIVE, Ask.ACTIVATE: ACTIVE}


class World:
    """Nodes that answer at once, unless they are away."""

    def __init__(self, names: list[str]) -> None:
        self.now_ns = 0
        self.sequencer = Sequencer(names, 0)
        self.states = dict.fromkeys(names, UNCONFIGURED)
        self.away: set[str] = set()
        self.refusals: dict[str, int] = {}
        self.done: list[tuple[str, Ask]] = []

    def step(self, seconds: float = 0.1) -> None:
        self.now_ns += round(seconds * SECOND_NS)
        for name, ask in self.sequencer.due(self.now_ns):
            if name in self.away:
                continue
            if ask is not Ask.STATE and self.refusals.get(name, 0):
                self.refusals[name] -= 1
                self.sequencer.refused(name, self.now_ns)
                continue
            if ask is not Ask.STATE:
                self.states[name] = AFTER[ask]
                self.done.append((name, ask))
            self.sequencer.answered(name, self.states[name], self.now_ns)

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds * 10)):
            self.step()

    @property
    def all_active(self) -> bool:
        return all(state == ACTIVE for state in self.states.values())


def test_all_are_configured_in_order_before_any_is_activated_in_order() -> None:
    """Pins an arbiter that is active before the arm it commands is configured."""
    world = World(["a", "b", "c"])
    world.run(3)
    assert world.done == [(name, ask) for ask in (Ask.CONFIGURE, Ask.ACTIVATE) for name in "abc"]


def test_a_node_that_is_away_holds_up_the_start() -> None:
    """Pins a start that goes on without a node, and that does not go on when it comes."""
    world = World(["a", "b", "c"])
    world.away = {"b"}
    world.run(5)
    assert world.done == [("a", Ask.CONFIGURE)]
    assert [node.name for node in world.sequencer.waiting_for()] == ["a", "b", "c"]
    world.away = set()
    world.run(3)
    assert world.all_active


def test_a_respawned_node_comes_back_though_another_is_away() -> None:
    """Pins a node that stays idle after its respawn, because of another one or because nobody looks."""
    world = World(["a", "b", "c"])
    world.run(3)
    world.away, world.states["c"] = {"a"}, UNCONFIGURED
    world.sequencer.appeared("c", world.now_ns)
    world.run(0.5)
    assert world.states["c"] == ACTIVE
    world.states["b"] = UNCONFIGURED  # nothing announces it: polling finds it
    world.run(3)
    assert world.states["b"] == ACTIVE


def test_a_question_without_answer_is_asked_again() -> None:
    """Pins a manager that waits for ever for a process that died between question and answer."""
    sequencer = Sequencer(["a"], 0, state_timeout_s=1.0)
    assert sequencer.due(0) == [("a", Ask.STATE)]
    assert sequencer.due(SECOND_NS // 2) == []
    assert sequencer.due(SECOND_NS) == [("a", Ask.STATE)]
    assert sequencer.nodes["a"].state == UNKNOWN


def test_a_refused_transition_is_tried_again_with_back_off() -> None:
    """Pins a busy loop of configure calls, and a node that is never tried again."""
    world = World(["a"])
    world.step()
    waits = []
    for _ in range(5):
        waits.append(world.sequencer.refused("a", world.now_ns))
    assert waits == [1.0, 2.0, 4.0, 8.0, 10.0]
    world.run(9.5)
    assert world.done == []
    world.run(2)
    assert world.all_active


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["die", "away", "back", "refuse"])), max_size=30),
    st.integers(0, 20),
)
def test_whatever_happened_all_are_active_in_the_end(events: list[tuple[str, str]], steps: int) -> None:
    """Pins a deadlock: some order of deaths, absences and refusals after which a node is never activated."""
    world = World(list("abcd"))
    for name, event in events:
        if event == "die":
            world.states[name] = UNCONFIGURED
        elif event == "refuse":
            world.refusals[name] = 2
        (world.away.add if event == "away" else world.away.discard)(name)
        world.run(steps / 10)
    world.away = set()
    world.run(60)
    assert world.all_active
