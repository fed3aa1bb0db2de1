"""The residual: starts as its base, is bounded, and neither loss reaches the other's parameters."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from inril_core.errors import ConfigError
from inril_core.policies import ImitationSettings, exploration_rng, policy_config, policy_from_manifest
from tests.finetune.point_task import make_episode

VALUES = {"kind": "residual", "base": {"kind": "gaussian", "hidden": [16]}, "hidden": [16], "scale": 0.3}
ROW = np.linspace(-1, 1, 4, dtype=np.float32)


def make(**changes):
    torch.manual_seed(0)
    policy = policy_config({**VALUES, **changes}).build(4, 6)
    with torch.no_grad():
        policy.base.head.weight.normal_()
    policy.fit_normaliser(np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32))
    return policy


def test_it_starts_as_its_base() -> None:
    """Pins: a correction before anything was learned."""
    policy = make()
    mine, base = (p.act(ROW, False, exploration_rng(0, 0)) for p in (policy, policy.base))
    np.testing.assert_allclose(mine.action, base.action, atol=1e-7)
    np.testing.assert_array_equal(mine.aux, base.action)


def test_the_correction_is_bounded_by_its_scale() -> None:
    policy = make()
    with torch.no_grad():
        policy.head.bias.fill_(100.0)
    mine, base = (p.act(ROW, False, exploration_rng(0, 0)).action for p in (policy, policy.base))
    np.testing.assert_allclose(mine, np.clip(base + 0.3, -1.0, 1.0), atol=1e-6)


def test_imitation_leaves_the_residual_and_rl_the_base_exactly_alone() -> None:
    """Pins: network separation (IN-RIL): the other's gradient is zero, not small."""
    policy = make()
    inputs = torch.cat((torch.randn(8, 4), torch.tanh(torch.randn(8, 6))), 1)
    policy.imitation_loss(inputs, torch.zeros(8, 6), ImitationSettings(), torch.Generator()).backward()
    theirs = [p for n, p in policy.named_parameters() if not n.startswith("base.")]
    assert all(p.grad is None or p.grad.abs().max() == 0.0 for p in theirs)
    assert max(p.grad.abs().max() for p in policy.base.parameters()) > 0.0
    policy.zero_grad(set_to_none=True)
    action, log_prob = policy.sample(inputs, torch.randn(8, 6))
    (action.sum() + log_prob.sum()).backward()
    assert all(p.grad is None or p.grad.abs().max() == 0.0 for p in policy.base.parameters())
    assert policy.head.weight.grad.abs().max() > 0.0


def test_inputs_hold_the_base_action_as_it_was_when_the_robot_acted() -> None:
    """Pins: a base that has moved since is asked again, and the recorded density no longer fits."""
    policy = make()
    recorded = np.full((3, 6), np.nan, np.float32)
    recorded[0] = 0.25
    made = replace(make_episode(np.zeros((4, 4)), np.zeros((3, 6)), True), aux=recorded)
    inputs = policy.inputs(made)
    assert inputs.shape == (4, 10) and (inputs[0, 4:] == 0.25).all()
    asked = policy.base.act(np.zeros(4, np.float32), False, exploration_rng(0, 1)).action
    np.testing.assert_allclose(inputs[1, 4:].numpy(), asked, atol=1e-6)


def test_replayed_inputs_follow_a_base_that_learns() -> None:
    policy = make()
    inputs = torch.cat((torch.randn(5, 4), torch.zeros(5, 6)), 1)
    fresh = policy.refresh(inputs)
    torch.testing.assert_close(fresh[:, 4:], torch.tanh(policy.base(inputs[:, :4])[0]).detach())
    assert policy.refresh(fresh) is not fresh and make(freeze_base=True).refresh(inputs) is inputs


def test_the_residual_sees_inputs_within_three_of_zero() -> None:
    """Pins: a state far from the demonstrations that saturates the correction; ResiP's code clamps at 3, not 5."""
    policy = make(log_std="state")
    with torch.no_grad():
        policy.head.weight.normal_()
    at, beyond = (torch.full((1, 10), value, requires_grad=True) for value in (3.0, 5.0))
    torch.testing.assert_close(policy(at)[0], policy(beyond)[0])
    assert not torch.allclose(policy(at)[0], policy(torch.full((1, 10), 2.9))[0])


def test_the_manifest_rebuilds_it_with_its_base() -> None:
    policy = make(log_std="state")
    twin = policy_from_manifest(policy.manifest())
    twin.load_state_dict(policy.state_dict())
    a, b = (p.act(ROW, True, exploration_rng(1, 2)) for p in (policy, twin))
    np.testing.assert_array_equal(a.action, b.action)


def test_a_residual_over_a_residual_is_refused() -> None:
    with pytest.raises(ConfigError, match="residual over a residual"):
        policy_config({**VALUES, "base": VALUES}).build(4, 6)


LEARNED = {"learned": {"kind": "hetstat", "hidden": [16], "features": 8, "bottleneck": 4}, "freeze_base": True}


@pytest.mark.parametrize("mode", ["residual", "average"])
def test_the_own_action_is_the_inverse_of_the_composition(mode: str) -> None:
    """Pins: a density of the learned part's action asked about the executed one (CSIL++, two conventions mixed)."""
    policy = make(mode=mode, **LEARNED)
    inputs = torch.cat((torch.randn(8, 4), 0.5 * torch.tanh(torch.randn(8, 6))), 1)
    own = torch.tanh(torch.randn(8, 6))
    executed = policy.executed(inputs, own)
    torch.testing.assert_close(policy.own(inputs, executed), own)
    beyond = policy.own(inputs, torch.full((8, 6), 0.99 if mode == "average" else 0.9))
    assert beyond.abs().max() <= 1.0


def test_an_average_without_a_learned_policy_is_refused() -> None:
    """Pins: a zero network averaged with its base executes half of the base's action."""
    with pytest.raises(ConfigError, match="needs policy.learned"):
        make(mode="average")


def test_the_learned_part_is_cloned_after_the_base_and_apart_from_it() -> None:
    policy = make(mode="average", **LEARNED)
    assert policy.cloning_stages == ("base", "learned")
    inputs = torch.cat((torch.randn(8, 4), torch.tanh(torch.randn(8, 6))), 1)
    for stage, trained in (("base", "base."), ("learned", "learned.")):
        policy.begin_cloning(stage)
        policy.zero_grad(set_to_none=True)
        policy.imitation_loss(inputs, torch.zeros(8, 6), ImitationSettings(), torch.Generator()).backward()
        touched = [n for n, p in policy.named_parameters() if p.grad is not None and p.grad.abs().max() > 0.0]
        assert touched and all(name.startswith(trained) for name in touched)
    twin = policy_from_manifest(policy.manifest())
    twin.load_state_dict(policy.state_dict())
    assert "cloned" in policy.config.offers() and "cloned" not in make().config.offers()
    assert "cloned" not in make(**{**LEARNED, "freeze_base": False}).config.offers()
