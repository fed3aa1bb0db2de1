"""IDQL: the expectile, the targets, selection, what actor and imitation step clone, and that it learns."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inril_core.errors import ConfigError
from inril_core.finetune.config import config_from_values, load_config
from inril_core.finetune.il.bc import Bc
from inril_core.finetune.il.bc import Config as BcConfig
from inril_core.finetune.learner import Learner, new_policy
from inril_core.finetune.local import collect_demos, evaluate, fine_tune, policy_actor, run_episode
from inril_core.finetune.memory.replay import Batch, Replay
from inril_core.finetune.methods import method_config
from inril_core.finetune.pretrain import pretrain
from inril_core.finetune.rl.idql import expectile_loss
from inril_core.networks.flat import FlatParameters
from inril_core.policies import Memory, exploration_rng, policy_config, policy_from_manifest
from tests.finetune.planned_point import PlannedPoint

POLICY = {
    "kind": "selected_diffusion",
    "chunk": 2,
    "hidden": [16],
    "denoising_steps": 5,
    "inference_steps": 3,
    "critic_hidden": [8],
    "candidates": 6,
}
ROW = np.linspace(-1, 1, 4, dtype=np.float32)


def make(policy_changes=None, **changes):
    torch.manual_seed(0)
    policy = policy_config({**POLICY, **(policy_changes or {})}).build(4, 2)
    policy.prepare_finetuning()
    flat = FlatParameters(p for p in policy.parameters() if p.requires_grad)
    method = method_config("rl", {"method": "idql", **changes})
    return policy, method.build(policy, flat, torch.Generator().manual_seed(1))


def rows(seed: int = 0, size: int = 16) -> Batch:
    g = torch.Generator().manual_seed(seed)
    draw = [torch.rand((size, width), generator=g) for width in (4, 4, 1, 1, 4, 4)]
    return Batch(draw[0], draw[1], draw[2][:, 0], 0.9 * (draw[3][:, 0] > 0.3), draw[4], draw[5])


@settings(deadline=None)
@given(
    tau=st.floats(0.5, 0.95),
    values=st.lists(st.floats(-3, 3), min_size=2, max_size=9),
)
def test_the_minimum_of_the_expectile_loss_is_the_expectile(tau: float, values: list[float]) -> None:
    """Pins: the asymmetry the wrong way round. At the expectile e: tau E[(x-e)+] = (1-tau) E[(e-x)+]."""
    x = torch.tensor(values, dtype=torch.float64)
    low, high = x.min().item(), x.max().item()
    for _ in range(60):
        middle = torch.tensor((low + high) / 2, dtype=torch.float64, requires_grad=True)
        expectile_loss(x - middle, tau).backward()
        low, high = (low, middle.item()) if middle.grad > 0 else (middle.item(), high)
    above, below = (x - low).clamp_min(0).sum(), (low - x).clamp_min(0).sum()
    assert float(tau * above) == pytest.approx(float((1 - tau) * below), abs=1e-6)
    assert low >= x.mean().item() - 1e-6


def test_the_expectile_loss_in_numbers() -> None:
    assert expectile_loss(torch.tensor([2.0, -1.0]), 0.8).item() == pytest.approx((0.8 * 4 + 0.2 * 1) / 2)
    assert expectile_loss(torch.tensor([2.0, -1.0]), 0.5).item() == pytest.approx(0.5 * 2.5)


def test_one_critic_step_is_the_gradient_of_both_losses() -> None:
    """Pins: V learned from the online Q, Q from the target, a gradient through a target, a mean for the minimum."""
    policy, method = make(expectile=0.7, critic_lr=1e-3, tau=0.1, target_range=None)
    batch, before = rows(), method._critic.value.clone()
    with torch.no_grad():
        method._target.add_(0.2 * torch.randn(method._target.shape, generator=torch.Generator().manual_seed(3)))
        target_q = method.critics(batch.observations, batch.actions, method._target_weights)
        target_q = torch.minimum(target_q[0], target_q[1])
        y = batch.rewards + batch.discounts * method._v(batch.next_observations)
    q = method.critics(batch.observations, batch.actions)
    error = target_q - method._v(batch.observations)
    loss = (error.square() * torch.where(error < 0, 0.3, 0.7)).mean() + sum((row - y).square().mean() for row in q)
    expected = method._critic.gradient(loss).clone()
    target = method._target.clone()
    method.critic_step(batch)
    torch.testing.assert_close(method._critic._gradient, expected)
    step = method._critic.value - before
    torch.testing.assert_close(step.sign(), -expected.sign())
    online = method._critic.value[: len(target)]
    torch.testing.assert_close(method._target, target + 0.1 * (online - target))


def test_values_are_learned_in_closed_form_on_a_one_step_task() -> None:
    """Pins: IQL on one state with two plans worth 0 and 1: Q finds both, V their expectile (tau for 0 and 1)."""
    policy, method = make({"critic_hidden": [32]}, expectile=0.8, critic_lr=1e-2, tau=0.1)
    good = (torch.arange(64) % 2 == 0).float()
    actions = (2 * good - 1)[:, None].repeat(1, 4)
    same = torch.zeros(64, 4)
    batch = Batch(same, actions, good, torch.zeros(64), same, actions)
    for _ in range(250):
        method.critic_step(batch)
    q = method.critics(same[:2], actions[:2]).detach()
    torch.testing.assert_close(q, torch.tensor([[1.0, 0.0], [1.0, 0.0]]), atol=0.05, rtol=0)
    assert method._v(same[:1]).item() == pytest.approx(0.8, abs=0.05)


def values_by_first_number(policy) -> None:
    """Q = the plan's first number, V = 0, through the network's own layers."""
    policy.critics.forward = lambda inputs, plans: torch.stack((plans[:, 0], plans[:, 0] + 1.0))
    policy.value.forward = lambda inputs, plans: torch.zeros(1, len(inputs))


def test_exploring_picks_plans_above_v_with_the_weight_and_evaluation_the_best() -> None:
    """Pins: selection by the greater Q, weights of single plans taken for those of the groups."""
    policy, _ = make({"candidates": 5})
    values_by_first_number(policy)
    plans = torch.tensor([[0.5], [-0.5], [0.1], [-0.2], [-0.3]]).repeat(1, 4)
    weights = policy.selection_weights(torch.zeros(5, 4), plans)
    total = 2 * 0.7 + 3 * 0.3
    torch.testing.assert_close(weights, torch.tensor([0.7, 0.3, 0.7, 0.3, 0.3]) / total)
    policy.draw = lambda inputs, explore, rng: plans[None]
    inputs = torch.zeros(1, 4)
    assert policy.plan(inputs, False, np.random.default_rng(0))[0][0] == 0.5
    rng = np.random.default_rng(0)
    picked = [round(float(policy.plan(inputs, True, rng)[0][0]), 2) for _ in range(2000)]
    for value, weight in zip((0.5, -0.5, 0.1, -0.2, -0.3), weights.tolist(), strict=True):
        assert picked.count(value) / 2000 == pytest.approx(weight, abs=0.04)


def test_only_good_plans_with_weight_one_unless_there_are_none() -> None:
    policy, _ = make({"explore_weight": 1.0})
    values_by_first_number(policy)
    weights = policy.selection_weights(torch.zeros(2, 4), torch.tensor([[0.5], [-0.5]]).repeat(1, 4))
    assert weights.tolist() == [1.0, 0.0]
    assert policy.selection_weights(torch.zeros(2, 4), -torch.ones(2, 4)).tolist() == [0.5, 0.5]


def test_before_there_is_a_critic_it_acts_as_the_cloned_policy() -> None:
    """Pins: a random critic that selects at the start of fine-tuning."""
    policy, _ = make()
    assert not policy.has_critics
    rng = exploration_rng(0, 0)
    inputs = policy.normalise(torch.from_numpy(ROW))[None].expand(6, -1)
    with torch.no_grad():
        first = policy.draw(inputs, False, rng)[-1, 0, :2].numpy()
    np.testing.assert_array_equal(policy.act(ROW, False, exploration_rng(0, 0)).action, first.clip(-1, 1))
    weights = policy.selection_weights(inputs, torch.rand(6, 4))
    torch.testing.assert_close(weights, torch.full((6,), 1 / 6))


def test_the_critics_travel_with_the_weights() -> None:
    """Pins: an acting process that selects with no critic, or an older one."""
    policy, method = make()
    for _ in range(30):
        method.critic_step(rows())
    assert policy.has_critics
    with torch.device("meta"):
        twin = policy_from_manifest(policy.manifest())
    twin.load_state_dict(policy.state_dict(), assign=True)
    picks = set()
    for step in range(6):
        for explore in (True, False):
            a, b = (p.act(ROW, explore, exploration_rng(0, step), Memory()) for p in (policy, twin))
            np.testing.assert_array_equal(a.action, b.action)
        picks.add(a.action.tobytes())
    assert len(picks) > 1
    batch = rows()
    live = method.critics(batch.observations, batch.actions).detach()
    target = method.critics(batch.observations, batch.actions, method._target_weights)
    assert not torch.allclose(live, target)
    torch.testing.assert_close(twin.critics(batch.observations, batch.actions), target, msg="it acts by the target Q")
    v = method._v(batch.observations).detach()
    torch.testing.assert_close(twin.value(batch.observations, batch.actions[:, :0])[0], v)
    again = method_config("rl", {"method": "idql"}).build(
        policy, FlatParameters(p for p in policy.parameters() if p.requires_grad), torch.Generator().manual_seed(5)
    )
    size = len(method._target)
    assert torch.equal(again._critic.value[:size], method._target), "a second run goes on from what selects"
    assert torch.equal(again._critic.value[size:], method._critic.value[size:])


def test_the_actor_never_sees_the_critic_and_the_critic_never_moves_the_actor() -> None:
    policy, method = make()
    trained = {name for name, p in policy.named_parameters() if p.requires_grad}
    assert trained and all(name.startswith("network.") for name in trained)
    before = {name: p.clone() for name, p in policy.named_parameters() if p.requires_grad}
    method.critic_step(rows())
    assert all(torch.equal(p, before[name]) for name, p in policy.named_parameters() if p.requires_grad)
    gradient = method.actor_gradient(rows())[0].clone()
    assert gradient.shape == method._actor.value.shape and gradient.abs().max() > 0.0


def test_weights_of_the_actors_loss_follow_the_expectile() -> None:
    policy, method = make(actor_weights="expectile", expectile=0.8)
    batch = rows()
    method._generator.manual_seed(7)
    loss = method.actor_gradient(batch)[1]["rl_loss"]
    errors = policy.denoising_errors(batch.observations, batch.actions, torch.Generator().manual_seed(7)).detach()
    better = method._target_q(batch) > method._v(batch.observations).detach()
    assert 0 < better.sum() < len(better)
    weights = torch.where(better, 0.8, 0.2)
    assert loss == pytest.approx(float((weights * errors).sum() / weights.sum()), rel=1e-5)


def test_the_imitation_step_clones_the_demonstrations_not_the_replay() -> None:
    """Pins: an imitation step on the replay memory, which is the actor's own loss once more (a no-op)."""
    policy, method = make()
    demos = Replay(16, 4, 4)
    demos.add(rows(seed=9))
    bc = Bc(BcConfig(method="bc", batch=16), policy, method._actor, torch.Generator().manual_seed(7))
    picks = demos.sample(16, torch.Generator().manual_seed(7))
    found = bc.gradient(demos)[0].clone()
    generator = torch.Generator().manual_seed(7)
    torch.randint(16, (16,), generator=generator)
    expected = method._actor.gradient(policy.denoising_errors(picks.observations, picks.actions, generator).mean())
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"policy": {"kind": "diffusion"}}, "selection"),
        ({"policy": {**POLICY, "finetuned_steps": 2}}, "finetuned_steps"),
        ({"rl": {"method": "idql", "target_range": [1.0, 0.0]}}, "target_range"),
        ({"rl": {"method": "dppo"}}, "chain"),
    ],
)
def test_what_does_not_fit_is_refused(changes, words: str) -> None:
    values = load_config("idql").model_dump(mode="json")
    with pytest.raises(ConfigError, match=words):
        config_from_values({**values, **changes}, "test")


@pytest.mark.parametrize("name", ["idql", "idql_interleave"])
def test_demonstrations_are_not_in_the_actors_own_batch(tmp_path, name: str) -> None:
    """Pins: two arms that both clone demonstrations, of which one is said to interleave imitation."""
    task = PlannedPoint()
    demos = collect_demos(task, task.expert(), range(10_000, 10_003))

    def share(**changes) -> float:
        settings = load_config(name).changed(**{**SMALL, **changes})
        learner = Learner(settings, task.interface, new_policy(settings, task.interface, demos), demos, tmp_path)
        learner.ingest(run_episode(task, policy_actor(learner.policy, 0, True), 0, "train", True, "x", 0))
        shown, drawn = learner.buffers.demos.first(1000).observations, learner.loop.batch().observations
        return float((drawn[:, None] == shown[None]).all(-1).any(1).float().mean())

    assert share() == 0.0
    assert share(**{"rl.demo_share": 0.5}) == 0.5, "the control"


SMALL = {"policy.hidden": [16], "policy.critic_hidden": [16], "policy.denoising_steps": 5, "rl.batch": 64}


def config(**changes):
    small = {
        "policy.chunk": 2,
        "policy.hidden": [32, 32],
        "policy.denoising_steps": 5,
        "policy.inference": "ddim",
        "policy.inference_steps": 3,
        "policy.std_floor": 0.1,
        "policy.critic_hidden": [32, 32],
        "pretrain.updates": 150,
        "pretrain.batch": 64,
        "rl.batch": 64,
        "rl.demo_share": 0.5,  # what a thousand steps are too few for
        "rl.gamma": 0.9,
        "rl.tau": 0.02,
        "rl.actor_lr": 1e-3,
        "rl.critic_lr": 1e-3,
        "schedule.rewards_before_actor": 0,
        "schedule.warmup_steps": 300,
        "schedule.critic_warmup_updates": 200,
        "schedule.budget_steps": 1000,
        "metrics_every_updates": 100,
    }
    return load_config("idql").changed(**{**small, **changes})


def test_a_cloned_policy_gets_better(tmp_path) -> None:
    """Pins: any broken link between plan, replay, critic and selection."""
    task, settings = PlannedPoint(), config()
    demos = collect_demos(task, task.expert(), range(10_000, 10_012))
    policy = pretrain(settings, task.interface, demos)
    seeds = range(50_000, 50_040)
    before = sum(evaluate(task, policy, seeds))
    learner, _ = fine_tune(settings, task, policy, demos, tmp_path, 0)
    after = sum(evaluate(task, policy, seeds))
    assert learner.actor_updates > 0 and policy.has_critics
    assert before <= 20 and after >= 36, (before, after)


def test_resume_equals_never_having_stopped(tmp_path) -> None:
    task = PlannedPoint()
    settings = config(
        **{
            "schedule.rewards_before_actor": 0,
            "schedule.warmup_steps": 20,
            "schedule.critic_warmup_updates": 5,
            "rl.batch": 8,
            "metrics_every_updates": 7,
        }
    )
    demos = collect_demos(task, task.expert(), range(10_000, 10_003))

    def make_learner(name: str) -> Learner:
        return Learner(settings, task.interface, new_policy(settings, task.interface, demos), demos, tmp_path / name)

    def run(learner: Learner, first: int, last: int) -> None:
        for seed in range(first, last):
            learner.ingest(run_episode(task, policy_actor(learner.policy, seed, True), seed, "train", True, "x", 0))
            while learner.updates < learner.updates_due:
                learner.train_step()

    whole, half = make_learner("a"), make_learner("b")
    run(whole, 0, 5)
    run(half, 0, 3)
    half.checkpoint()
    other = make_learner("b")
    other.resume()
    run(other, 3, 5)
    assert other.actor_updates == whole.actor_updates > 0
    for name, value in whole.policy_state().items():
        assert torch.equal(other.policy_state()[name], value), name


def test_a_plan_that_ended_early_is_discounted_by_its_executed_steps() -> None:
    """Pins: gamma^chunk where fewer steps were executed; success inside a plan ends the value."""
    from inril_core.finetune.memory.transitions import transitions
    from inril_core.finetune.rewards.task import Config as TaskReward

    task, settings = PlannedPoint(), config(**{"policy.chunk": 4})
    policy = settings.policy.build(4, 6)
    made = run_episode(task, policy_actor(policy, 0, True), 0, "train", True, "x", 0)
    made = replace(made, success=None, terminated=False, truncated=True)
    assert made.steps == 15 or math.ceil(made.steps / 4) >= 1
    rewards, masks = TaskReward(method="task").label(made)
    found = transitions(made, rewards, masks, policy, 0.9, 1, 4)
    lengths = [min(4, made.steps - t) for t in range(0, made.steps, 4)]
    np.testing.assert_allclose(found.discounts.numpy(), 0.9 ** np.array(lengths), rtol=1e-5)
