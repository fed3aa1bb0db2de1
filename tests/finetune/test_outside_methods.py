"""Methods of somebody's own: one file outside this package and a line of configuration, with the same checks."""

import textwrap

import pytest
import torch

from inril_core.errors import ConfigError
from inril_core.finetune.config import load_config
from inril_core.finetune.learner import Learner, new_policy
from tests.finetune.point_task import contract, demos, policy_roll, small_config

RL = """
    import torch
    from inril_core.finetune.contracts import Gradient, OffPolicyConfig, OffPolicyRl

    class Config(OffPolicyConfig):
        towards: float = 0.5
        def build(self, policy, actor, generator, reward=None):
            return Towards(self, policy, actor)

    class Towards(OffPolicyRl):
        def __init__(self, config, policy, actor):
            self.config, self.policy, self.actor, self.steps = config, policy, actor, torch.zeros(1)
        def critic_step(self, batch):
            self.steps += 1
            return {"critic_loss": 0.0}
        def actor_gradient(self, batch):
            mean, _ = self.policy(batch.observations)
            loss = (mean - self.config.towards).square().mean()
            return Gradient(self.actor.gradient(loss), {"rl_loss": loss.item()})
        def state(self):
            return {"steps": self.steps}
        def load(self, state):
            self.steps.copy_(state["steps"])
"""
IL = """
    from inril_core.finetune.contracts import Gradient, IlConfig, IlMethod

    class Config(IlConfig):
        rows: int = 8
        def build(self, policy, actor, generator):
            return Squared(self, policy, actor, generator)

    class Squared(IlMethod):
        def __init__(self, config, policy, actor, generator):
            self.config, self.policy, self.actor, self.generator = config, policy, actor, generator
        def loss(self, inputs, actions, generator=None):
            return (self.policy(inputs)[0] - actions).square().mean()
        def gradient(self, demos, batch=None):
            rows = demos.sample(batch or self.config.rows, self.generator)
            loss = self.loss(rows.observations, rows.actions)
            return Gradient(self.actor.gradient(loss), {"il_loss": loss.item()})
"""
REWARDS = """
    import numpy as np
    from inril_core.finetune.contracts import RewardConfig

    class Config(RewardConfig):
        price: float = 0.01
        def label(self, episode):
            rewards = np.full(episode.steps, -self.price, np.float32)
            masks = np.ones(episode.steps, np.float32)
            if episode.success:
                rewards[-1], masks[-1] = 1.0, 0.0
            return rewards, masks
"""
COMBINE = """
    import torch
    from inril_core.finetune.contracts import CombineConfig, Combiner, StepResult
    from inril_core.networks.flat import Adam

    class Config(CombineConfig):
        requires = (("rl", "actor_gradient"), ("il", "actor_gradient"))
        def build(self, actor, rl_lr):
            return BySuccess(actor, rl_lr)

    class BySuccess(Combiner):
        '''RL after a success, imitation otherwise.'''
        def __init__(self, actor, rl_lr):
            super().__init__(actor)
            self.adams = {"both": Adam(actor.value.numel(), rl_lr)}
            self.heard = torch.zeros(2)
        def episode_finished(self, episode):
            self.heard += torch.tensor([1.0, float(bool(episode.success))])
        def step(self, rl, il):
            adam, by_rl = self.adams["both"], bool(self.heard[1])
            gradient, metrics = rl() if by_rl else il()
            self.flat.value.sub_(adam.direction(gradient), alpha=adam.lr)
            return StepResult(metrics, metrics if by_rl else None)
        def state(self):
            return {**super().state(), "heard": self.heard}
        def load(self, state):
            super().load(state)
            self.heard.copy_(state["heard"])
"""
TEXTS = {"rl": RL, "il": IL, "rewards": REWARDS, "combine": COMBINE}
QUICK = {"schedule.warmup_steps": 20, "schedule.critic_warmup_updates": 4, "metrics_every_updates": 5}


def outside(tmp_path, monkeypatch, part: str, text: str | None = None) -> str:
    """Write a part's module where Python finds it; returns its name for the configuration."""
    name = f"outside_{part}_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(TEXTS[part] if text is None else text))
    monkeypatch.syspath_prepend(tmp_path)
    return f"{name}:Config"


def make(tmp_path, **changes) -> Learner:
    config = small_config("weighted_sum", **{**QUICK, **changes})
    return Learner(config, contract(), new_policy(config, contract(), demos()), demos(), tmp_path / "run")


def feed(learner: Learner, episodes: int = 8, first: int = 0) -> None:
    for seed in range(first, first + episodes):
        learner.ingest(policy_roll(learner.policy, seed))
        while learner.updates < learner.updates_due:
            learner.train_step()


@pytest.mark.parametrize("part", TEXTS)
def test_a_method_in_a_file_outside_trains_and_resumes(tmp_path, monkeypatch, part: str) -> None:
    """Pins: a method that has to be put into this package to be used."""
    changes = {part: {"method": outside(tmp_path, monkeypatch, part)}}
    learner = make(tmp_path, **changes)
    before = learner.policy_state()
    feed(learner)
    assert learner.actor_updates > 10
    assert any(not torch.equal(before[name], tensor) for name, tensor in learner.policy_state().items())
    learner.checkpoint()
    again = make(tmp_path, **changes)
    again.resume()
    for one in (learner, again):
        feed(one, 3, 50)
    assert all(torch.equal(tensor, again.policy_state()[name]) for name, tensor in learner.policy_state().items())


def test_a_combination_hears_of_each_training_episode_once(tmp_path, monkeypatch) -> None:
    learner = make(tmp_path, combine={"method": outside(tmp_path, monkeypatch, "combine")})
    feed(learner, 4)
    again = policy_roll(learner.policy, 80)
    for episode in (again, again, policy_roll(learner.policy, 90, purpose="eval")):
        learner.ingest(episode)
    assert learner.parts.combine.state()["heard"][0] == 5.0


def test_a_price_of_every_step_does_not_end_the_wait_for_a_success(tmp_path, monkeypatch) -> None:
    """Pins: an actor that follows critics which have only ever seen -0.01."""
    import dataclasses

    learner = make(
        tmp_path,
        rewards={"method": outside(tmp_path, monkeypatch, "rewards")},
        **{"rl.target_range": None, "schedule.rewards_before_actor": 1},
    )
    for seed in range(6):
        learner.ingest(dataclasses.replace(policy_roll(learner.policy, seed), success=False, terminated=False))
        while learner.updates < learner.updates_due:
            learner.train_step()
    assert learner.updates > 20 and learner.actor_updates == 0 and learner.informative_steps == 0
    learner.ingest(dataclasses.replace(policy_roll(learner.policy, 7), success=True))
    while learner.updates < learner.updates_due:
        learner.train_step()
    assert learner.informative_steps == 1 and learner.actor_updates > 0


@pytest.mark.parametrize(
    ("part", "text", "told"),
    [
        ("rl", "class Config: pass", "must be a subclass of inril_core.finetune.contracts.RlConfig"),
        ("combine", IL, "must be a subclass of inril_core.finetune.contracts.CombineConfig"),
        (
            "rewards",
            "from inril_core.finetune.contracts import RewardConfig\nclass Config(RewardConfig): pass",
            "label",
        ),
        ("il", "raise OSError('no camera')", "OSError: no camera"),
    ],
)
def test_what_is_no_method_is_refused_by_name(tmp_path, monkeypatch, part: str, text: str, told: str) -> None:
    """Pins: a traceback in the middle of a run where a configuration is wrong."""
    name = outside(tmp_path, monkeypatch, part, text)
    with pytest.raises(ConfigError, match=rf"{part}\.method = '{name}'.*{told}"):
        load_config("weighted_sum").changed(**{part: {"method": name}})


def test_a_setting_of_an_outside_method_is_checked_like_any_other(tmp_path, monkeypatch) -> None:
    name = outside(tmp_path, monkeypatch, "rl")
    with pytest.raises(ConfigError, match="rl.toward = 1.0: there is no such setting; did you mean 'towards'"):
        load_config("weighted_sum").changed(rl={"method": name, "toward": 1.0})


def test_a_method_that_builds_something_else_is_refused(tmp_path, monkeypatch) -> None:
    text = RL.replace("return Towards(self, policy, actor)", "return 3")
    name = outside(tmp_path, monkeypatch, "rl", text)
    with pytest.raises(ConfigError, match="it builds a int, which is no OffPolicyRl"):
        make(tmp_path, rl={"method": name})


def test_what_several_methods_share_is_no_method() -> None:
    from inril_core.finetune.methods import KINDS

    assert not {"common", "base"} & set(KINDS["combine"].known())
