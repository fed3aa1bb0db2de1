"""A frozen base whose plans come late: which of its actions is executed when, and what the residual is given of it."""

from collections import deque
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inril_core.errors import ConfigError
from inril_core.policies import Decision, Memory, Policy, exploration_rng, policy_config
from tests.finetune.point_task import make_episode

D, A, UNIT = 4, 6, 1.0 / 64.0
BASE = {"kind": "diffusion", "chunk": 4, "hidden": [8], "time_size": 4, "denoising_steps": 5}


class Marked(Policy):
    """Its actions say from the observation of which step they were planned, and for how many steps later."""

    kind = "marked"

    def act(self, observation, explore, rng, memory=None) -> Decision:
        memory = Memory() if memory is None else memory
        if not memory.queue:
            rng.standard_normal()
            rows = [np.resize(np.float32([observation[0], UNIT * row]), A) for row in range(self.chunk)]
            memory.queue.extend(rows)
        action = memory.queue.popleft()
        return Decision(action, action, float("nan"))

    def imitation_loss(self, inputs, actions, settings, generator):
        raise NotImplementedError


def make(delay: int, chunk: int = 4):
    torch.manual_seed(0)
    values = {"kind": "residual", "freeze_base": True, "base": {**BASE, "chunk": chunk}, "hidden": [8]}
    policy = policy_config({**values, "base_delay_steps": delay}).build(D, A)
    marked = Marked(D, A, policy.config.base)
    marked.chunk = chunk
    policy.base = marked
    return policy


def row_of(step: int) -> np.ndarray:
    return np.full(D, UNIT * step, np.float32)


def planned_at(action: np.ndarray) -> tuple[int, int]:
    return round(float(action[0]) / UNIT), round(float(action[1]) / UNIT)


def run(policy, steps: int, cleared_before: int = -1) -> list[tuple[int, int]]:
    """(step whose observation was planned from, row of the plan) of each step's action."""
    memory, made = Memory(), []
    for t in range(steps):
        if t == cleared_before:
            memory.clear()
        decision = policy.act(row_of(t), False, exploration_rng(0, t), memory)
        np.testing.assert_array_equal(decision.action, decision.aux, "an untrained residual does what its base does")
        made.append(planned_at(decision.aux))
    return made


def test_a_plan_of_two_steps_ago_is_executed_from_its_third_action_on() -> None:
    """Pins: a late plan that is executed from its beginning; one that is made from the newest observation."""
    assert run(make(2), 8) == [(0, 0), (0, 1), (0, 2), (0, 3), (2, 2), (2, 3), (4, 2), (4, 3)]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 8).flatmap(lambda chunk: st.tuples(st.just(chunk), st.integers(0, chunk - 1))), st.integers(0, 20)
)
def test_each_action_was_planned_for_the_step_in_which_it_is_executed(sizes: tuple[int, int], cleared: int) -> None:
    chunk, delay = sizes
    for t, (seen, row) in enumerate(run(make(delay, chunk), 20, cleared)):
        assert seen + row == t
        first = t < chunk or cleared <= t < cleared + chunk
        assert row < chunk and (first or row >= delay)
        assert not cleared <= t or seen >= cleared, "what was planned before a takeover is over"


def test_the_plan_draws_the_noise_of_the_step_in_which_it_is_taken() -> None:
    """Pins: a policy that is started again in mid-episode and draws other noise."""
    policy, memory, drawn = make(2), Memory(), []
    for t in range(6):
        rng = exploration_rng(3, t)
        policy.act(row_of(t), False, rng, memory)
        drawn.append(rng.standard_normal() != exploration_rng(3, t).standard_normal())
    assert drawn == [True, False, False, False, True, False]


def test_where_it_was_not_recorded_the_base_is_asked_late_too() -> None:
    """Pins: demonstrations that show the residual a base which is never late."""
    policy = make(2)
    recorded = np.full((5, A), np.nan, np.float32)
    recorded[1] = 0.25
    rows = np.stack([row_of(t) for t in range(6)])
    inputs = policy.inputs(replace(make_episode(rows, np.zeros((5, A)), True), aux=recorded))
    asked = [planned_at(row) for row in inputs[:, D:].numpy()]
    assert (inputs[1, D:] == 0.25).all() and asked[0] == (0, 0) and asked[2:] == [(0, 2), (1, 2), (2, 2), (3, 2)]


def test_what_was_seen_is_kept_even_if_the_caller_writes_into_its_array() -> None:
    policy, memory, row = make(2), Memory(), np.zeros(D, np.float32)
    made = []
    for t in range(6):
        row[:] = UNIT * t
        made.append(planned_at(policy.act(row, False, exploration_rng(0, t), memory).aux))
    assert made[4:] == [(2, 2), (2, 3)]
    memory.clear()
    assert memory.seen == deque() and not memory.queue


@pytest.mark.parametrize(
    ("base", "delay", "told"),
    [
        (BASE, 4, "covers 4 steps, which would be over"),
        ({"kind": "gaussian"}, 1, "covers 1 steps"),
        ({"kind": "remote", "chunk": 4}, 1, "latency is real"),
    ],
)
def test_a_delay_that_cannot_be_is_refused(base: dict, delay: int, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        policy_config({"kind": "residual", "freeze_base": True, "base": base, "base_delay_steps": delay}).build(D, A)
