"""The diffusion policy: plans, chains, the frozen copy, what travels with the weights, and two modes at once."""

import numpy as np
import pytest
import torch

from inril_core.bench import two_ways
from inril_core.errors import ConfigError
from inril_core.finetune.config import load_config
from inril_core.networks.compute import use_one_thread
from inril_core.networks.flat import Adam, FlatParameters
from inril_core.policies import (
    GaussianPolicy,
    ImitationSettings,
    Memory,
    exploration_rng,
    gaussian,
    load_policy,
    policy_config,
    policy_from_manifest,
    save_policy,
)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    use_one_thread()


VALUES = {"kind": "diffusion", "chunk": 3, "hidden": [16], "denoising_steps": 6, "finetuned_steps": 2}
ROW = np.linspace(-1, 1, 4, dtype=np.float32)


def make(**changes):
    torch.manual_seed(0)
    policy = policy_config({**VALUES, **changes}).build(4, 2)
    policy.fit_normaliser(np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32))
    return policy


def move(policy, by: float = 0.1) -> None:
    """As a training step would."""
    with torch.no_grad():
        for p in policy.parameters():
            if p.requires_grad:
                p.add_(by)


def rng(step: int = 0) -> np.random.Generator:
    return exploration_rng(0, step)


@pytest.mark.parametrize("explore", [True, False])
def test_a_plan_is_executed_action_by_action(explore: bool) -> None:
    """Pins: a plan that is asked for anew each step, or that goes on after it was given up."""
    policy, memory = make(), Memory()
    answers = [policy.act(ROW, explore, rng(i), memory) for i in range(7)]
    assert [a.chunk_index for a in answers] == [0, 1, 2, 0, 1, 2, 0]
    assert [a.log_prob for a in answers[1:3]] == [0.0, 0.0] and not answers[1].aux.size
    again = [policy.act(-ROW if i else ROW, explore, rng(i), m) for m in [Memory()] for i in range(3)]
    for a, b in zip(answers[:3], again, strict=True):  # the plan does not see later observations
        np.testing.assert_array_equal(a.action, b.action)
        np.testing.assert_array_equal(a.action, a.raw.clip(-1, 1))
    memory.clear()
    assert policy.act(ROW, explore, rng(8), memory).chunk_index == 0
    assert policy.act(ROW, explore, rng()).chunk_index == 0


@pytest.mark.parametrize("inference", ["posterior", "ddim", "mean"])
def test_a_plan_is_a_sample_also_when_not_exploring_and_the_same_noise_gives_it_again(inference: str) -> None:
    policy = make(inference=inference)
    plans = [policy.draw(torch.zeros(1, 4), False, rng(step))[-1] for step in (0, 0, 1, 2)]
    assert torch.equal(plans[0], plans[1])
    assert not torch.equal(plans[0], plans[2]) or not torch.equal(plans[0], plans[3])


def test_not_exploring_every_step_but_the_last_has_the_posteriors_noise() -> None:
    """Pins DPPO's evaluation: std of the posterior, at least 1e-3, and none at the last level.

    Twenty levels of a network that predicts no noise; a thousand plans, whose last step back is not noisy.
    """
    policy = make(denoising_steps=20, inference="posterior")
    policy.network.forward = lambda plans, levels, inputs: torch.zeros_like(plans)
    seen: dict[int, torch.Tensor] = {}
    step_back = policy.schedule.step_back

    def noted(noisy, levels, epsilon, floor):
        seen[int(levels[0])] = noisy
        mean, std = step_back(noisy, levels, epsilon, floor)
        means[int(levels[0])] = mean
        return mean, std

    means: dict[int, torch.Tensor] = {}
    policy.schedule.step_back = noted
    plans = policy.draw(torch.zeros(1000, 4), False, rng())[-1]
    for level in range(19, 0, -1):
        std = max(float(policy.schedule.posterior_std[level]), 1e-3)
        assert float((seen[level - 1] - means[level]).std()) == pytest.approx(std, rel=0.05)
    assert torch.equal(plans, means[0])
    policy.schedule.posterior_std[:] = 0.0
    policy.schedule._table[:, -1] = 0.0
    policy.draw(torch.zeros(1000, 4), False, rng())
    assert float((seen[4] - means[5]).std()) == pytest.approx(1e-3, rel=0.05)


def test_where_demonstrations_go_two_ways_both_are_among_the_candidates() -> None:
    """Pins: ten copies of one plan, of which a critic can choose none, and plans that go between the ways."""
    policy = two_ways.cloned(0, 800)
    posterior, mean = (two_ways.measure(policy, inference) for inference in ("posterior", "mean"))
    assert posterior.candidate_spread > 0.03 and posterior.one_way < 0.05
    assert posterior.through_obstacle < 0.1
    assert mean.candidate_spread < 0.5 * posterior.candidate_spread and mean.one_way > 0.8
    used = [policy_config({"kind": "diffusion"}), *(load_config(name).policy for name in ("idql", "dppo"))]
    assert [one.inference for one in used] == ["posterior"] * 3


def test_the_noted_chain_ends_in_the_plan_and_its_density_can_be_computed_again() -> None:
    """Pins: density and chain of other steps, another order, or another std than was drawn with."""
    policy, memory = make(), Memory()
    first = policy.act(ROW, True, rng(), memory)
    assert first.aux.shape == (policy.aux_size,) == ((2 + 1) * 6 + 2,)
    chain, noted = policy.unpack(torch.from_numpy(first.aux)[None])
    plan = np.concatenate([first.raw, *memory.queue])
    np.testing.assert_array_equal(chain[0, -1].numpy(), plan)
    inputs = policy.normalise(torch.from_numpy(ROW))[None]
    total = 0.0
    for k, level in enumerate((1, 0)):
        epsilon = policy.network(chain[:, k], torch.tensor([level]), inputs)
        mean, std = policy.schedule.step_back(chain[:, k], torch.tensor([level]), epsilon, 0.1)
        density = torch.distributions.Normal(mean, std).log_prob(chain[:, k + 1])
        total += density.sum().item()
        assert noted[0, k].item() == pytest.approx(density.clamp(-5, 2).mean().item(), abs=1e-5)
    assert first.log_prob == pytest.approx(total, abs=1e-3)


def test_drawn_noise_is_clipped() -> None:
    class Wild:
        def standard_normal(self, size):
            return np.full(size, 100.0)

    policy = make(noise_limit=2.0)
    chain = policy.draw(torch.zeros(1, 4), True, Wild())
    assert chain[0].max() == 2.0 and chain[-1].max() <= 1.0 + 2.0 * 0.1 + 1e-6


def test_imitation_is_the_denoising_error() -> None:
    policy = make()
    inputs, actions = torch.randn(5, 4), torch.rand(5, 6)
    loss = policy.imitation_loss(inputs, actions, ImitationSettings(), torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    levels = torch.randint(6, (5,), generator=generator)
    noise = torch.randn((5, 6), generator=generator)
    share = torch.from_numpy(policy.schedule.alpha_bar).float()[levels][:, None]
    predicted = policy.network(share.sqrt() * actions + (1 - share).sqrt() * noise, levels, inputs)
    torch.testing.assert_close(loss, (predicted - noise).square().mean())


def levels_drawn(policy, monkeypatch) -> set[int]:
    seen: set[int] = set()
    forward = policy.network.forward
    monkeypatch.setattr(policy.network, "forward", lambda x, t, c: seen.update(t.tolist()) or forward(x, t, c))
    policy.imitation_loss(torch.zeros(400, 4), torch.zeros(400, 6), ImitationSettings(), torch.Generator())
    return seen


def test_imitation_during_finetuning_is_kept_to_the_finetuned_steps(monkeypatch) -> None:
    """Pins: IN-RIL on DPPO: most imitation spent on noise levels that the frozen copy handles."""
    policy = make()
    assert levels_drawn(policy, monkeypatch) == set(range(6))
    policy.prepare_finetuning()
    assert levels_drawn(policy, monkeypatch) == {0, 1}
    free = make(restrict_imitation=False)
    free.prepare_finetuning()
    assert levels_drawn(free, monkeypatch) == set(range(6))


def test_the_noisiest_steps_are_frozen_once_finetuning_begins() -> None:
    """Pins: a copy that is missing, that is trained, or that a second preparation (a resume) makes again."""
    policy = make()
    before = policy.act(ROW, True, rng()).action
    policy.prepare_finetuning()
    np.testing.assert_array_equal(policy.act(ROW, True, rng()).action, before)
    frozen = {name: p.clone() for name, p in policy.early.state_dict().items()}
    flat = FlatParameters(p for p in policy.parameters() if p.requires_grad)
    assert flat.value.numel() == sum(p.numel() for p in policy.network.parameters())
    move(policy)
    policy.prepare_finetuning()
    assert all(torch.equal(p, frozen[name]) for name, p in policy.early.state_dict().items())
    x, c = torch.zeros(1, 6), torch.zeros(1, 4)
    for level, network in ((5, policy.early), (2, policy.early), (1, policy.network), (0, policy.network)):
        at = torch.tensor([level])
        assert torch.equal(policy.epsilon(x, at, c), network(x, at, c))


def test_all_steps_finetuned_needs_no_copy() -> None:
    policy = make(finetuned_steps=None)
    assert policy.early is None and policy.aux_size == 7 * 6 + 6
    policy.prepare_finetuning()
    assert policy.act(ROW, True, rng()).aux.shape == (policy.aux_size,)


def test_a_finetuned_policy_acts_the_same_from_its_file_and_from_its_pack(tmp_path) -> None:
    """Pins: an acting process that does not know of the frozen copy, or has no memory for it."""
    policy = make()
    shapes = {name: t.shape for name, t in policy.state_dict().items()}
    policy.prepare_finetuning()
    move(policy)
    assert {name: t.shape for name, t in policy.state_dict().items()} == shapes, "the gate compares them"
    save_policy(tmp_path / "p.safetensors", policy, {})
    twin, _ = load_policy(tmp_path / "p.safetensors")
    with torch.device("meta"):
        packed = policy_from_manifest(policy.manifest())
    packed.load_state_dict(policy.state_dict(), assign=True)
    for explore in (True, False):
        mine = policy.act(ROW, explore, rng(1))
        for other in (twin, packed):
            theirs = other.act(ROW, explore, rng(1))
            np.testing.assert_array_equal(mine.action, theirs.action)
            np.testing.assert_array_equal(mine.aux, theirs.aux)
    twin.prepare_finetuning()
    assert torch.equal(twin.early.layers[0].weight, policy.early.layers[0].weight)


@pytest.mark.parametrize("name, value", [("finetuned_steps", 7), ("inference_steps", 7), ("time_size", 3)])
def test_settings_that_do_not_fit_are_refused(name: str, value: int) -> None:
    with pytest.raises(ConfigError, match=name):
        policy_config({**VALUES, name: value})


def test_as_the_base_of_a_residual_it_is_prepared_cloned_and_planned_with() -> None:
    """Pins: a base whose plan, frozen copy or imitation gradient is lost inside the residual."""
    values = {"kind": "residual", "base": VALUES, "hidden": [8], "scale": 0.3}
    torch.manual_seed(0)
    policy = policy_from_manifest({"observation_size": 4, "action_size": 2, **values})
    assert policy.chunk == 1 and policy.imitation_chunk == policy.plan_steps == 3
    policy.prepare_finetuning()
    assert bool(policy.base.finetuning) and policy.manifest()["base"] == policy.base.config.model_dump(mode="json")
    memory, own = Memory(), Memory()
    for step in range(5):
        mine = policy.act(ROW, False, rng(step), memory)
        base = policy.base.act(ROW, False, rng(step), own)
        np.testing.assert_allclose(mine.action, base.action, atol=1e-6)
        np.testing.assert_array_equal(mine.aux, base.action)
    inputs = torch.cat((torch.randn(8, 4), torch.zeros(8, 2)), 1)
    policy.imitation_loss(inputs, torch.zeros(8, 6), ImitationSettings(), torch.Generator()).backward()
    assert policy.head.weight.grad is None and policy.base.network.layers[0].weight.grad.abs().max() > 0.0
    assert policy.base.early.layers[0].weight.grad is None


def fit(policy, inputs: torch.Tensor, actions: torch.Tensor, steps: int) -> None:
    flat, generator = FlatParameters(policy.parameters()), torch.Generator().manual_seed(0)
    adam = Adam(flat.value.numel(), 1e-2)
    for step in range(steps):
        gradient = flat.gradient(policy.imitation_loss(inputs, actions, ImitationSettings(loss="nll"), generator))
        flat.value.sub_(adam.direction(gradient), alpha=adam.lr * (1.0 - step / steps))


def test_two_ways_round_are_learned_as_two_by_diffusion_and_as_one_between_by_a_gaussian() -> None:
    """Pins: the reason to have it: half the demonstrations go left (-0.6), half right (0.6); 0 hits the obstacle."""
    inputs = torch.zeros(128, 1)
    actions = torch.where(torch.arange(128) % 2 == 0, 0.6, -0.6)[:, None].repeat(1, 2)
    torch.manual_seed(0)
    values = {"kind": "diffusion", "chunk": 2, "hidden": [64, 64], "denoising_steps": 10, "inference_steps": 10}
    diffusion = policy_config(values).build(1, 1)
    fit(diffusion, inputs, actions, 800)
    drawn = []
    for step in range(60):
        memory = Memory()
        drawn.append([diffusion.act(np.zeros(1, np.float32), False, rng(step), memory).action[0] for _ in range(2)])
    plans = np.array(drawn)
    assert (np.abs(np.abs(plans) - 0.6) < 0.2).mean() > 0.9
    assert (plans[:, 0] * plans[:, 1] > 0).mean() > 0.95, "a plan goes one way"
    assert 0.2 < (plans[:, 0] > 0).mean() < 0.8, "both ways are taken"
    one = GaussianPolicy(1, 1, gaussian.Config(hidden=(16,)))
    fit(one, inputs, actions[:, :1], 200)
    assert abs(one.act(np.zeros(1, np.float32), False, rng()).action[0]) < 0.3
