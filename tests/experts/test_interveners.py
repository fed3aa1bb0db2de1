"""Simulated interveners: when they take over, for how long, who judges, and what an episode says of it."""

from functools import cache

import numpy as np
import pytest
import torch

from inril_core.data.episode import SOURCE_HUMAN, SOURCE_POLICY
from inril_core.errors import ConfigError
from inril_core.experts import ExpertConfig, make_expert
from inril_core.experts.intervener import (
    CriticConfig,
    Intervener,
    InterventionConfig,
    RandomJudge,
    ValueJudge,
)
from inril_core.experts.quality import WorseExpert
from inril_core.experts.reference_critic import fit_reference_critic, load_reference_critic
from inril_core.experts.trained import PolicyExpert
from inril_core.finetune.config import load_config
from inril_core.finetune.learner import new_policy
from inril_core.finetune.local import build_intervener, expert_actor, fine_tune, policy_actor, run_episode
from inril_core.finetune.rewards import task as task_reward
from inril_core.finetune.rewards.rlif import intervention_rewards
from inril_core.policies import Decision, save_policy
from tests.finetune.dot_task import DotTask
from tests.finetune.point_task import PointExpert, PointTask, contract, demos, small_config

STILL = np.zeros(6, np.float32)
SOMEWHERE = np.array([1.0, 1.0, 0.0, 0.0], np.float32)
CRITIC = {"episodes": 40, "updates": 400, "hidden": (32,), "batch": 128}


class Planned:
    """Takes over whenever it is asked at one of these times."""

    def __init__(self, *times: int) -> None:
        self.times, self.asked, self.resets = times, 0, []

    def reset(self, seed: int) -> None:
        self.asked = 0
        self.resets.append(seed)

    def takes_over(self, observation, action, rng) -> bool:
        self.asked += 1
        return self.asked - 1 in self.times


def trace(intervener: Intervener, steps: int) -> list[int]:
    """1 where the expert acts."""
    intervener.reset(0)
    made = []
    for _ in range(steps):
        proposed = None if intervener.in_control else STILL
        made.append(int(intervener.act(SOMEWHERE, proposed) is not None))
    return made


def test_a_takeover_lasts_its_steps_and_gives_the_policy_some_back() -> None:
    """Pins: a takeover of another length, one that renews itself, or a policy that never gets a step back."""
    always = Planned(*range(100))
    assert trace(Intervener(always, PointExpert(), 3, 1), 10) == [1, 1, 1, 0, 1, 1, 1, 0, 1, 1]
    assert trace(Intervener(always, PointExpert(), 2, 2), 9) == [1, 1, 0, 0, 1, 1, 0, 0, 1]
    assert trace(Intervener(always, PointExpert(), 1, 0), 4) == [1, 1, 1, 1]
    assert trace(Intervener(Planned(2), PointExpert(), 2, 1), 7) == [0, 0, 1, 1, 0, 0, 0]
    punished = np.flatnonzero(intervention_rewards(np.array([1, 1, 0, 1, 1, 0])))
    assert punished.tolist() == [2], "one free step between two takeovers is one punishment"


@pytest.mark.parametrize("probability, duration", [(0.3, 1), (0.5, 1), (0.2, 4)])
def test_random_takeovers_begin_at_their_rate(probability: float, duration: int) -> None:
    """Pins: a rate per step in control instead of per free step."""
    made = trace(Intervener(RandomJudge(probability), PointExpert(), duration, 0), 6000)
    expected = duration * probability / (duration * probability + 1 - probability)
    assert np.mean(made) == pytest.approx(expected, abs=0.03)
    assert made == trace(Intervener(RandomJudge(probability), PointExpert(), duration, 0), 6000)


@cache
def reference_critic():
    task, size, config = PointTask(), 6, CriticConfig(**CRITIC)
    episodes = [
        run_episode(task, expert_actor(WorseExpert(PointExpert(), i / 40, 0.0), i, size), i, "train")
        for i in range(config.episodes)
    ]
    return fit_reference_critic(episodes, PointExpert(), task_reward.Config(method="task").label, config, 0)


def test_the_reference_critic_knows_the_way_and_is_saved(tmp_path) -> None:
    """Pins: a critic that cannot tell towards from away, values out of range, a file that gives another critic."""
    critic, rng = reference_critic(), np.random.default_rng(0)
    towards, away = PointExpert(), PointExpert(-1.0)
    better = 0
    for _ in range(50):
        row = np.concatenate([rng.uniform(-0.8, 0.8, 2), np.zeros(2)]).astype(np.float32)
        values = [critic.value(row, expert.act(row)) for expert in (towards, away)]
        assert all(critic.low <= v <= critic.high for v in values)
        better += values[0] > values[1]
    assert better >= 45 and critic.low == 0.0 and critic.high == 1.0
    critic.save(tmp_path / "critic.safetensors")
    again = load_reference_critic(tmp_path / "critic.safetensors")
    assert again.value(SOMEWHERE, STILL) == critic.value(SOMEWHERE, STILL)
    assert (again.low, again.high) == (critic.low, critic.high)


def test_a_finished_run_can_be_the_judge(tmp_path) -> None:
    """Pins: a run's critic read in another order or with another normaliser."""
    short = {"schedule.budget_steps": 60, "schedule.warmup_steps": 20, "schedule.critic_warmup_updates": 5}
    config = small_config("rl_only", **short)
    policy = new_policy(config, contract(), demos())
    learner, _ = fine_tune(config, PointTask(), policy, demos(), tmp_path, 0)
    critic = load_reference_critic(learner.checkpoint())
    row, action = torch.from_numpy(SOMEWHERE), torch.zeros(1, 6)
    with torch.no_grad():
        expected = float(learner.parts.rl.critics(policy.normalise(row)[None], action).mean())
    assert critic.value(SOMEWHERE, STILL) == pytest.approx(min(max(expected, 0.0), 1.0), abs=1e-6)
    save_policy(tmp_path / "policy.safetensors", policy, {})
    with pytest.raises(ConfigError, match="no readable checkpoint"):
        load_reference_critic(tmp_path / "policy.safetensors")


class Table:
    """Values by the first component of the action."""

    low, high = 0.0, 1.0

    def value(self, observation, action) -> float:
        return float(action[0])


class Reference(PointExpert):
    def act(self, observation):
        return np.full(6, 0.5, np.float32)


@pytest.mark.parametrize(
    "form, value, worse",
    [
        ({"alpha": 0.9}, 0.46, False),
        ({"alpha": 0.9}, 0.44, True),
        ({"form": "additive", "delta": 0.1}, 0.41, False),
        ({"form": "additive", "delta": 0.1}, 0.39, True),
    ],
)
def test_the_value_judge_compares_with_the_reference(form, value: float, worse: bool) -> None:
    """Pins: a threshold the wrong way round, or beta for both cases."""
    config = InterventionConfig(kind="value", beta=0.95, **form)
    judge = ValueJudge(config, Table(), Reference())
    action = np.full(6, value, np.float32)
    assert judge.worse(SOMEWHERE, action) is worse
    rng = np.random.default_rng(0)
    rate = np.mean([judge.takes_over(SOMEWHERE, action, rng) for _ in range(2000)])
    assert rate == pytest.approx(0.95 if worse else 0.05, abs=0.02)


def test_a_share_of_a_negative_value_is_refused() -> None:
    """Pins: the relative threshold below zero, where everything is worse than a share of the best."""
    table = Table()
    table.low = -3.0
    with pytest.raises(ConfigError, match="'additive'"):
        ValueJudge(InterventionConfig(kind="value"), table, Reference())
    ValueJudge(InterventionConfig(kind="value", form="additive"), table, Reference())
    with pytest.raises(ConfigError, match="free_steps"):
        load_config("rlif").changed(interventions={"kind": "value", "free_steps": 0})


def test_the_worse_the_action_the_more_help_it_gets() -> None:
    """Pins: the whole chain: a policy that walks away is helped more often than the reference itself."""
    config = InterventionConfig(kind="value", beta=1.0, duration=1, critic=CriticConfig(**CRITIC))
    judge = ValueJudge(config, reference_critic(), PointExpert())
    task, shares = PointTask(), []
    for sign in (1.0, -1.0):
        walker, helped = PointExpert(sign), []
        for seed in range(10):
            row = task.reset(seed)
            for _ in range(4):
                helped.append(judge.worse(row, walker.act(row)))
                row, outcome = task.step(walker.act(row))
                if outcome.success:
                    break
        shares.append(np.mean(helped))
    assert shares[0] == 0.0 and shares[1] > 0.8


class Plan:
    """A stand-in for a policy that plans four steps ahead; its actions tell how old the plan is."""

    action_size = 6

    def act(self, observation, explore, rng, memory) -> Decision:
        if not memory.queue:
            memory.queue.extend(np.full(6, 0.1 * i, np.float32) for i in range(4))
            memory.index = 0
        action, index = memory.queue.popleft(), memory.index
        memory.index += 1
        return Decision(action, action, -1.0, chunk_index=index)


def test_an_episode_says_who_did_what_and_a_takeover_voids_the_plan() -> None:
    """Pins: a policy's density on a human's step, a source that hides the takeover, a plan continued after it."""
    intervener = Intervener(Planned(0, 3), PointExpert(-1.0), 2, 1)  # it walks away: the episode is not cut short
    episode = run_episode(PointTask(), policy_actor(Plan(), 5, True, intervener), 5, "train", True, "run", 3)
    human = episode.source == SOURCE_HUMAN
    assert human[:9].tolist() == [1, 1, 0, 0, 0, 1, 1, 0, 0] and set(episode.source[~human]) == {SOURCE_POLICY}
    assert (episode.chunk_index[human] == -1).all() and episode.chunk_index[:9].tolist()[2:5] == [0, 1, 2]
    assert episode.chunk_index[7] == 0, "a new plan after the takeover"
    assert np.isnan(episode.raw[human]).all() and np.isnan(episode.log_prob[human]).all()
    assert np.isfinite(episode.log_prob[~human]).all()
    assert episode.policy_n.tolist() == [-1 if h else 3 for h in human]
    assert [name == "run" for name in episode.policy_run_ids] == [not h for h in human]
    expert = PointExpert(-1.0)
    for t in np.flatnonzero(human):
        np.testing.assert_allclose(episode.actions[t], expert.act(episode.observations[t]), atol=1e-6)


def test_experts_of_any_quality(tmp_path) -> None:
    """Pins: a dial that does nothing, repeats itself, or is silently not there."""
    task = PointTask()
    assert isinstance(make_expert(ExpertConfig(), task), PointExpert)
    noisy = make_expert(ExpertConfig(noise=0.3), task)
    runs = []
    for seed in (1, 1, 2):
        noisy.reset(seed)
        runs.append(np.stack([noisy.act(SOMEWHERE) for _ in range(50)]))
    assert np.array_equal(runs[0], runs[1]) and not np.array_equal(runs[0], runs[2])
    assert runs[0][:, 5].std() == pytest.approx(0.3, abs=0.1) and np.abs(runs[0]).max() <= 1.0
    pausing = make_expert(ExpertConfig(hesitation=0.2), task)
    pausing.reset(0)
    still = [not pausing.act(SOMEWHERE).any() for _ in range(200)]
    assert 0.2 < np.mean(still) < 0.9
    with pytest.raises(ConfigError, match="no such dial"):
        make_expert(ExpertConfig(bias=0.01), task)
    policy = new_policy(small_config(), contract(), demos())
    save_policy(tmp_path / "p.safetensors", policy, {})
    expert = make_expert(ExpertConfig(policy=str(tmp_path / "p.safetensors")), task)
    assert isinstance(expert, PolicyExpert)
    np.testing.assert_array_equal(expert.act(SOMEWHERE), policy.act(SOMEWHERE, False, np.random.default_rng(0)).action)


def test_the_experiments_section_builds_who_it_names(tmp_path) -> None:
    """Pins: settings that are read and not used."""
    task = PointTask()
    assert build_intervener(InterventionConfig(kind="none"), task, 0) is None
    one = build_intervener(InterventionConfig(kind="random", probability=1.0, duration=2), task, 0)
    assert one is not None and trace(one, 6) == [1, 1, 0, 1, 1, 0]
    quick = CriticConfig(episodes=4, updates=3, hidden=(8,))
    always = InterventionConfig(kind="value", form="additive", delta=0.0, beta=0.5, critic=quick, duration=3)
    judged = build_intervener(always, task, 0)
    assert judged is not None and 0 < sum(trace(judged, 40)) < 40
    reference_critic().save(tmp_path / "critic.safetensors")
    saved = CriticConfig(file=str(tmp_path / "critic.safetensors"))
    judged = build_intervener(InterventionConfig(kind="value", beta=1.0, critic=saved), task, 0)
    assert judged is not None
    judged.reset(0)
    assert judged.act(SOMEWHERE / 2, PointExpert().act(SOMEWHERE / 2)) is None
    assert judged.act(SOMEWHERE / 2, PointExpert(-1.0).act(SOMEWHERE / 2)) is not None


def test_the_expert_is_asked_about_what_the_policy_saw() -> None:
    """Pins: answers shifted by a step, or asked after the cell has moved on."""
    task, rng = PointTask(), np.random.default_rng(0)

    def act(row: np.ndarray, step: int) -> Decision:
        return Decision(rng.uniform(-1.0, 1.0, 6).astype(np.float32), np.zeros(6, np.float32), 0.0)

    episode = run_episode(task, act, 3, "train", asked=PointExpert())
    answers = episode.expert_actions
    assert answers is not None and answers.shape == episode.actions.shape and answers.dtype == np.float32
    for t in range(episode.steps):
        np.testing.assert_array_equal(answers[t], PointExpert().act(episode.observations[t]))
    assert run_episode(task, act, 3, "train").expert_actions is None


def test_a_critic_of_states_does_not_judge_images() -> None:
    """Pins: images given to a critic of states, and answers of an onlooker to rows that are long past."""
    with pytest.raises(ConfigError, match="judges states.*'random'"):
        build_intervener(InterventionConfig(kind="value"), DotTask(), 0)
