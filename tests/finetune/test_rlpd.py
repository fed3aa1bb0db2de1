"""RLPD's critic target, ensemble and actor loss, against slow twins."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from inril_core.errors import ConfigError
from inril_core.finetune.memory.replay import Batch
from inril_core.finetune.methods import method_config
from inril_core.networks.critics import CriticEnsemble
from inril_core.networks.flat import FlatParameters
from inril_core.policies import GaussianPolicy, gaussian

D, A, B = 4, 3, 32


def make(**changes):
    torch.manual_seed(0)
    policy = GaussianPolicy(D, A, gaussian.Config(hidden=(8,)))
    config = method_config("rl", {"method": "rlpd", "hidden": (8, 8), "gamma": 0.9, **changes})
    return config.build(policy, FlatParameters(policy.parameters()), torch.Generator().manual_seed(1)), policy


def batch() -> Batch:
    g = torch.Generator().manual_seed(5)
    rows = [torch.randn((B, D), generator=g) for _ in range(2)]
    actions = torch.rand((B, A), generator=g) * 2 - 1
    rewards, discounts = (torch.rand(B, generator=g) < 0.3).float(), 0.9 * (torch.rand(B, generator=g) < 0.7).float()
    return Batch(rows[0], actions, rewards, discounts, rows[1], actions.flip(0))


def test_members_are_independent_networks() -> None:
    """Pins: a batched product that mixes members: each must equal the plain loop over its own layers."""
    critics = CriticEnsemble(3, D, A, (8, 8), torch.Generator().manual_seed(2))
    rows = torch.randn(B, D + A)
    q = critics(rows[:, :D], rows[:, D:])
    for member in range(3):
        w = [tensor[member] for tensor in critics.weights]
        hidden = rows
        for layer in range(2):
            hidden = hidden @ w[2 * layer] + w[2 * layer + 1]
            centred = hidden - hidden.mean(-1, keepdim=True)
            hidden = torch.relu(centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt())
        torch.testing.assert_close(q[member], (hidden @ w[4] + w[5])[:, 0], rtol=1e-4, atol=1e-5)
    assert (q.std(0) > 0).all(), "members must start apart"


def test_the_output_layer_of_a_layer_norm_critic_is_bounded_far_from_data() -> None:
    """Pins: LayerNorm missing: the value of a far action must not grow with its distance."""
    critics = CriticEnsemble(2, D, A, (8, 8), torch.Generator().manual_seed(2))
    with torch.no_grad():
        near, far = (critics(torch.zeros(1, D), torch.full((1, A), scale)) for scale in (10.0, 1e6))
    torch.testing.assert_close(near, far, rtol=0.2, atol=0.2)


@pytest.mark.parametrize("entropy", [False, True])
@pytest.mark.parametrize("subset, critics", [(2, 2), (1, 3)])
def test_target_is_reward_plus_discounted_minimum(entropy: bool, subset: int, critics: int) -> None:
    """Pins: the max, the mean or the live network in the target; a bootstrapped end of episode."""
    rl, policy = make(
        critics=critics, target_subset=subset, entropy_in_target=entropy, target_range=None, temperature=0.3
    )
    data, generator = batch(), torch.Generator()
    generator.set_state(rl._generator.get_state())
    y = rl.targets(data)
    with torch.no_grad():
        noise = torch.randn((B, A), generator=generator)
        mean, log_std = policy(data.next_observations)
        actions = torch.tanh(mean + log_std.exp() * noise)
        log_prob = policy.log_prob(data.next_observations, mean + log_std.exp() * noise)
        q = torch.stack(list(rl.critics(data.next_observations, actions, rl._target_weights)))
        if subset < critics:
            q = q[torch.randperm(critics, generator=generator)[:subset]]
        value = q.min(0).values - (0.3 * log_prob if entropy else 0.0)
    torch.testing.assert_close(y, data.rewards + data.discounts * value, rtol=1e-4, atol=1e-5)
    ended = data.discounts == 0
    assert torch.equal(y[ended], data.rewards[ended])


def test_targets_stay_in_the_range_a_sparse_reward_allows() -> None:
    """Pins: the clip applied to something else than the target."""
    rl, _ = make(target_range=(0.0, 1.0))
    data = batch()
    wild = replace(data, rewards=data.rewards * 5 - 2)
    y = rl.targets(wild)
    assert y.min() == 0.0 and y.max() == 1.0


def test_target_network_follows_by_tau() -> None:
    """Pins: a target that does not move, or that is the live network."""
    rl, _ = make(tau=0.25)
    before = rl._target.clone()
    rl.critic_step(batch())
    torch.testing.assert_close(rl._target, 0.75 * before + 0.25 * rl._critic.value)
    assert not torch.equal(rl._critic.value, before)


def test_critics_fit_fixed_targets() -> None:
    """Pins: a critic step that goes up the gradient."""
    rl, _ = make(critic_lr=1e-2)
    data = batch()
    ended = replace(data, discounts=torch.zeros(B))
    losses = [rl.critic_step(ended)["critic_loss"] for _ in range(200)]
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.parametrize("actor_q", ["mean", "min"])
def test_actor_gradient_is_autograd_of_the_written_loss(actor_q: str) -> None:
    """Pins: sign or scale of the entropy, or critics that receive the actor's gradient."""
    rl, policy = make(critics=3, temperature=0.2, actor_q=actor_q)
    data, generator = batch(), torch.Generator()
    generator.set_state(rl._generator.get_state())
    gradient, metrics = rl.actor_gradient(data)
    gradient = gradient.clone()
    noise = torch.randn((B, A), generator=generator)
    mean, log_std = policy(data.observations)
    raw = mean + log_std.exp() * noise
    q = rl.critics(data.observations, torch.tanh(raw))
    value = q.mean(0) if actor_q == "mean" else q.min(0).values
    loss = (0.2 * policy.log_prob(data.observations, raw) - value).mean()
    expected = torch.autograd.grad(loss, list(policy.parameters()))
    torch.testing.assert_close(gradient, torch.cat([g.reshape(-1) for g in expected]), rtol=1e-3, atol=1e-6)
    assert metrics["rl_loss"] == pytest.approx(loss.item(), rel=1e-4)
    assert float(rl._critic._gradient.abs().sum()) == 0.0


def test_behaviour_regularisation_has_td3_bcs_form_and_unit_and_fades() -> None:
    """Pins: its sign, a sum over action dimensions for a mean, a scale of Q with a gradient or none, a sample for the
    mode, a weight that stays."""
    weights = {"behaviour_regularisation": 2.0, "behaviour_regularisation_end": 0.5, "behaviour_decay_steps": 4}
    rl, policy = make(critics=3, temperature=0.0, **weights)
    data, generator = batch(), torch.Generator()
    for weight in (2.0, 1.625, 1.25, 0.875, 0.5, 0.5):
        assert rl.behaviour_regularisation == pytest.approx(weight)
        generator.set_state(rl._generator.get_state())
        gradient = rl.actor_gradient(data)[0].clone()
        rl.actor_stepped({"entropy": 0.0})
        noise = torch.randn((B, A), generator=generator)
        mean, log_std = policy(data.observations)
        q = rl.critics(data.observations, torch.tanh(mean + log_std.exp() * noise)).mean(0)
        distance = functional.mse_loss(torch.tanh(mean), data.actions)  # a mean over rows and dimensions
        loss = -q.mean() / q.detach().abs().mean() + weight * distance
        expected = torch.autograd.grad(loss, list(policy.parameters()))
        torch.testing.assert_close(gradient, torch.cat([g.reshape(-1) for g in expected]), rtol=1e-3, atol=1e-6)


def test_learned_temperature_moves_towards_the_target_entropy() -> None:
    """Pins: a temperature that grows when there is too much entropy."""
    rl, _ = make(learn_temperature=True, temperature=0.1, target_entropy=-1.0)
    rl.actor_stepped({"entropy": 3.0})
    assert rl.temperature < 0.1
    rl, _ = make(learn_temperature=True, temperature=0.1, target_entropy=-1.0)
    rl.actor_stepped({"entropy": -5.0})
    assert rl.temperature > 0.1


@pytest.mark.parametrize(
    "values, word",
    [
        ({"critics": 2, "target_subset": 3}, "target_subset"),
        ({"entropy_in_target": True}, "target_range"),
        ({"learn_temperature": True, "temperature": 0.0}, "temperature"),
        ({"target_range": (1.0, 0.0)}, "target_range"),
        ({"gamma": 1.5}, "rl.gamma = 1.5"),
        ({"gamma": float("nan")}, "rl.gamma"),
        ({"surprise": 1}, "rl.surprise"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(values, word: str) -> None:
    """Pins: a typo that trains something else."""
    with pytest.raises(ConfigError, match=word):
        method_config("rl", {"method": "rlpd", **values})
