"""CSIL's and CSIL++'s critic and actor: targets, support and gradients are those of the written losses."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from inril_core.finetune.memory.replay import NO_ACTION, Replay
from inril_core.finetune.memory.transitions import transitions
from inril_core.networks.flat import FlatParameters
from inril_core.policies import policy_config
from tests.finetune.csil_made import HETSTAT, A, B, batch, make, small
from tests.finetune.point_task import make_episode


def test_the_target_is_the_bounded_soft_value_of_the_target_network() -> None:
    """Pins: the live network, a forgotten bound, the prior of the reward in the KL term, a bootstrapped end."""
    method, policy = make(critics=2, temperature=0.5)
    with torch.no_grad():
        policy.head.bias.add_(0.3)  # the policy has left its prior
        method._critic.value.add_(0.1)
    rows, prior = batch(), method.prior
    method._ends = torch.tensor([7.0, -3.0])
    marks = torch.zeros(B)
    marks[:2] = torch.tensor([1.0, -1.0])
    rows = replace(rows, rewards=marks)
    following, divergence = method._sampled(rows.next_observations)
    raw = torch.atanh(following)
    expected_kl = policy.log_prob(rows.next_observations, raw) - prior.log_prob(rows.next_observations, raw)
    torch.testing.assert_close(divergence, expected_kl.detach(), rtol=1e-2, atol=1e-2)
    rewards = torch.linspace(-1, 1, B)
    q = method.critics(rows.next_observations, following, method._target_weights).amin(0)
    expected = rewards + rows.discounts * (q - 0.5 * divergence) + 0.9 * 7.0 * (marks > 0) - 0.9 * 3.0 * (marks < 0)
    torch.testing.assert_close(method.targets(rows, rewards, following, divergence), expected)
    high = method.reward.highest_value(0.9)
    with torch.no_grad():
        method._target_weights[-1].fill_(10 * high)
    y = method.targets(replace(rows, rewards=torch.zeros(B)), rewards, following, divergence)
    torch.testing.assert_close(y, rewards + rows.discounts * high)


def test_the_slope_is_that_of_q_in_the_action() -> None:
    method, _ = make()
    rows = batch()
    actions = rows.actions.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(method.values(rows.observations, actions).sum(), actions)
    expected = gradient.square().sum(-1).mean().sqrt()
    torch.testing.assert_close(method.slope(rows.observations, rows.actions).detach(), expected, rtol=1e-4, atol=1e-5)


def replay_of(episodes, config, policy) -> Replay:
    memory = Replay(1000, policy.input_size, 6)
    for episode in episodes:
        rewards, masks = config.rewards.label(episode)
        memory.add(transitions(episode, rewards, masks, policy, config.rl.gamma))
    return memory


@pytest.mark.parametrize("method", ["csil", "csilpp"])
def test_pre_training_values_what_was_shown_above_anything_else(method: str, shown, cloned) -> None:
    """SARSA on demonstrations: Q of a shown action beats that of a random one, and is flat around it.

    CSIL++'s critics are not held to the first: with batch normalisation they say anything of actions that nobody
    showed, more than of shown ones on one processor and less on another, and the more the longer they are trained.
    """
    policy = cloned[0]

    def prepared(**changes):
        config = small(method, **{"rl.sarsa_updates": 800, **changes})
        actor = FlatParameters(policy.parameters())
        rl = config.rl.build(policy, actor, torch.Generator().manual_seed(0), config.rewards.model(policy))
        memory = replay_of(shown, config, policy)
        rl.prepare(memory)
        return rl, memory.first(1000)

    rl, rows = prepared()
    random = torch.rand(rows.actions.shape, generator=torch.Generator().manual_seed(3)) * 2 - 1
    q_shown, q_random = (rl.values(rows.observations, a).detach() for a in (rows.actions, random))
    assert q_shown.mean() > 1.0
    if method == "csil":
        assert q_shown.mean() > q_random.mean() and (q_shown > q_random).float().mean() > 0.6
    steep = prepared(**{"rl.slope_weight": 0.0})[0]
    assert rl.slope(rows.observations, rows.actions) < 0.5 * steep.slope(rows.observations, rows.actions)
    demo_reward = float(rl.reward(rows.observations, rows.actions)[0].mean())
    assert rl._ends[0] == pytest.approx(demo_reward / (1 - 0.9), rel=1e-3)


def test_a_demonstration_is_never_continued_by_the_next_one() -> None:
    """Pins: pairs from a sliding window over all steps, where a truncated episode's last step meets another's first."""
    config, policy = small(**{"rewards.ending": "bootstrap"}), policy_config(HETSTAT).build(4, 6)
    first, second = (make_episode(np.full((4, 4), v), np.full((3, 6), v / 10), True) for v in (1.0, 2.0))
    rows = replay_of([first, second], config, policy).first(10)
    assert rows.discounts.tolist()[2] > 0.0 and (rows.next_actions[2] == NO_ACTION).all()
    torch.testing.assert_close(rows.next_actions[:2], torch.full((2, 6), 0.1))


def test_standing_still_is_an_action_that_pre_training_goes_on_with(monkeypatch) -> None:
    """Pins: an all-zero next action (an untouched device) taken for a missing one."""
    config = small(**{"rewards.ending": "bootstrap", "rl.sarsa_updates": 1})
    policy = policy_config(HETSTAT).build(4, 6)
    actor = FlatParameters(policy.parameters())
    rl = config.rl.build(policy, actor, torch.Generator().manual_seed(0), config.rewards.model(policy))
    seen = []
    monkeypatch.setattr(rl, "_fit", lambda batch, count, following, *_: seen.append((batch, following)))
    rl.prepare(replay_of([make_episode(np.full((4, 4), 1.0), np.zeros((3, 6)), True)], config, policy))
    ((batch, following),) = seen
    last = (batch.next_actions == NO_ACTION).all(1)
    assert 0 < last.sum() < len(last)
    assert (following[~last] == 0.0).all() and (following[last] != 0.0).all() and following.abs().max() <= 1.0


def test_the_target_distribution_has_the_targets_mean() -> None:
    """CSIL++: shifted and projected, inside the support, the mean is the scalar target of the lower critic."""
    method, policy = make(method="csilpp", support=(-60.0, 45.0), atoms=51, temperature=0.5)
    with torch.no_grad():
        policy.head.bias.add_(0.3)  # the policy has left its prior
    rows = batch()
    following, divergence = method._sampled(rows.next_observations)
    rewards = torch.linspace(-1, 1, B)
    present = torch.cat((rows.observations, rows.actions), -1)
    joint = torch.cat((present, torch.cat((rows.next_observations, following), -1)))
    p, metrics = method.distribution(rows, joint, rewards, divergence)
    torch.testing.assert_close(p.sum(-1), torch.ones(B))
    assert metrics["value_clipped"] == pytest.approx(0.0, abs=1e-3)
    q = method._mean(method.critics(joint, "batch", method._target_weights))[:, B:].amin(0)
    expected = rewards + rows.discounts * (q - method.temperature * divergence)
    torch.testing.assert_close(p @ method._values, expected.detach(), atol=0.05, rtol=1e-3)
    wide, _ = make(method="csilpp", support=(-60.0, 60.0))
    with torch.no_grad():
        wide._target_weights[8].zero_()
        wide._target_weights[9].zero_()[..., -1] = 50.0  # all mass at 60, above what any value can be
    p = wide.distribution(rows, joint, rewards, divergence)[0]
    bound = wide.reward.highest_value(0.9)
    assert bound < 50.0
    torch.testing.assert_close(p @ wide._values, rewards + rows.discounts * bound, atol=1e-2, rtol=1e-3)
    narrow, _ = make(method="csilpp", support=(-0.01, 0.01))
    assert narrow.distribution(rows, joint, rewards, divergence)[1]["value_clipped"] > 0.5


@pytest.mark.parametrize("variant", ["positive", "negative"])
@pytest.mark.parametrize("earned", [2.0, -4.0])
def test_the_support_holds_what_demonstrations_earn_for_ever(variant: str, earned: float) -> None:
    """Pins: XQC's [-5, 5] for a sum of up to 6.45 / (1 - gamma); and a bad clone's support without width."""
    method, _ = make({"variant": variant}, method="csilpp")
    shift = method.reward.bound if variant == "negative" else 0.0
    method._prepare_critic(torch.full((20,), earned - shift))
    low, high = method._support
    good, bad = method.reward.end_values(0.9, earned - shift)
    assert low < min(good, bad) and max(good, 0.0) < high and high - low > 1.0


def test_a_step_keeps_unit_weights_and_moves_the_target() -> None:
    method, _ = make(method="csilpp")
    before = method._target.clone()
    metrics = method.critic_step(batch())
    for weight in list(method.critics.weights)[6:9]:
        torch.testing.assert_close(torch.linalg.vector_norm(weight, dim=1), torch.ones_like(weight[:, 0]))
    assert not torch.equal(before, method._target)
    assert {"value_clipped", "reward_over_bound", "reward_demos", "reward_online", "reward_loss"} <= set(metrics)


def test_the_actors_gradient_is_that_of_value_and_kl_and_starts_at_the_prior() -> None:
    """Pins: a KL to anything but the frozen clone; at the start its exact form has neither value nor gradient."""
    method, policy = make(kl="exact", temperature=100.0)
    method.values = lambda s, a, live=False: 0.0 * a.sum(-1)[None]
    gradient, metrics = method.actor_gradient(batch())
    assert metrics["prior_kl"] == pytest.approx(0.0, abs=1e-6) and gradient.abs().max() < 1e-4
    with torch.no_grad():
        policy.head.bias.add_(0.1)
    gradient, metrics = method.actor_gradient(batch())
    assert metrics["prior_kl"] > 0.01 and gradient.abs().max() > 1.0


def test_slope_and_refinement_know_which_rows_are_demonstrations(monkeypatch) -> None:
    """Pins: what the robot did raised in the reward, and what was shown lowered; a penalty on the wrong rows."""
    method, _ = make()
    rows, seen = batch(10), {}
    monkeypatch.setattr(method.reward, "refine", lambda demos, online: seen.update(demos=demos, online=online) or {})
    slope = method.slope
    monkeypatch.setattr(method, "slope", lambda *at: seen.update(slope=at) or slope(*at))
    method.critic_step(rows)
    for name, part in (("demos", slice(-10, None)), ("slope", slice(-10, None)), ("online", slice(0, -10))):
        assert torch.equal(seen[name][0], rows.observations[part]), name
        assert torch.equal(seen[name][1], rows.actions[part]), name


@pytest.mark.parametrize("kl", ["sampled", "exact"])
@pytest.mark.parametrize("name", ["csil", "csilpp"])
def test_the_actors_gradient_is_autograd_of_the_written_loss(name: str, kl: str) -> None:
    """Pins: the sign of Q or of the KL term, the mean of the critics, batch statistics in the actor's step."""
    method, policy = make(method=name, kl=kl, temperature=0.5, critics=2)
    with torch.no_grad():
        policy.head.bias.add_(0.3)  # away from the prior
        for mean in getattr(method.critics, "means", ()):
            mean.add_(0.2)
    rows, generator = batch(), torch.Generator()
    generator.set_state(method._generator.get_state())
    found = method.actor_gradient(rows)[0].clone()
    mean, log_std = policy(rows.observations)
    raw = mean + log_std.exp() * torch.randn((B, A), generator=generator)
    if name == "csil":
        q = method.critics(rows.observations, torch.tanh(raw))
    else:
        logits = method.critics(torch.cat((rows.observations, torch.tanh(raw)), -1), "running")
        q = torch.softmax(logits, -1) @ method._values
    pi = torch.distributions.Normal(mean, log_std.exp())
    cloned_mean, cloned_log_std = method.prior(rows.observations)
    prior = torch.distributions.Normal(cloned_mean, cloned_log_std.exp())
    sampled = (pi.log_prob(raw) - prior.log_prob(raw)).sum(-1)
    term = sampled if kl == "sampled" else torch.distributions.kl_divergence(pi, prior).sum(-1)
    expected = torch.autograd.grad((0.5 * term - q.amin(0)).mean(), list(policy.parameters()))
    torch.testing.assert_close(found, torch.cat([g.reshape(-1) for g in expected]), rtol=1e-3, atol=1e-5)


def test_a_learned_temperature_follows_the_kl() -> None:
    method, _ = make(learn_temperature=True, temperature=0.01)
    for kl, rises in ((5.0, True), (0.0, False)):
        before, method._kl = method.temperature, kl
        method.actor_stepped({})
        assert (method.temperature > before) == rises
