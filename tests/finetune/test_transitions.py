"""From an episode to transitions: rewards, bootstrapping, and what is left out."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inril_core.data.episode import SOURCE_HOLD, SOURCE_HUMAN, SOURCE_POLICY
from inril_core.data.said import digest_of
from inril_core.finetune.memory.rollout import segments
from inril_core.finetune.memory.transitions import imitated_steps, transitions, usable_steps
from inril_core.finetune.methods import method_config
from inril_core.policies import GaussianPolicy, gaussian
from inril_core.vocabulary import Mark
from tests.finetune.point_task import make_episode

LABEL = method_config("rewards", {"method": "task"}).label
rng = np.random.default_rng(0)


def episode(steps=6, **facts):
    return make_episode(rng.normal(size=(steps + 1, 4)), rng.uniform(-1, 1, (steps, 6)), **facts)


def convert(made, gamma=0.9, n_steps=1):
    rewards, masks = LABEL(made)
    return transitions(made, rewards, masks, GaussianPolicy(4, 6, gaussian.Config(hidden=(4,))), gamma, n_steps)


@pytest.mark.parametrize(
    "success, terminated, reward, mask",
    [(True, True, 1.0, 0.0), (False, True, 0.0, 0.0), (False, False, 0.0, 1.0), (True, False, 1.0, 0.0)],
)
def test_success_ends_failure_ends_and_a_time_limit_bootstraps(success, terminated, reward, mask) -> None:
    """Pins: a time limit that teaches the critic that the state was worthless."""
    rewards, masks = LABEL(episode(success=success, terminated=terminated))
    assert rewards.tolist() == [0.0] * 5 + [reward]
    assert masks.tolist() == [1.0] * 5 + [mask]


def test_one_step_transitions_line_up() -> None:
    """Pins: an observation paired with the action of another step."""
    made = episode(success=True)
    batch = convert(made)
    policy = GaussianPolicy(4, 6, gaussian.Config(hidden=(4,)))
    rows = policy.normalise(torch.tensor(made.observations))
    assert torch.equal(batch.observations, rows[:-1]) and torch.equal(batch.next_observations, rows[1:])
    assert torch.equal(batch.actions, torch.tensor(made.actions))
    assert batch.discounts.tolist() == pytest.approx([0.9] * 5 + [0.0])


def test_n_step_returns_are_the_closed_form() -> None:
    """Pins: a discount too few or too many: with the only reward at step 5, three steps before it gamma^2."""
    batch = convert(episode(success=True), gamma=0.5, n_steps=3)
    assert batch.rewards.tolist() == [0.0, 0.0, 0.0, 0.25, 0.5, 1.0]
    assert batch.discounts.tolist() == [0.125, 0.125, 0.125, 0.0, 0.0, 0.0]
    cut = convert(episode(success=False, terminated=False), gamma=0.5, n_steps=3)
    assert cut.discounts.tolist() == [0.125, 0.125, 0.125, 0.125, 0.25, 0.5]


def test_hold_and_reset_are_left_out_and_cut_the_return() -> None:
    """Pins: learning from steps in which nobody acted, or across them."""
    made = episode(success=True, source=np.array([0, 1, 2, 0, 3, 1]))
    assert usable_steps(made).tolist() == [True, True, False, True, False, True]
    made_of = convert(made, gamma=0.5, n_steps=4)
    assert made_of.discounts.tolist() == [0.25, 0.5, 0.5, 0.0]
    assert torch.equal(made_of.actions, torch.tensor(made.actions[[0, 1, 3, 5]]))
    human = made.source == 1
    rewards, masks = LABEL(made)
    policy = GaussianPolicy(4, 6, gaussian.Config(hidden=(4,)))
    assert torch.equal(transitions(made, rewards, masks, policy, 0.5, 4, keep=human).actions, made_of.actions[[1, 3]])


P, H, HOLD, RESET = 0, 1, 2, 3
ENDINGS = {
    "task": ({}, 1.0),
    "label": ({}, 1.0),
    "csil": ({}, 1.0),
    "rlif": ({"terminate": "success"}, 0.0),
    "simulator": ({}, 1.0),
}
"""Of each reward method: settings with which success ends the value, and what is noted at it."""


def held_at_the_end(*source: int, success: bool | None = True, terminated: bool = True, **facts):
    made = episode(len(source), success=success, terminated=terminated, source=np.array(source), **facts)
    earned = np.zeros(len(source), np.float32)
    earned[-1] = 1.0  # the simulator sees the success where it happens
    made = replace(made, policy_n=np.zeros(made.steps, np.int64), log_prob=np.zeros(made.steps, np.float32))
    return replace(made, rewards=earned)


@pytest.mark.parametrize("name", ENDINGS)
@pytest.mark.parametrize("end", [[HOLD], [HOLD, HOLD], [RESET], [HOLD, RESET]])
def test_how_an_episode_ended_belongs_to_its_last_action(name: str, end: list[int]) -> None:
    """Pins: a success that nobody learns from, because the arm was held when the cell noticed it."""
    values, noted = ENDINGS[name]
    method = method_config("rewards", {"method": name, **values})
    policy = GaussianPolicy(4, 6, gaussian.Config(hidden=(4,)))
    made = held_at_the_end(P, P, H, H, *end)
    rewards, masks = method.label(made)
    found = transitions(made, rewards, masks, policy, 0.97, known=method.known(made))
    takeover = -1.0 if name == "rlif" else 0.0
    assert found.rewards.tolist() == [0.0, takeover, 0.0, noted]
    assert found.discounts.tolist() == pytest.approx([0.97, 0.97, 0.97, 0.0])
    own = held_at_the_end(P, P, P, *end)
    rewards, masks = method.label(own)
    told = method.informative(own)
    (segment,), rejected = segments(own, rewards, masks, policy, 0, method.known(own), told)
    assert segment.rewards.tolist() == [0.0, 0.0, noted] and not segment.bootstrap and rejected == len(end)
    assert segment.informative == (0 if name == "rlif" else 1)


@settings(max_examples=25, deadline=None)
@given(source=st.lists(st.sampled_from([P, H, HOLD, RESET]), min_size=1, max_size=9), holds=st.integers(1, 4))
@pytest.mark.parametrize("name", ENDINGS)
def test_holds_at_the_end_change_nothing(name: str, source: list[int], holds: int) -> None:
    """Pins: an end noted at a step in which nobody acted; an episode in which nobody ever did."""
    method = method_config("rewards", {"method": name, **ENDINGS[name][0]})
    policy = GaussianPolicy(4, 6, gaussian.Config(hidden=(4,)))
    acted = [s for s in source if s in (P, H)]
    for made in (held_at_the_end(*source), held_at_the_end(*source, *[HOLD] * holds)):
        rewards, masks = method.label(made)
        assert (masks == 0.0).sum() == min(len(acted), 1)
        found = transitions(made, rewards, masks, policy, 0.97, known=method.known(made))
        assert len(found) == len(acted)
        if acted:
            assert found.discounts[-1] == 0.0 and found.rewards[-1] == ENDINGS[name][1]
        assert not method.informative(made)[made.source >= HOLD].any()


def test_an_unknown_ending_is_that_of_the_last_action_not_of_a_hold_after_it() -> None:
    """Pins: an unlabelled episode that ended in a hold and teaches a zero at its last action."""
    for facts in ({"success": None}, {"success": True, "complete": False}):
        made = held_at_the_end(P, P, H, HOLD, HOLD, **facts)
        assert usable_steps(made).tolist() == [True, True, False, False, False]
    person = method_config("rewards", {"method": "label", "by": "person"})
    assert person.known(held_at_the_end(P, P, HOLD)).tolist() == [True, False, True]


def test_a_simulators_rewards_during_a_hold_belong_to_the_action_before() -> None:
    made = replace(held_at_the_end(HOLD, P, HOLD, HOLD, H, P), rewards=np.array([8, 1, 2, 4, 0, 16], np.float32))
    method = method_config("rewards", {"method": "simulator"})
    assert method.label(made)[0].tolist() == [0, 7, 0, 0, 0, 16]


class Planning(GaussianPolicy):
    """Plans three steps."""

    chunk = 3


def test_what_a_residual_did_is_cloned_by_a_base_that_plans_as_it_was_done() -> None:
    """Pins: plans of one action, repeated, because a residual decides at every step."""
    made = replace(episode(5, success=True), chunk_index=np.zeros(5, np.int32))
    policy = GaussianPolicy(4, 6, gaussian.Config(hidden=(4,)))
    found = transitions(made, np.zeros(5, np.float32), np.ones(5, np.float32), policy, 0.5, chunk=3)
    executed = [[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 4], [4, 4, 4]]
    assert torch.equal(found.actions, torch.tensor(made.actions[executed].reshape(5, 18)))


def test_a_plan_ends_at_a_takeover_and_where_the_next_one_begins() -> None:
    """Pins: a plan credited with a human's actions, a human's with the policy's, or with those of a newer plan."""
    made = episode(7, success=False, terminated=False, source=np.array([0, 0, 0, 1, 1, 0, 0]))
    made = replace(made, chunk_index=np.array([0, 1, 0, -1, -1, 0, 1], np.int32))
    rewards, masks = np.arange(7, dtype=np.float32), np.ones(7, np.float32)
    policy = Planning(4, 6, gaussian.Config(hidden=(4,)))
    found = transitions(made, rewards, masks, policy, 0.5, chunk=3)
    executed = [[0, 1, 1], [2, 2, 2], [3, 4, 4], [4, 4, 4], [5, 6, 6]]
    assert torch.equal(found.actions, torch.tensor(made.actions[executed].reshape(5, 18)))
    assert found.discounts.tolist() == [0.25, 0.5, 0.25, 0.5, 0.25]
    assert found.rewards.tolist() == [0.5, 2.0, 5.0, 4.0, 8.0]
    following = policy.normalise(torch.tensor(made.observations))[[2, 3, 5, 5, 7]]
    assert torch.equal(found.next_observations, following)


def test_a_step_of_unknown_reward_ends_every_return() -> None:
    """Pins: an episode that nobody labelled and that teaches a zero, inside a window or as a rollout's last step."""
    person = method_config("rewards", {"method": "label", "by": "person"})
    made = episode(success=True, terminated=True)
    made = replace(made, policy_n=np.zeros(6, np.int64), log_prob=np.zeros(6, np.float32))
    policy, (rewards, masks) = GaussianPolicy(4, 6, gaussian.Config(hidden=(4,))), person.label(made)
    batch = transitions(made, rewards, masks, policy, 0.5, 3, known=person.known(made))
    assert batch.discounts.tolist() == [0.125, 0.125, 0.125, 0.25, 0.5]
    found, rejected = segments(made, rewards, masks, policy, 0, person.known(made))
    assert [len(s) for s in found] == [5] and found[0].bootstrap and rejected == 1


@pytest.mark.parametrize("facts", [{"success": None, "terminated": True}, {"success": True, "complete": False}])
def test_an_unknown_ending_is_not_failure(facts) -> None:
    """Pins: unlabelled or torn episodes that teach a reward of zero at their end."""
    batch = convert(episode(**facts))
    assert len(batch) == 5 and batch.rewards.tolist() == [0.0] * 5 and (batch.discounts > 0.8).all()


def test_steps_that_a_person_marked_as_failure_are_not_imitated() -> None:
    """Pins: a policy that clones the very stretch that somebody marked as the mistake."""
    made = episode(success=True)
    assert imitated_steps(made).all()
    marked = made.marked(1, 2, Mark.FAILURE).marked(3, 3, Mark.RECOVERY)
    assert imitated_steps(marked).tolist() == [True, False, False, True, True, True]
    rewards, masks = LABEL(marked)
    policy = GaussianPolicy(4, 6, gaussian.Config(hidden=(4,)))
    batch = transitions(marked, rewards, masks, policy, 0.0, keep=imitated_steps(marked))
    assert torch.equal(batch.actions, torch.tensor(made.actions[[0, 3, 4, 5]]))


P, H, W = SOURCE_POLICY, SOURCE_HUMAN, SOURCE_HOLD


@pytest.mark.parametrize(
    ("sources", "asks", "imitated"),
    [
        ([P, H, H, H, H, H], [1, 0, 1, 0, 1, 0], [1, 0, 1, 1, 1, 1]),  # standing still later on is part of the task
        ([P, H, H, H, H, P], [1, 0, 0, 1, 0, 1], [1, 0, 0, 1, 0, 1]),  # but for the hand that lets go
        ([P, H, H, H, W, P], [1, 1, 0, 0, 0, 1], [1, 1, 1, 1, 1, 1]),
        ([H, H, W, H, H, H], [0, 1, 0, 0, 0, 1], [0, 1, 1, 0, 0, 1]),  # a hold ends the stretch
        ([P, P, P, P, H, H], [0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0]),
        ([H] * 6, [1] * 6, [1] * 6),
    ],
)
def test_a_person_who_has_taken_over_and_does_not_move_yet_shows_nothing(sources, asks, imitated) -> None:
    """Pins: a clone that stands still where help was needed, because the person first reached for the device."""
    actions = np.full((6, 6), 0.01, np.float32)
    actions[np.flatnonzero(asks), 3] = -0.5
    made = make_episode(np.zeros((7, 4)), actions, source=np.array(sources, np.uint8), success=True)
    assert imitated_steps(made).tolist() == [bool(flag) for flag in imitated]


def test_closing_the_gripper_before_moving_is_a_demonstration() -> None:
    """Pins: a grasp that is never learned, because the tool stands still while the hand closes."""
    actions = np.zeros((6, 7), np.float32)
    actions[:, 6] = [-1, -1, -1, 1, 1, 1]
    made = make_episode(np.zeros((7, 4)), actions, source=np.full(6, H, np.uint8), success=True)
    assert imitated_steps(made).tolist() == [False, False, False, True, True, True]


@pytest.mark.parametrize(
    ("gripper", "asks", "imitated"),
    [
        ([-1, -1, -1, 1, 1], [0, 1, 0, 0, 0], [0, 1, 1, 1, 0]),
        ([-1, -1, 1, 1, 1], [0, 0, 0, 0, 0], [0, 0, 1, 0, 0]),
        ([-1, 1, 1, 1, 1], [0, 0, 0, 1, 0], [0, 1, 1, 1, 0]),
        ([-1, 1, -1, -1, -1], [0, 0, 0, 0, 0], [0, 1, 1, 0, 0]),
        ([1, 1, 1, 1, 1], [0, 1, 0, 0, 0], [0, 1, 0, 0, 0]),
    ],
)
def test_closing_the_gripper_last_is_a_demonstration_too(gripper: list, asks: list, imitated: list) -> None:
    """Pins: a release that is never learned, because the person then waited to hand back."""
    actions = np.zeros((6, 7), np.float32)
    actions[:, 6] = [*gripper, gripper[-1]]
    actions[:5, 0] = asks
    made = make_episode(np.zeros((7, 4)), actions, source=np.array([H] * 5 + [P], np.uint8), success=True)
    assert imitated_steps(made).tolist() == [bool(flag) for flag in imitated] + [True]


@pytest.mark.parametrize(
    ("gripper", "imitated"),
    [
        ([-1, -0.96, -0.96, -0.96, -0.96, -0.96], [1, 0, 0, 0, 0, 0]),  # as measured, where -1 was asked before
        ([-1, -0.96, -0.91, -0.84, -0.78, -0.72], [1, 0, 0, 1, 1, 1]),  # closed slowly, by a trigger
        ([-1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]),
    ],
)
def test_a_gripper_that_is_kept_as_it_is_measured_is_not_worked(gripper: list[float], imitated: list[int]) -> None:
    actions = np.zeros((6, 7), np.float32)
    actions[:, 6] = gripper
    made = make_episode(np.zeros((7, 4)), actions, source=np.array([W, H, H, H, H, H], np.uint8), success=True)
    assert imitated_steps(made).tolist() == [bool(flag) for flag in imitated]


def test_a_demonstration_that_was_marked_since_is_another_one() -> None:
    """Pins: a run that goes on as if nobody had marked anything."""
    made = episode(success=True)
    assert len({digest_of(made), digest_of(made.marked(1, 2, Mark.FAILURE)), digest_of(made.rewarded(0, 0, 1.0))}) == 3
