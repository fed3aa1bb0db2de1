"""CSIL and CSIL++: the reward is coherent and bounded, the critic starts in agreement, and cloned skill is kept."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from inril_core.errors import ConfigError
from inril_core.finetune.config import FineTuneConfig, load_config
from inril_core.finetune.flat import FlatParameters
from inril_core.finetune.learner import Learner
from inril_core.finetune.methods import method_config
from inril_core.finetune.pretrain import pretrain
from inril_core.finetune.replay import NO_ACTION, Batch, Replay
from inril_core.finetune.rewards.csil import Config as RewardConfig
from inril_core.finetune.rewards.csil import gaussian_kl, nominal_bound
from inril_core.finetune.transitions import transitions
from inril_core.policies import Memory, exploration_rng, policy_config
from tests.finetune.point_task import contract, demos, make_episode, policy_roll, roll, success_rate

D, A, B = 4, 3, 32
HETSTAT = {"kind": "hetstat", "hidden": [24], "features": 24, "bottleneck": 6, "log_scale_init": 0.0}


def make(reward: dict | None = None, policy: dict | None = None, **changes):
    """The method with its reward, on an untrained policy whose head is not zero."""
    torch.manual_seed(0)
    made = policy_config(policy or {"kind": "gaussian", "hidden": [8]}).build(D, A)
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.3 * torch.randn_like(p))
    values = {"method": "csil", "hidden": (8, 8), "gamma": 0.9, "sarsa_updates": 0, "batch": B, **changes}
    method = method_config("rl", values).build(
        made, FlatParameters(made.parameters()), torch.Generator().manual_seed(1)
    )
    method.reward = RewardConfig(**{"method": "csil", **(reward or {})}).model(made)
    return method, made


def batch(demos: int = B // 2) -> Batch:
    g = torch.Generator().manual_seed(5)
    rows = [torch.randn((B, D), generator=g) for _ in range(2)]
    actions = [torch.rand((B, A), generator=g) * 1.8 - 0.9 for _ in range(2)]
    discounts = 0.9 * (torch.rand(B, generator=g) < 0.7).float()
    return Batch(rows[0], actions[0], torch.zeros(B), discounts, rows[1], actions[1], demos)


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


@pytest.fixture(scope="module")
def shown():
    torch.set_num_threads(1)
    return demos(20)


@pytest.fixture(scope="module")
def cloned(shown):
    """The point's policy with a HETSTAT head, and a plain one."""
    config = small()
    plain = {"kind": "gaussian", "hidden": [24, 24]}
    return tuple(pretrain(config.changed(policy=p), contract(), shown) for p in (HETSTAT, plain))


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
    """SARSA on demonstrations: Q of a shown action beats that of a random one, and is flat around it."""
    policy = cloned[0]

    def prepared(**changes):
        config = small(method, **{"rl.sarsa_updates": 200, **changes})
        rl = config.rl.build(policy, FlatParameters(policy.parameters()), torch.Generator().manual_seed(0))
        rl.reward = config.rewards.model(policy)
        memory = replay_of(shown, config, policy)
        rl.prepare(memory)
        return rl, memory.first(1000)

    rl, rows = prepared()
    random = torch.rand(rows.actions.shape, generator=torch.Generator().manual_seed(3)) * 2 - 1
    q_shown, q_random = (rl.values(rows.observations, a).detach() for a in (rows.actions, random))
    assert q_shown.mean() > 1.0 and q_shown.mean() > q_random.mean() and (q_shown > q_random).float().mean() > 0.6
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
    rl = config.rl.build(policy, FlatParameters(policy.parameters()), torch.Generator().manual_seed(0))
    rl.reward = config.rewards.model(policy)
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
    low, high = method._support.tolist()
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
        method.actor_stepped(0.0)
        assert (method.temperature > before) == rises


def small(method: str = "csil", **changes) -> FineTuneConfig:
    values = {
        "rl.hidden": [24, 24],
        "rl.batch": 32,
        "rl.gamma": 0.9,
        "rl.sarsa_updates": 60,
        "rl.sarsa_lr": 2e-3,
        "il.batch": 32,
        "pretrain.updates": 250,
        "pretrain.batch": 64,
        "pretrain.lr": 5e-3,
        "schedule.warmup_steps": 40,
        "schedule.budget_steps": 160,
        "schedule.utd": 1.0,
        "metrics_every_updates": 10,
        **changes,
    }
    config = load_config(method).changed(**values)
    return config.changed(policy=HETSTAT) if config.policy.kind == "hetstat" else config


def fine_tune(learner: Learner, first: int, steps: int) -> int:
    seed = first
    while learner.ingested_steps < steps:
        learner.ingest(policy_roll(learner.policy, seed))
        seed += 1
        while learner.updates < learner.updates_due:
            learner.train_step()
    return seed


COMPOSED = {
    "kind": "residual",
    "base": {"kind": "gaussian", "hidden": [24]},
    "learned": HETSTAT,
    "freeze_base": True,
}
PRESETS = ("csil", "csilpp", "csilpp_average", "csilpp_residual")


def config_of(preset: str) -> FineTuneConfig:
    config = small(preset)
    if config.policy.kind == "hetstat":
        return config
    return config.changed(policy={**COMPOSED, "mode": config.policy.mode})


@pytest.mark.parametrize("preset", PRESETS)
def test_what_was_cloned_is_kept_from_the_first_update_on(preset: str, tmp_path, shown) -> None:
    """Pins the dip: after the first updates, and at the end, the point still arrives; and an update really ran."""
    config = config_of(preset)
    policy = pretrain(config, contract(), shown)
    start = success_rate(policy, 20)
    learner = Learner(config, contract(), policy, shown, tmp_path)
    before = torch.cat([p.detach().flatten() for p in policy.learned_part.parameters()])
    base = None if policy.learned_part is policy else {n: t.clone() for n, t in policy.base.state_dict().items()}
    next_seed = fine_tune(learner, 0, 50)
    early = success_rate(policy, 20)
    fine_tune(learner, next_seed, 85)
    assert start >= 0.9 and early >= start - 0.1 and success_rate(policy, 20) >= start - 0.1
    after = torch.cat([p.detach().flatten() for p in policy.learned_part.parameters()])
    assert learner.actor_updates > 20 and not torch.equal(before, after)
    assert "reward_over_bound" in learner.last_metrics and "prior_kl" in learner.last_metrics
    if base is not None:
        assert all(torch.equal(base[name], tensor) for name, tensor in policy.base.state_dict().items())


def test_a_base_that_plans_ahead_is_one_line(tmp_path, shown) -> None:
    """The frozen base is a diffusion policy with chunks; the learned part is cloned and acts every step."""
    base = {"kind": "diffusion", "hidden": [16], "chunk": 3, "denoising_steps": 4, "inference_steps": 2}
    config = small("csilpp_average", **{"pretrain.updates": 20, "rl.sarsa_updates": 5, "schedule.warmup_steps": 10})
    config = config.changed(policy={**COMPOSED, "mode": "average", "base": base}, **{"schedule.budget_steps": 20})
    policy = pretrain(config, contract(), shown[:4])
    assert policy.chunk == 1 and policy.plan_steps == 3
    learner = Learner(config, contract(), policy, shown[:4], tmp_path)
    before = {name: t.clone() for name, t in policy.state_dict().items()}
    memory = Memory()
    episode = roll(lambda row, step: policy.act(row, True, exploration_rng(0, step), memory).action, 0)
    learner.ingest(replace(episode, terminated=False, truncated=True))
    while learner.updates < learner.updates_due:
        learner.train_step()
    moved = {n.split(".")[0] for n, t in policy.state_dict().items() if not torch.equal(t, before[n])}
    assert moved == {"learned"}


@pytest.mark.parametrize("preset", ["csil", "csilpp_average"])
def test_resume_equals_never_having_stopped(preset: str, tmp_path, shown) -> None:
    def run(name: str, stop: bool) -> dict[str, torch.Tensor]:
        config = config_of(preset).changed(**{"pretrain.updates": 20, "rl.sarsa_updates": 10})

        def fresh() -> Learner:
            return Learner(config, contract(), pretrain(config, contract(), shown[:3]), shown[:3], tmp_path / name)

        learner = fresh()
        act = np.random.default_rng(0).uniform(-0.6, 0.6, (7, 15, 6))
        for index in range(7):
            if stop and index == 5:
                learner.checkpoint()
                learner = fresh()
                learner.resume()
            learner.ingest(roll(lambda row, step, i=index: act[i, step], index))
            while learner.updates < learner.updates_due:
                learner.train_step()
        assert learner.actor_updates > 20
        return {**learner.policy_state(), **{f"rl.{k}": t for k, t in learner._rl.state().items()}}

    plain, stopped = run("a", False), run("b", True)
    assert all(torch.equal(plain[name], stopped[name]) for name in plain)


@pytest.mark.parametrize(
    "preset, changes, words",
    [
        ("csil", {"rewards": {"method": "task"}}, "rewards.method: csil"),
        ("rl_only", {"rewards": {"method": "csil"}}, "rl.method: csil or csilpp"),
        ("csil", {"policy": {"kind": "residual", "base": {"kind": "gaussian"}}}, "policy.learned"),
        ("csil", {"policy": {**COMPOSED, "freeze_base": False}}, "policy.freeze_base: true"),
        ("csil", {"rl.prior": "uniform", "rl.kl": "exact"}, "needs rl.prior"),
        ("csil", {"rl.batch": 2, "rl.demo_share": 0.1}, "too small"),
        ("csil", {"il.action_limit": 0.9}, "give both the same"),
    ],
)
def test_pairs_that_cannot_work_are_refused_with_the_reason(preset: str, changes: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_config(preset).changed(**changes)
