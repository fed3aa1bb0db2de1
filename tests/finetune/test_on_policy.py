"""On-policy learning: which steps count, advantages, the clipped surrogate, and that it learns."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inril_core.errors import ConfigError
from inril_core.finetune.combine.common.gradients import cosine
from inril_core.finetune.config import FineTuneConfig, load_config
from inril_core.finetune.ingest_log import replay_run
from inril_core.finetune.learner import Learner
from inril_core.finetune.memory.rollout import RolloutSegment, generalised_advantages, segments
from inril_core.finetune.methods import method_config
from inril_core.finetune.rl.ppo import Rows, clipped_surrogate, normalised
from inril_core.networks.flat import FlatParameters
from inril_core.policies import GaussianPolicy, gaussian
from tests.finetune.point_task import contract, make_episode


def episode(source: list[int], n: int | list[int] = 3, **changes):
    """An episode of ones whose steps the given sources made, by version ``n``."""
    steps = len(source)
    made = make_episode(np.ones((steps + 1, 4)), np.zeros((steps, 6)), True, source=np.array(source))
    versions = np.broadcast_to(np.asarray(n, np.int64), (steps,)).copy()
    raw = np.arange(steps * 6, dtype=np.float32).reshape(steps, 6)
    log_prob = np.arange(steps, dtype=np.float32)
    return replace(made, raw=raw, log_prob=log_prob, policy_n=versions, **changes)


def cut(made, version: int = 3) -> tuple[list[RolloutSegment], int]:
    steps = made.steps
    rewards, masks = np.arange(steps, dtype=np.float32), np.ones(steps, np.float32)
    masks[-1] = 0.0
    return segments(made, rewards, masks, GaussianPolicy(4, 6, gaussian.Config(hidden=(4,))), version)


def test_human_hold_and_reset_steps_cut_and_the_value_goes_on_beyond_them() -> None:
    """Pins: a trajectory learned across a takeover, or a takeover treated as the end of the task."""
    found, rejected = cut(episode([0, 0, 1, 0, 2, 0, 0]))
    assert [len(s) for s in found] == [2, 1, 2] and rejected == 2
    assert [s.bootstrap for s in found] == [True, True, False]
    assert [s.rewards.tolist() for s in found] == [[0, 1], [3], [5, 6]]
    assert [s.log_prob.tolist() for s in found] == [[0, 1], [3], [5, 6]]
    assert [len(s.inputs) for s in found] == [3, 2, 3]


def test_steps_of_another_version_are_rejected_and_counted() -> None:
    found, rejected = cut(episode([0, 0, 0, 0], n=[2, 2, 3, 3]))
    assert [len(s) for s in found] == [2] and rejected == 2


def test_a_plan_that_began_elsewhere_is_not_this_versions_decision() -> None:
    found, rejected = cut(episode([0, 0, 0, 0], chunk_index=np.array([2, 3, 0, 1], np.int32)))
    assert [len(s) for s in found] == [2] and rejected == 2


def test_steps_without_a_recorded_density_are_rejected() -> None:
    made = episode([0, 0, 0])
    found, rejected = cut(replace(made, log_prob=np.array([0.0, np.nan, 0.0], np.float32)))
    assert [len(s) for s in found] == [1, 1] and rejected == 1


@given(
    rewards=st.lists(st.floats(-2, 2), min_size=1, max_size=8),
    gamma=st.floats(0.1, 0.99),
    lam=st.floats(0.0, 1.0),
    bootstrap=st.booleans(),
    seed=st.integers(0, 100),
)
def test_advantages_are_the_exponentially_weighted_sum_of_errors(rewards, gamma, lam, bootstrap, seed) -> None:
    """Pins: GAE against its definition, sum_l (gamma lam)^l delta_{t+l}."""
    r = torch.tensor(rewards)
    v = torch.randn(len(r) + 1, generator=torch.Generator().manual_seed(seed))
    advantages, returns = generalised_advantages(r, v, bootstrap, gamma, lam)
    following = v[1:].clone()
    following[-1] *= float(bootstrap)
    delta = r + gamma * following - v[:-1]
    for t in range(len(r)):
        expected = sum((gamma * lam) ** i * float(delta[t + i]) for i in range(len(r) - t))
        assert float(advantages[t]) == pytest.approx(expected, abs=1e-4)
    torch.testing.assert_close(returns, advantages + v[:-1])


def test_with_lambda_one_the_returns_are_discounted_sums() -> None:
    r, v = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([9.0, 9.0, 9.0, 10.0])
    ended = generalised_advantages(r, v, False, 0.5, 1.0)[1]
    torch.testing.assert_close(ended, torch.tensor([1 + 1 + 1.0, 2 + 2.0, 4.0]))
    cut_off = generalised_advantages(r, v, True, 0.5, 1.0)[1]
    torch.testing.assert_close(cut_off, torch.tensor([3 + 1.25, 4 + 2.5, 4 + 5.0]))


@pytest.mark.parametrize(
    "ratio, advantage, loss, slope",
    [
        (1.1, 1.0, -1.1, -1.0),
        (1.5, 1.0, -1.2, 0.0),
        (0.5, 1.0, -0.5, -1.0),
        (0.5, -1.0, 0.8, 0.0),
        (1.5, -1.0, 1.5, 1.0),
    ],
)
def test_the_surrogate_is_clipped_on_the_side_that_would_gain(ratio, advantage, loss, slope) -> None:
    """Pins: PPO's minimum taken the wrong way round, or a clip that has a gradient."""
    r = torch.tensor([ratio], requires_grad=True)
    value = clipped_surrogate(r, torch.tensor([advantage]), 0.2)
    value.backward()
    assert value.item() == pytest.approx(loss) and r.grad.item() == pytest.approx(slope)


def test_normalised_advantages_have_no_mean_and_survive_a_constant() -> None:
    assert normalised(torch.tensor([3.0])).tolist() == [3.0]
    assert normalised(torch.full((5,), 2.0)).abs().max() == 0.0
    a = normalised(torch.tensor([1.0, 2.0, 6.0]))
    assert a.mean().item() == pytest.approx(0.0, abs=1e-6) and a.std().item() == pytest.approx(1.0, abs=1e-4)


def ppo(policy, flat, **changes):
    values = {"method": "ppo", "hidden": (8,), "minibatches": 3, "epochs": 2, **changes}
    return method_config("rl", values).build(policy, flat, torch.Generator().manual_seed(0))


def test_before_the_first_step_the_ratio_is_one_and_each_epoch_sees_each_row_once() -> None:
    """Pins: a log-probability recomputed from other inputs or another sample than the recorded one."""
    torch.manual_seed(0)
    policy = GaussianPolicy(4, 6, gaussian.Config(hidden=(8,)))
    flat = FlatParameters(policy.parameters())
    inputs, raw = torch.randn(11, 4), torch.randn(10, 6)
    with torch.no_grad():
        log_prob = policy.log_prob(inputs[:-1], raw)
    segment = RolloutSegment(inputs, raw, log_prob, torch.zeros(10, 0), np.zeros(10, np.int32), torch.randn(10), True)
    method = ppo(policy, flat)
    assert method.begin_iteration([segment]) == 6
    seen = []
    for _ in range(3):
        batch = method.next_minibatch()
        seen += batch.raw[:, 0].tolist()
        metrics = method.actor_gradient(batch)[1]
        assert metrics["kl"] == pytest.approx(0.0, abs=1e-6) and metrics["clipped"] == 0.0
    assert sorted(seen) == sorted(raw[:, 0].tolist())


def test_the_actors_gradient_is_that_of_the_surrogate_and_the_entropy() -> None:
    """Pins: an entropy bonus that narrows the policy, and a density that is not the recorded action's."""
    torch.manual_seed(0)
    policy = GaussianPolicy(4, 6, gaussian.Config(hidden=(8,)))
    method = ppo(policy, FlatParameters(policy.parameters()), entropy_weight=0.3, grad_clip=1e6)
    rows = Rows(torch.randn(9, 4), torch.randn(9, 6), torch.zeros(9), torch.randn(9), torch.zeros(9))
    rows.log_prob = policy.log_prob(rows.inputs, rows.raw).detach() + 0.1 * torch.randn(9)
    found = method.actor_gradient(rows)[0].clone()
    mean, log_std = policy(rows.inputs)
    ratio = torch.exp(policy.log_prob(rows.inputs, rows.raw) - rows.log_prob)
    entropy = torch.distributions.Normal(mean, log_std.exp()).entropy().sum(-1).mean()
    surrogate = torch.minimum(ratio * rows.advantages, ratio.clamp(0.8, 1.2) * rows.advantages).mean()
    expected = torch.autograd.grad(-surrogate - 0.3 * entropy, list(policy.parameters()))
    torch.testing.assert_close(found, torch.cat([g.reshape(-1) for g in expected]), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("minibatches, pieces", [(6, 5), (3, 3), (20, 10)])
def test_a_rollout_that_cannot_be_cut_evenly_has_its_epochs_and_no_more(minibatches: int, pieces: int) -> None:
    """Pins: the beginning of one epoch too many, where so many pieces of ten rows cannot be had."""
    policy = GaussianPolicy(4, 6, gaussian.Config(hidden=(8,)))
    method = ppo(policy, FlatParameters(policy.parameters()), minibatches=minibatches)
    rows = (torch.randn(11, 4), torch.randn(10, 6), torch.zeros(10), torch.zeros(10, 0))
    steps = method.begin_iteration([RolloutSegment(*rows, np.zeros(10, np.int32), torch.randn(10), True)])
    assert steps == 2 * pieces
    seen = [value for _ in range(steps) for value in method.next_minibatch().raw[:, 0].tolist()]
    assert sorted(seen) == sorted(2 * rows[1][:, 0].tolist())


def test_a_step_too_far_stops_the_iteration() -> None:
    policy = GaussianPolicy(4, 6, gaussian.Config(hidden=(8,)))
    flat = FlatParameters(policy.parameters())
    segment = RolloutSegment(
        torch.randn(9, 4),
        torch.randn(8, 6),
        torch.full((8,), -50.0),
        torch.zeros(8, 0),
        np.zeros(8, np.int32),
        torch.randn(8),
        False,
    )
    method = ppo(policy, flat, kl_stop=0.1)
    method.begin_iteration([segment])
    method.actor_gradient(method.next_minibatch())
    assert method.stopped
    method.begin_iteration([segment])
    assert not method.stopped


def config(**changes) -> FineTuneConfig:
    return load_config("residual_ppo").changed(
        **{
            "rl.rollout_steps": 6,
            "rl.epochs": 2,
            "rl.minibatches": 2,
            "rl.critic_warmup_iterations": 1,
            "schedule.rewards_before_actor": 0,
            "schedule.budget_steps": 1000,
            "metrics_every_updates": 4,
            **changes,
        }
    )


def make_learner(tmp_path, name: str = "a", **changes) -> Learner:
    from inril_core.finetune.learner import new_policy

    settings = config(**changes)
    demo = make_episode(np.random.default_rng(0).normal(size=(5, 4)), np.full((4, 6), 0.5), True, "demo", "demo")
    return Learner(settings, contract(), new_policy(settings, contract(), [demo]), [demo], tmp_path / name)


def rollout(learner: Learner, index: int, version: int, steps: int = 3):
    rng = np.random.default_rng(index)
    made = make_episode(rng.normal(size=(steps + 1, 4)), rng.uniform(-0.5, 0.5, (steps, 6)), None, "train", f"e{index}")
    return replace(
        made,
        truncated=True,
        policy_n=np.full(steps, version),
        aux=np.zeros((steps, 6), np.float32),
        raw=rng.normal(size=(steps, 6)).astype(np.float32),
        log_prob=np.full(steps, -5.0, np.float32),
    )


def test_an_iteration_waits_for_its_rollout_and_publishes_only_when_done(tmp_path) -> None:
    """Pins: training on half a rollout, weights pushed in the middle of the epochs, mixed versions."""
    learner = make_learner(tmp_path)
    learner.ingest(rollout(learner, 0, 0))
    assert learner.updates_due == 0 and learner.may_publish
    learner.ingest(rollout(learner, 1, 0))
    assert learner.updates_due == 4 and not learner.may_publish
    for _ in range(4):
        learner.train_step()
    assert learner.may_publish and learner.actor_updates == 0, "the first iteration warms the critic up"
    learner.published(7)
    learner.ingest(rollout(learner, 2, 0))
    assert learner.rejected_steps == 3, "a late episode of the version before"
    learner.ingest(rollout(learner, 3, 7))
    learner.published(8)
    assert learner.rejected_steps == 6, "what a new version cuts off is counted"
    with pytest.raises(ValueError, match="no rollout is full"):
        learner.train_step()


def test_without_a_reward_the_actor_waits_also_on_policy(tmp_path) -> None:
    """Pins: normalised advantages that blow the noise of a critic without rewards up to full-sized steps."""
    settings = {"schedule.rewards_before_actor": 2, "rl.critic_warmup_iterations": 0}
    learner = make_learner(tmp_path, **settings)

    def iteration(learner: Learner, index: int, success: bool) -> None:
        made = [replace(rollout(learner, 2 * index + i, learner.version)) for i in range(2)]
        made[0] = replace(made[0], success=success, truncated=not success, rewards=np.float32([0, 0, success]))
        for episode in made:
            learner.ingest(episode)
        while learner.updates < learner.updates_due:
            learner.train_step()

    iteration(learner, 0, success=False)
    assert learner.updates == 4 and learner.waits_for_reward and learner.informative_steps == 0
    iteration(learner, 1, success=True)
    assert learner.actor_updates == 0 and learner.informative_steps == 1
    learner.checkpoint()
    resumed = make_learner(tmp_path, **settings)
    resumed.resume()
    iteration(resumed, 2, success=True)
    assert resumed.actor_updates > 0 and resumed.informative_steps == 2 and not resumed.waits_for_reward


def test_the_last_step_of_an_unlabelled_episode_is_rejected(tmp_path) -> None:
    """Pins: a reward of zero for what nobody has labelled yet: a person's label as the reward, and a time limit."""
    learner = make_learner(tmp_path, rewards={"method": "label"})
    made = rollout(learner, 0, 0)
    learner.ingest(made)
    assert learner.rejected_steps == 1 and [len(s) for s in learner.loop.rollout] == [2]
    learner.ingest(replace(made, episode_id="labelled", success=False))
    assert learner.rejected_steps == 1 and [len(s) for s in learner.loop.rollout] == [2, 3]


@pytest.mark.parametrize("stopped", range(1, 16))
def test_resume_equals_never_having_stopped(tmp_path, stopped) -> None:
    """Pins: a rollout half collected, or half trained on, that a restart loses."""

    def run(learner: Learner, first: int, last: int) -> None:
        """Single steps of three iterations: two episodes, four updates each."""
        for step in range(first, last):
            iteration, place = divmod(step, 6)
            if place < 2:
                learner.ingest(rollout(learner, 2 * iteration + place, learner.version))
            else:
                assert learner.updates < learner.updates_due
                learner.train_step()
                if learner.may_publish:
                    learner.published(learner.updates)

    unlimited = {"rl.kl_stop": None}
    whole = make_learner(tmp_path, "a", **unlimited)
    run(whole, 0, 18)
    run(half := make_learner(tmp_path, "b", **unlimited), 0, stopped)
    half.checkpoint()
    other = make_learner(tmp_path, "b", **unlimited)
    other.resume()
    run(other, stopped, 18)
    assert (other.actor_updates, other.rejected_steps) == (whole.actor_updates, 0) == (8, 0)
    for name, value in whole.policy_state().items():
        torch.testing.assert_close(other.policy_state()[name], value, rtol=0, atol=0)


def test_a_rollout_beyond_the_kl_limit_stays_skipped_after_a_restart(tmp_path) -> None:
    """Pins: a policy that went too far, trained on by the same rollout because the process was started again."""
    learner = make_learner(tmp_path, **{"rl.critic_warmup_iterations": 0, "rl.kl_stop": 1e-9, "rl.epochs": 3})
    for index in range(2):
        learner.ingest(rollout(learner, index, 0))
    while not learner.parts.rl.stopped:
        learner.train_step()
    assert learner.updates + 1 < learner.updates_due
    learner.checkpoint()
    resumed = make_learner(tmp_path, **{"rl.critic_warmup_iterations": 0, "rl.kl_stop": 1e-9, "rl.epochs": 3})
    resumed.resume()
    before = resumed.policy_state()
    resumed.train_step()
    assert all(torch.equal(before[name], value) for name, value in resumed.policy_state().items())


def one_network(tmp_path, name: str = "a", **changes) -> Learner:
    combine = {"method": "interleave", "il_unit": "iteration", "rl_per_il": 1, "il_steps": 2,
               "projection": {"kind": "orthogonal"}}  # fmt: skip
    steep = {"rl.actor_lr": 0.03, "rl.kl_stop": 0.01, "rl.epochs": 5, "rl.critic_warmup_iterations": 0}
    policy = {"kind": "gaussian", "hidden": [8]}
    return make_learner(tmp_path, name, policy=policy, combine=combine, **steep, **changes)


def test_imitation_between_rollouts_spares_what_the_iteration_moved_and_all_is_counted(tmp_path) -> None:
    """Pins: projection against the gradient after a step too far; insertions that nobody counts."""
    learner = one_network(tmp_path)
    flat, combiner, insertions = learner.parts.actor, learner.parts.combine, []
    end_update = combiner.end_update

    def watched(rl, il):
        after_rl, stale = flat.value.clone(), rl().vector.clone()
        result = end_update(rl, il)
        insertions.append((after_rl, flat.value.clone(), stale))
        return result

    combiner.end_update = watched
    taken = 0
    for iteration in range(3):
        before = flat.value.clone()
        for index in range(2):
            learner.ingest(rollout(learner, 2 * iteration + index, learner.version))
        while learner.updates < learner.updates_due:
            learner.train_step()
            taken += not learner.parts.rl.stopped
        assert learner.parts.rl.stopped, "a step too far"
        after_rl, after_il, stale = insertions[-1]
        moved, step = before - after_rl, after_rl - after_il
        assert float(moved.norm()) > 0.0 and float(step.norm()) > 0.0
        assert abs(cosine(step, moved)) < 1e-3
        assert abs(cosine(step, stale)) > 1e-3, "another direction"
        learner.published(learner.updates)
    counts = learner.counts
    assert (counts.insertions, counts.il_steps) == (3, 6)
    assert counts.actor_updates == taken + 3 < counts.updates == 30, "the step that goes too far is the last"
    logged = learner.last_metrics
    assert logged["insertions"] <= 3 and logged["il_steps"] == 2 * logged["insertions"]


@pytest.mark.parametrize("stopped", range(5, 30, 4))
def test_where_imitation_is_due_survives_a_restart(tmp_path, stopped) -> None:
    """Pins: parameters before an iteration that a restart in its middle loses, or counts that begin anew."""

    def run(learner: Learner, until: int) -> None:
        while learner.updates < until:
            if learner.updates == learner.updates_due:
                learner.published(learner.updates)
                for index in range(2):
                    learner.ingest(rollout(learner, learner.updates + index, learner.version))
            learner.train_step()

    run(whole := one_network(tmp_path, "a"), 30)
    run(half := one_network(tmp_path, "b"), stopped)
    half.checkpoint()
    other = one_network(tmp_path, "b")
    other.resume()
    run(other, 30)
    assert vars(other.counts) == vars(whole.counts)
    assert all(torch.equal(whole.policy_state()[name], t) for name, t in other.policy_state().items())


def test_a_log_that_knows_no_versions_is_not_replayed(tmp_path) -> None:
    """Pins: a replay that rejects every step, or trains on those of other versions."""
    with pytest.raises(ConfigError, match="on-policy run cannot be replayed"):
        replay_run(make_learner(tmp_path), [], [], 1)
