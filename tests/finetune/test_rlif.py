"""RLIF's reward on hand-made traces, and what enters replay."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inril_core.errors import ConfigError
from inril_core.finetune.config import load_config
from inril_core.finetune.learner import Learner, new_policy
from inril_core.finetune.methods import method_config
from inril_core.finetune.rewards.rlif import intervention_rewards
from tests.finetune.point_task import contract, demos, make_episode, small_config

P, H, HOLD, RESET = 0, 1, 2, 3


@pytest.mark.parametrize(
    "source, punished",
    [
        ([P, P, P], []),
        ([P, P, H, H, P], [1]),
        ([H, H, P, P], []),  # a takeover at step 0 has no step before it
        ([P, H, P, H, H, P], [0, 2]),  # back to back, one policy step between
        ([P, H, H, H], [0]),  # the episode ends inside it
        ([P, P, H], [1]),  # and with its first step
        ([P, HOLD, H, P], [0]),  # a late answer before the takeover
        ([P, P, HOLD, HOLD, HOLD, H], [1]),  # the person stopped the arm first
        ([P, HOLD, P, H], [2]),
        ([P, HOLD, P, P], []),  # a hold is no takeover
        ([P, HOLD, RESET, H], []),  # after a reset nobody had control
        ([P, RESET, HOLD, H], []),
        ([P, HOLD], []),
        ([HOLD, H, P], []),
        ([P, RESET, H], []),
        ([P, H, HOLD, H, P], [0]),  # a hold inside a takeover starts no new one
        ([P, H, RESET, P, H], [0, 3]),
        ([HOLD, H, RESET, H], []),
        ([H], []),
        ([P], []),
        ([], []),
    ],
)
def test_traces_by_hand(source: list[int], punished: list[int]) -> None:
    """Pins: a punishment of the human, of a hold, of a reset, of every step of a takeover, or none at all."""
    rewards = intervention_rewards(np.array(source, np.uint8))
    assert rewards.dtype == np.float32 and rewards.shape == (len(source),)
    assert np.flatnonzero(rewards).tolist() == punished and set(rewards[punished].tolist()) <= {-1.0}


@given(st.lists(st.integers(0, 3), max_size=40))
def test_one_punishment_per_takeover_from_the_policy(source: list[int]) -> None:
    """Pins: unsigned arithmetic, a shift by one, wrap-around from the last step to the first."""
    rewards = intervention_rewards(source)
    for t, reward in enumerate(rewards):
        following = [other for other in source[t + 1 :] if other != HOLD][:1]
        assert reward == (-1.0 if source[t] == P and following == [H] else 0.0)


@pytest.mark.parametrize(
    "bad", [[[0, 1]], [0, 4], [0, -1], [0.0, 1.0], [0.5], [float("nan")], [True, False], ["human"], None, 0]
)
def test_bad_input_is_refused(bad) -> None:
    """Pins: a mask, a float or an unknown number taken for a trace."""
    with pytest.raises(ValueError, match="source"):
        intervention_rewards(bad)


def config(**changes):
    return method_config("rewards", {"method": "rlif", **changes})


def episode(source, success=None, terminated=None):
    steps = len(source)
    return make_episode(
        np.ones((steps + 1, 4)), np.zeros((steps, 6)), success, terminated=terminated, source=np.array(source)
    )


def test_which_expert_steps_are_kept() -> None:
    """Pins: policy steps left out, or a takeover's last step taken for its first."""
    trace = episode([P, H, H, P, H, HOLD, H, H])
    assert config().keep(trace) is None
    assert config(store_expert_steps="none").keep(trace).tolist() == [1, 0, 0, 1, 0, 1, 0, 0]
    assert config(store_expert_steps="last").keep(trace).tolist() == [1, 0, 1, 1, 1, 1, 0, 1]


def test_the_forms_and_what_ends() -> None:
    """Pins: a failure that ends the punishments, and a success that ends the rewards."""
    won, lost, cut = episode([P, H, P], True), episode([P, H, P], False, True), episode([P, H, P], False, False)
    assert config().label(won)[0].tolist() == [-1, 0, 0]
    assert config(form="zero_one").label(won)[0].tolist() == [0, 1, 1]
    ends = {name: [config(terminate=name).label(e)[1][-1] for e in (won, lost, cut)] for name in ("success", "never")}
    assert ends == {"success": [0, 1, 1], "never": [1, 1, 1]}
    held = episode([P, H, P, HOLD], True)
    assert config(terminate="success").label(held)[1].tolist() == [1, 1, 0, 1]
    theory = config(form="zero_one", terminate="failure")
    assert [theory.label(e)[1][-1] for e in (won, lost, cut)] == [1, 0, 1]


def test_pairs_that_pay_for_the_wrong_thing_are_refused() -> None:
    """Pins: dying that pays, values that the critic's range cuts off, and a takeover that nothing learns from."""
    base = load_config("rlif")
    with pytest.raises(ConfigError, match="escapes the punishments.*'never'"):
        base.changed(**{"rewards.terminate": "failure"})
    with pytest.raises(ConfigError, match=r"cuts off the values.*\[-33.33, 0.00\]"):
        base.changed(**{"rl.target_range": [0.0, 1.0]})
    with pytest.raises(ConfigError, match="success ends the rewards"):
        base.changed(**{"rewards.form": "zero_one", "rewards.terminate": "success", "rl.target_range": None})
    with pytest.raises(ConfigError, match="'rlif' needs 'rl_step' from combine.*'il_only'.*only RL looks at this"):
        base.changed(combine={"method": "il_only"})
    base.changed(**{"rewards.form": "zero_one", "rl.target_range": None})


def test_by_default_nothing_of_the_tasks_success_reaches_the_critics(tmp_path) -> None:
    """Pins: a mask at a success, which tells the critics where no punishment can follow: a reward in disguise.

    The same episode ended by success, by failure, by a time limit or unlabelled gives the same rows, but for the last
    action, which an unlabelled episode lacks.
    """
    settings = small_config("rlif", **{"rl.gamma": 0.97})
    seen = []
    for i, (success, terminated) in enumerate(((True, True), (False, True), (False, False))):
        learner = Learner(settings, contract(), new_policy(settings, contract(), demos()), demos(), tmp_path / str(i))
        assert learner.config.rewards.terminate == "never"
        learner.ingest(episode([P, P, H, H, P, P], success, terminated))
        rows = learner.buffers.replay.first(1000)
        seen.append(torch.cat((rows.rewards, rows.discounts)))
        assert rows.discounts.min() > 0.0, "of demonstrations, too"
    assert torch.equal(seen[0], seen[1]) and torch.equal(seen[0], seen[2])


@pytest.mark.parametrize("stored, rows", [("all", 6), ("last", 5), ("none", 4)])
def test_replay_gets_what_is_kept_and_demonstrations_stay(tmp_path, stored: str, rows: int) -> None:
    """Pins: a setting that the learner does not look at, or that empties the demonstrations."""
    settings = small_config("rlif", **{"rewards.store_expert_steps": stored, "rl.gamma": 0.97})
    learner = Learner(settings, contract(), new_policy(settings, contract(), demos()), demos(), tmp_path)
    shown = len(learner.buffers.demos)
    learner.ingest(episode([P, P, H, H, P, P], False, False))
    assert len(learner.buffers.replay) == shown + rows
    assert len(learner.buffers.demos) == shown == sum(d.steps for d in demos() if d.success)
    rewards = learner.buffers.replay.first(1000).rewards
    assert sorted(rewards.tolist()) == [-1.0] + [0.0] * (shown + rows - 1)


def test_critics_learn_from_the_demonstrations_too(tmp_path) -> None:
    """Pins: demonstrations that are kept, and that no critic ever sees."""
    settings = small_config("rlif", **{"rl.gamma": 0.97})
    learner = Learner(settings, contract(), new_policy(settings, contract(), demos()), demos(), tmp_path)
    learner.ingest(episode([P, P], False, False))
    shown, drawn = learner.buffers.demos.first(1000).observations, learner.loop.batch().observations
    assert (drawn[:, None] == shown[None]).all(-1).any(1).float().mean() > 0.5
    with pytest.raises(ConfigError, match="demos_in_replay.*has no replay"):
        load_config("residual_ppo").changed(**{"schedule.demos_in_replay": True})


def test_an_episode_of_which_nothing_is_kept_adds_nothing(tmp_path) -> None:
    """Pins: a run that ends at the first episode that a human acted from end to end."""
    settings = small_config("rlif", **{"rewards.store_expert_steps": "none", "rl.gamma": 0.97})
    learner = Learner(settings, contract(), new_policy(settings, contract(), demos()), demos(), tmp_path)
    assert learner.ingest(episode([H, H], False, False)).steps == 2
    assert len(learner.buffers.replay) == sum(d.steps for d in demos() if d.success)


def test_the_reward_of_a_label() -> None:
    """Pins: an unlabelled episode taken for a failure, and the cell's word where a person's is asked for."""
    anyone, person = (method_config("rewards", {"method": "label", "by": by}) for by in ("anyone", "person"))
    for success, terminated, reward, mask in ((True, True, 1, 0), (False, False, 0, 1), (False, True, 0, 0)):
        made = episode([P, P], success, terminated)
        rewards, masks = anyone.label(made)
        assert (rewards.tolist(), masks.tolist()) == ([0, reward], [1, mask])
        assert anyone.known(made).all() and person.known(made).tolist() == [True, False]
        said = made.labelled(success, "person")
        assert person.label(said)[0].tolist() == [0, reward] and person.known(said).all()
    unknown = episode([P, P], None, False)
    assert anyone.known(unknown).tolist() == [True, False] and anyone.label(unknown)[0].tolist() == [0, 0]
    punishing = {"method": "label", "failure_reward": -0.5}
    with pytest.raises(ConfigError, match="a failure would cost nothing"):
        load_config("rl_only").changed(rewards=punishing)
    load_config("rl_only").changed(rewards=punishing, **{"rl.target_range": [-0.5, 1.0]})
    strict = method_config("rewards", {"method": "label", "failure_reward": -1.0, "failure_ends": True})
    assert [part[-1] for part in strict.label(episode([P, P], False, False))] == [-1.0, 0.0]
