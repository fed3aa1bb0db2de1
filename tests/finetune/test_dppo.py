"""DPPO: ratios, clip ranges, discounts, what a plan's reward is, and that it learns."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from inril_core.errors import ConfigError
from inril_core.finetune.config import config_from_values, load_config
from inril_core.finetune.learner import Learner, new_policy
from inril_core.finetune.local import collect_demos, evaluate, fine_tune, policy_actor, run_episode
from inril_core.finetune.memory.rollout import RolloutSegment, generalised_advantages, segments
from inril_core.finetune.methods import method_config
from inril_core.finetune.pretrain import pretrain
from inril_core.finetune.rl.dppo import clip_ranges
from inril_core.networks.flat import FlatParameters
from inril_core.policies import Memory, exploration_rng, policy_config
from tests.finetune.planned_point import PlannedPoint

POLICY = {"kind": "diffusion", "chunk": 3, "hidden": [16], "denoising_steps": 6, "finetuned_steps": 4}


def make(**changes):
    torch.manual_seed(0)
    policy = policy_config(POLICY).build(4, 2)
    policy.prepare_finetuning()
    flat = FlatParameters(p for p in policy.parameters() if p.requires_grad)
    values = {"method": "dppo", "hidden": [8], "minibatches": 3, "epochs": 2, **changes}
    return policy, method_config("rl", values).build(policy, flat, torch.Generator().manual_seed(0))


def segment(policy, steps: int = 8, bootstrap: bool = True) -> RolloutSegment:
    """What the policy does on random observations: plans at steps 0, 3, 6; the last is cut short."""
    rows = np.random.default_rng(1).normal(size=(steps + 1, 4)).astype(np.float32)
    memory, made = Memory(), []
    for t in range(steps):
        made.append(policy.act(rows[t], True, exploration_rng(0, t), memory))
    aux = np.stack([a.aux if a.aux.size else np.zeros(policy.aux_size, np.float32) for a in made])
    return RolloutSegment(
        policy.normalise(torch.from_numpy(rows)),
        torch.tensor(np.stack([a.raw for a in made])),
        torch.tensor([a.log_prob for a in made]),
        torch.from_numpy(aux),
        np.array([a.chunk_index for a in made], np.int32),
        torch.arange(1.0, steps + 1.0),
        bootstrap,
    )


def test_before_the_first_step_every_ratio_is_one_and_each_epoch_sees_each_denoising_step_once() -> None:
    """Pins: a density recomputed at another noise level, from another condition, or with another std."""
    policy, method = make()
    assert method.begin_iteration([segment(policy), segment(policy, 3)]) == 6
    seen = []
    for _ in range(3):
        batch = method.next_minibatch()
        seen += [(k, round(x, 5)) for k, x in zip(batch.step.tolist(), batch.after[:, 0].tolist(), strict=True)]
        metrics = method.actor_gradient(batch)[1]
        assert metrics["kl"] == pytest.approx(0.0, abs=1e-6) and metrics["clipped"] == 0.0
    assert len(seen) == 4 * 4 and [k for k, _ in seen].count(0) == 4


def test_a_plans_reward_is_the_sum_over_its_executed_steps() -> None:
    """Pins: a plan that was cut short credited with steps nobody took, or its value not going on from the cut."""
    policy, method = make(gamma=0.5, gae_lambda=0.3)
    for bootstrap in (True, False):
        s = segment(policy, 8, bootstrap)
        plans = method.plans(s)
        at = torch.tensor([0, 3, 6, 8])
        with torch.no_grad():
            values = method.value(s.inputs[at]).squeeze(-1)
        expected = generalised_advantages(torch.tensor([6.0, 15.0, 15.0]), values, bootstrap, 0.5, 0.3)
        torch.testing.assert_close(plans.advantages, expected[0])
        torch.testing.assert_close(plans.returns, expected[1])
        assert torch.equal(plans.inputs, s.inputs[at[:-1]])


@pytest.mark.parametrize("steps", [2, 5, 10])
def test_the_clip_range_grows_towards_the_last_step(steps: int) -> None:
    found = clip_ranges(steps, 0.01, 0.001)
    for k in range(steps):
        share = (math.exp(3 * k / (steps - 1)) - 1) / (math.exp(3) - 1)
        assert found[k].item() == pytest.approx(0.001 + 0.009 * share, rel=1e-4)
    assert found[0].item() == pytest.approx(0.001) and found[-1].item() == pytest.approx(0.01)


def test_a_single_finetuned_step_is_not_zero_divided_by_zero() -> None:
    assert clip_ranges(1, 0.02, 0.001).tolist() == [pytest.approx(0.02)]


def gradient_of(method, batch) -> torch.Tensor:
    return method.actor_gradient(batch)[0].clone()


def test_the_gradient_is_that_of_the_discounted_clipped_surrogate() -> None:
    """Pins: the denoising discount on the wrong end, a sum for the mean, one clip range for all steps."""
    policy, method = make(gamma_denoising=0.5, clip=0.5, clip_base=0.01, grad_clip=1e6, minibatches=1)
    method.begin_iteration([segment(policy)])
    batch = method.next_minibatch()
    noise = torch.randn((2, *batch.before.shape), generator=torch.Generator().manual_seed(2))
    # small plans: an untrained network's own are at the edge, where clipping takes the gradient away
    batch = replace(batch, before=0.3 * noise[0], after=0.3 * noise[0] + 0.1 * noise[1])
    with torch.no_grad():
        density = policy.step_log_density(batch.inputs, batch.before, batch.after, 3 - batch.step)
        batch = replace(batch, log_density=density.clamp(-5.0, 2.0).mean(-1))
        for p in policy.network.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
    found = gradient_of(method, batch)
    a = batch.advantages
    a = (a - a.mean()) / (a.std() + 1e-8) * 0.5 ** (3 - batch.step)
    terms, outside = [], 0
    for i, k in enumerate(batch.step.tolist()):
        level = torch.tensor([3 - k])
        epsilon = policy.network(batch.before[i : i + 1], level, batch.inputs[i : i + 1])
        mean, std = policy.schedule.step_back(batch.before[i : i + 1], level, epsilon, 0.1)
        density = torch.distributions.Normal(mean, std).log_prob(batch.after[i : i + 1]).clamp(-5, 2).mean()
        ratio = torch.exp(density - batch.log_density[i])
        eps = float(clip_ranges(4, 0.5, 0.01)[k])
        outside += abs(ratio.item() - 1) > eps
        terms.append(torch.minimum(ratio * a[i], ratio.clamp(1 - eps, 1 + eps) * a[i]))
    policy.zero_grad()
    (-torch.stack(terms).mean()).backward()
    expected = torch.cat([p.grad.reshape(-1) for p in policy.network.parameters()])
    assert 0 < outside < len(terms)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)


def test_a_step_too_far_stops_the_iteration() -> None:
    policy, method = make(kl_stop=0.1)
    method.begin_iteration([segment(policy)])
    batch = method.next_minibatch()
    method.actor_gradient(replace(batch, log_density=batch.log_density - 3.0))
    assert method.stopped


@pytest.mark.parametrize(
    "changes, words",
    [({"policy": {"kind": "gaussian"}}, "chain"), ({"rl": {"method": "dppo", "clip": 0.01, "clip_base": 0.1}}, "clip")],
)
def test_what_does_not_fit_is_refused(changes, words: str) -> None:
    values = load_config("dppo").model_dump(mode="json")
    with pytest.raises(ConfigError, match=words):
        config_from_values({**values, **changes}, "test")


def config(**changes):
    small = {
        "policy.chunk": 2,
        "policy.hidden": [32, 32],
        "policy.denoising_steps": 6,
        "policy.finetuned_steps": 3,
        "policy.inference_steps": 3,
        "policy.std_floor": 0.1,
        "pretrain.updates": 400,
        "pretrain.batch": 64,
        "rl.rollout_steps": 400,
        "rl.epochs": 5,
        "rl.minibatches": 4,
        "rl.clip": 0.1,
        "rl.clip_base": 0.02,
        "rl.gamma": 0.9,
        "rl.actor_lr": 2e-3,
        "rl.critic_lr": 3e-3,
        "rl.hidden": [32],
        "schedule.budget_steps": 2800,
        "metrics_every_updates": 20,
    }
    return load_config("dppo").changed(**{**small, **changes})


def test_a_cloned_policy_gets_better(tmp_path) -> None:
    """Pins: any broken link between chain, plan, reward and update."""
    task, settings = PlannedPoint(), config()
    demos = collect_demos(task, task.expert(), range(10_000, 10_012))
    policy = pretrain(settings, task.interface, demos)
    seeds = range(50_000, 50_040)
    before = sum(evaluate(task, policy, seeds))
    learner, _ = fine_tune(settings, task, policy, demos, tmp_path, 0)
    after = sum(evaluate(task, policy, seeds))
    assert learner.actor_updates > 0 and learner.rejected_steps == 0
    assert before <= 30 and after >= 36, (before, after)


@pytest.mark.parametrize("in_training", [True, False])
def test_resume_equals_never_having_stopped(tmp_path, in_training) -> None:
    """Pins: the frozen copy, the critic, the optimizer or the running iteration left out of a checkpoint."""
    task = PlannedPoint()
    small = {"rl.rollout_steps": 30, "rl.epochs": 1, "pretrain.updates": 5, "metrics_every_updates": 1}
    settings = config(**small, **{"schedule.rewards_before_actor": 0})
    demos = collect_demos(task, task.expert(), range(10_000, 10_003))

    def make_learner(name: str) -> Learner:
        return Learner(settings, task.interface, new_policy(settings, task.interface, demos), demos, tmp_path / name)

    def run(learner: Learner, first: int, last: int) -> None:
        """Steps: an update where one is due, an episode where none is."""
        for step in range(first, last):
            if learner.updates < learner.updates_due:
                learner.train_step()
                if learner.may_publish:
                    learner.published(learner.updates)
            else:
                acting = policy_actor(learner.policy, step, True)
                learner.ingest(run_episode(task, acting, step, "train", True, "x", learner.version))

    whole, half = make_learner("a"), make_learner("b")
    run(whole, 0, 60)
    stopped = 0
    while half.actor_updates == 0 or half.may_publish == in_training:
        run(half, stopped, stopped := stopped + 1)
    assert stopped < 50
    half.checkpoint()
    other = make_learner("b")
    other.resume()
    run(other, stopped, 60)
    assert other.rejected_steps == whole.rejected_steps == 0
    assert other.actor_updates == whole.actor_updates
    for name, value in whole.policy_state().items():
        assert torch.equal(other.policy_state()[name], value), name


def test_no_plan_outlives_its_episode() -> None:
    """Pins: the rest of a plan executed after the reset, as where parallel environments share one queue."""
    torch.manual_seed(0)
    policy, row = policy_config(POLICY).build(4, 6), np.zeros(4, np.float32)
    first = policy_actor(policy, 0, True)
    assert [first(row, step).chunk_index for step in range(2)] == [0, 1], "a third action waits"
    second = policy_actor(policy, 1, True)
    assert second(row, 0).chunk_index == 0 and first(row, 2).chunk_index == 2


def test_a_takeover_inside_a_plan_leaves_the_steps_that_were_executed() -> None:
    """Pins: the rest of a plan after a takeover counted as a decision of its own."""
    policy, method = make()
    task = PlannedPoint()
    torch.manual_seed(0)
    policy = policy_config(POLICY).build(4, 6)
    made = run_episode(task, policy_actor(policy, 3, True), 3, "train", True, "x", 0)
    source = np.zeros(made.steps, np.uint8)
    source[4:6] = 1  # in the middle of the second plan; whoever acts must then plan anew
    index = made.chunk_index.copy()
    index[6:] = np.arange(made.steps - 6) % 3
    rewards, masks = np.ones(made.steps, np.float32), np.ones(made.steps, np.float32)
    aux = np.nan_to_num(made.aux)
    made = replace(made, source=source, chunk_index=index, aux=aux, log_prob=np.zeros(made.steps, np.float32))
    found, _ = segments(made, rewards, masks, policy, 0)
    assert [s.chunk_index.tolist() for s in found][0] == [0, 1, 2, 0] and found[0].bootstrap
    flat = FlatParameters(p for p in policy.parameters() if p.requires_grad)
    method = method_config("rl", {"method": "dppo"}).build(policy, flat, torch.Generator())
    with torch.no_grad():
        values = method.value(found[0].inputs[[0, 3, 4]]).squeeze(-1)
    expected = generalised_advantages(torch.tensor([3.0, 1.0]), values, True, 0.99, 0.95)[1]
    torch.testing.assert_close(method.plans(found[0]).returns, expected)
