"""CSIL's reward: coherent with the cloned policy, bounded, and it knows how a task ended."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from inril_core.finetune.rewards.csil import Config as RewardConfig
from inril_core.finetune.rewards.csil import gaussian_kl, nominal_bound
from inril_core.policies import policy_config
from tests.finetune.csil_made import A, B, D, batch, make
from tests.finetune.point_task import make_episode


def test_the_cloned_policy_is_optimal_for_its_own_reward() -> None:
    """CSIL section 4, on a table: soft policy iteration under r = alpha log(q/p) ends at q, from anywhere."""
    rng = np.random.default_rng(0)
    states, actions, gamma, alpha = 5, 4, 0.9, 0.3
    moves = rng.dirichlet(np.ones(states), (states, actions))
    q_bc, prior = rng.dirichlet(np.ones(actions), states), np.full(actions, 1.0 / actions)
    reward = alpha * (np.log(q_bc) - np.log(prior))

    def iterate(reward: np.ndarray) -> np.ndarray:
        policy = rng.dirichlet(np.ones(actions), states)
        for _ in range(20):
            value = np.zeros(states)
            for _ in range(400):  # soft policy evaluation
                q = reward + gamma * moves @ value
                value = (policy * (q - alpha * np.log(policy / prior))).sum(1)
            logits = q / alpha + np.log(prior)
            policy = np.exp(logits - logits.max(1, keepdims=True))
            policy /= policy.sum(1, keepdims=True)
        return policy

    np.testing.assert_allclose(iterate(reward), q_bc, atol=1e-6)
    other = alpha * (np.log(np.roll(q_bc, 1, axis=1)) - np.log(prior))
    assert np.abs(iterate(other) - q_bc).max() > 0.1


def test_in_theory_the_reward_is_its_own_value_and_the_target_says_so() -> None:
    """Pins: log-densities of different variables, or a wrong alpha, prior or sign in the soft value.

    With the uniform prior and temperature alpha, pi = q and Q = r give V = 0 for every sample, not on average only.
    """
    method, _ = make({"floor": None}, prior="uniform", temperature=1.0 / A)
    method.critics.forward = lambda s, a, w=None: method.reward(s, a)[0][None]
    rows = batch()
    inside = 0.95 * torch.tanh(torch.randn(B, A))
    method._policy.eval()
    following, divergence = method._sampled(rows.next_observations)
    keep = (following.abs() < 0.985).all(-1)  # beyond, the cloning loss's clip of actions is in between
    assert keep.sum() > 10
    rewards, _ = method.reward(rows.observations, inside)
    y = method.targets(rows, rewards, following, divergence)
    torch.testing.assert_close(y[keep], rewards[keep], atol=2e-3, rtol=1e-3)


def test_the_reward_is_the_log_ratio_to_the_uniform_density() -> None:
    """Pins the scale alpha = scaling / A and log p = -A ln 2, against torch.distributions."""
    method, policy = make({"floor": None, "scaling": 2.0})
    inputs, actions = torch.randn(9, D), 0.9 * torch.tanh(torch.randn(9, A))
    mean, log_std = policy(inputs)
    gaussian = torch.distributions.Normal(mean, log_std.exp())
    squashed = torch.distributions.TransformedDistribution(gaussian, torch.distributions.TanhTransform())
    expected = (2.0 / A) * (squashed.log_prob(actions) + math.log(2.0)).sum(-1)
    torch.testing.assert_close(method.reward(inputs, actions)[0], expected.detach(), rtol=1e-4, atol=1e-4)
    negative, _ = make({"floor": None, "scaling": 2.0, "variant": "negative"})
    shift = 2.0 * nominal_bound(policy.std_floor)
    torch.testing.assert_close(negative.reward(inputs, actions)[0], expected.detach() - shift, rtol=1e-4, atol=1e-4)


def test_the_bound_is_nominal_and_told_when_it_does_not_hold() -> None:
    """Pins R_max = 6.45, that it holds for moderate actions, and that saturated ones pass it and are counted."""
    assert nominal_bound(math.sqrt(1e-5)) == pytest.approx(6.45, abs=1e-3)
    torch.manual_seed(0)
    policy = policy_config({"kind": "hetstat", "hidden": [8], "features": 8, "mean_limit": None}).build(D, A)
    with torch.no_grad():
        policy.log_diagonals.fill_(-30.0)  # variance at its floor
    for size, over in ((0.72, 0.0), (0.75, 1.0), (0.98, 1.0)):
        with torch.no_grad():
            f = policy.features_of(policy.trunk(torch.zeros(1, D)))
            policy.head.copy_(f.T / f.square().sum() * math.atanh(size))  # the mode is the action
        reward = RewardConfig(method="csil").model(policy)
        r, metrics = reward(torch.zeros(1, D), torch.full((1, A), size))
        assert metrics["reward_over_bound"] == over and (float(r[0]) > reward.bound) == bool(over)
    assert reward.highest_value(0.9) == pytest.approx(64.496, abs=1e-2)
    assert RewardConfig(method="csil", variant="negative").model(policy).highest_value(0.9) == 0.0


def test_far_in_the_tail_the_reward_is_floored_and_counted() -> None:
    method, _ = make({"floor": -1.0}, policy={"kind": "gaussian", "hidden": [8], "log_std_init": -3.5})
    r, metrics = method.reward(torch.randn(20, D), torch.full((20, A), -0.98))
    assert float(r.min()) == -1.0 and metrics["reward_floored"] == pytest.approx(float((r == -1.0).float().mean()))


def test_the_exact_kl_is_that_of_torch() -> None:
    g = [torch.randn(7, A), 0.5 * torch.randn(7, A), torch.randn(7, A), 0.5 * torch.randn(7, A)]
    p, q = (torch.distributions.Normal(mean, log_std.exp()) for mean, log_std in (g[:2], g[2:]))
    torch.testing.assert_close(gaussian_kl(*g), torch.distributions.kl_divergence(p, q).sum(-1), rtol=1e-4, atol=1e-5)
    assert gaussian_kl(g[0], g[1], g[0], g[1]).abs().max() < 1e-5


@pytest.mark.parametrize("kl", ["sampled", "exact"])
def test_refinement_raises_what_was_shown_and_lowers_what_was_done(kl: str) -> None:
    """Pins the estimator exp(-max(r, -5)) - 1 + r against its formula, the signs, and one plain SGD step."""
    method, policy = make({"refine_kl": kl, "grad_clip": None})
    reward, rows = method.reward, batch()
    shown = (rows.observations[:16], rows.actions[:16])
    mean, _ = policy(rows.observations[16:])
    done = (rows.observations[16:], torch.tanh(mean.detach()))  # r > 0 there: the clone's own actions
    r_shown, r_done = ((1.0 / A) * reward.log_ratios(*pair).sum(-1) for pair in (shown, done))
    term = (torch.exp(-r_done.clamp_min(-5.0)) - 1 + r_done).mean()
    assert (torch.exp(-r_done.clamp_min(-5.0)) - 1 + r_done).min() >= 0.0
    if kl == "exact":
        m, s = policy(done[0])
        wide = torch.distributions.Normal(torch.zeros_like(m), math.sqrt(0.75))
        term = torch.distributions.kl_divergence(torch.distributions.Normal(m, s.exp()), wide).sum(-1).mean() / A
    torch.testing.assert_close(reward.loss(shown, done), term - r_shown.mean(), rtol=1e-4, atol=1e-4)
    before = reward._flat.value.clone()
    gradient = reward._flat.gradient(reward.loss(shown, done)).clone()
    reward.refine(shown, done)
    torch.testing.assert_close(reward._flat.value, before - 1e-3 * gradient)
    for _ in range(20):
        reward.refine(shown, done)
    after_shown, after_done = (reward(*pair)[0].mean() for pair in (shown, done))
    assert after_shown > r_shown.mean() and after_done < r_done.mean()
    assert torch.equal(method.prior.state_dict()["head.bias"], policy.state_dict()["head.bias"]), "the prior is frozen"


@pytest.mark.parametrize(
    "ending, success, mark, mask",
    [
        ("absorbing", True, 1.0, 0.0),
        ("absorbing", False, -1.0, 0.0),
        ("terminate", True, 0.0, 0.0),
        ("terminate", False, 0.0, 0.0),
        ("bootstrap", True, 0.0, 1.0),
        ("bootstrap", False, 0.0, 1.0),
    ],
)
def test_how_a_task_ended_is_marked(ending: str, success: bool, mark: float, mask: float) -> None:
    """Pins: a positive reward for every step and nothing after success, so that finishing costs."""
    made = make_episode(np.zeros((4, 4)), np.zeros((3, 6)), success, terminated=True)
    marks, masks = RewardConfig(method="csil", ending=ending).label(made)
    assert marks.tolist() == [0.0, 0.0, mark] and masks.tolist() == [1.0, 1.0, mask]
    cut = replace(made, success=False, terminated=False, truncated=True)
    assert RewardConfig(method="csil", ending=ending).label(cut)[1].tolist() == [1.0, 1.0, 1.0]


def test_finishing_well_is_worth_more_than_going_on_and_failing_less() -> None:
    for variant in ("positive", "negative"):
        method, _ = make({"variant": variant})
        good, bad = method.reward.end_values(0.9, demo_reward=2.0)
        typical = 1.5 - (method.reward.bound if variant == "negative" else 0.0)
        assert good > typical / (1 - 0.9) > bad


def test_off_the_demonstrations_hetstat_falls_back_and_a_plain_network_does_not(shown, cloned) -> None:
    """The trap that HETSTAT is for (methods: a plain MLP extrapolates its spread arbitrarily)."""
    far = []
    for policy in cloned:
        reward = RewardConfig(method="csil").model(policy)
        inputs = torch.cat([policy.inputs(demo)[:-1] for demo in shown])
        actions = torch.cat([torch.tensor(demo.actions) for demo in shown])
        assert reward(inputs, actions)[0].mean() > 1.0
        wrong = torch.where(actions > 0, actions - 0.6, actions + 0.6)
        assert reward(inputs, wrong)[0].mean() < -1.0
        g = torch.Generator().manual_seed(0)
        away = 3.0 * torch.randn((500, 4), generator=g)
        own, _ = policy.sample(away, torch.randn((500, 6), generator=g))
        far.append(float(reward(away, own)[0].detach().mean()))
    assert abs(far[0]) < 0.7 and far[1] > 1.0
