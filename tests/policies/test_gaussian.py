"""The Gaussian policy's density, normaliser and manifest."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.distributions import Independent, Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform

from inril_core.errors import ConfigError
from inril_core.policies import (
    GaussianPolicy,
    exploration_rng,
    gaussian,
    load_policy,
    policy_from_manifest,
    save_policy,
)
from inril_core.policies.squashed import log_density, log_density_of_one


def make_policy(log_std: str = "state", seed: int = 0) -> GaussianPolicy:
    torch.manual_seed(seed)
    return GaussianPolicy(5, 3, gaussian.Config(hidden=(16, 16), log_std=log_std))


@settings(max_examples=50, deadline=None)
@given(
    raw=st.lists(st.floats(-4.0, 4.0), min_size=3, max_size=3),
    mean=st.lists(st.floats(-2.0, 2.0), min_size=3, max_size=3),
    log_std=st.lists(st.floats(-3.0, 0.5), min_size=3, max_size=3),
)
def test_log_density_is_that_of_a_transformed_normal(raw: list[float], mean: list[float], log_std: list[float]) -> None:
    """Pins: a missing or wrong Jacobian of the squashing."""
    u, m, s = (torch.tensor(v, dtype=torch.float64) for v in (raw, mean, log_std))
    exact = TransformedDistribution(Normal(m, s.exp()), TanhTransform(cache_size=1))
    action = exact.transforms[0](u)
    expected = Independent(exact, 1).log_prob(action)
    torch.testing.assert_close(log_density(u, m, s), expected, rtol=1e-6, atol=1e-6)


def test_log_density_stays_finite_far_into_saturation() -> None:
    """Pins: log(1 - tanh^2) computed with cancellation gives -inf at |raw| > 9 in float32."""
    value = log_density(torch.full((3,), 30.0), torch.full((3,), 30.0), torch.zeros(3))
    assert torch.isfinite(value)


def test_density_integrates_to_one() -> None:
    """Pins: a density that is not one (normalisation constant)."""
    actions = torch.linspace(-1 + 1e-6, 1 - 1e-6, 200_001, dtype=torch.float64)
    raw = torch.atanh(actions)[:, None]
    density = log_density(raw, torch.tensor([0.4]).double(), torch.tensor([-0.7]).double()).exp()
    assert torch.trapezoid(density, actions).item() == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("log_std", ["state", "fixed"])
def test_sample_and_log_prob_agree(log_std: str) -> None:
    """Pins: the sampler's shortcut density differs from the density of what it sampled."""
    policy = make_policy(log_std)
    rows, noise = torch.randn(7, 5), torch.randn(7, 3)
    action, log_prob = policy.sample(rows, noise)
    torch.testing.assert_close(log_prob, policy.log_prob(rows, torch.atanh(action)), rtol=1e-3, atol=1e-3)


def test_mode_ignores_the_noise_and_exploration_follows_it() -> None:
    """Pins: evaluation that explores, or exploration that does not depend on its seed alone."""
    policy, row = make_policy(), np.ones(5, np.float32)
    modes = [policy.act(row, False, exploration_rng(seed, 0)).action for seed in (1, 2)]
    np.testing.assert_array_equal(modes[0], modes[1])
    a, b, c = (policy.act(row, True, exploration_rng(*key)) for key in ((1, 4), (1, 4), (1, 5)))
    np.testing.assert_array_equal(a.action, b.action)
    assert not np.array_equal(a.action, c.action)
    np.testing.assert_allclose(np.tanh(a.raw), a.action, rtol=1e-6)
    normalised = policy.normalise(torch.from_numpy(row))
    assert a.log_prob == pytest.approx(policy.log_prob(normalised, torch.from_numpy(a.raw)).item(), rel=1e-5)


def test_bounded_mean_keeps_its_gradient() -> None:
    """Pins: a mean that runs off to where tanh is flat and never comes back."""
    policy = policy_from_manifest({**make_policy().manifest(), "mean_limit": 2.0})
    with torch.no_grad():
        policy.head.bias[:3] = 50.0
    mean, _ = policy(torch.zeros(1, 5))
    assert (mean.abs() <= 2.0).all() and policy_from_manifest(policy.manifest()).config.mean_limit == 2.0
    with pytest.raises(ConfigError, match="mean_limit"):
        policy_from_manifest({**policy.manifest(), "mean_limit": 0.0})


def test_act_refuses_nan_and_wrong_shape() -> None:
    """Pins: NaN in, NaN action out."""
    policy = make_policy()
    with pytest.raises(ValueError, match="NaN"):
        policy.act(np.full(5, np.nan, np.float32), False, exploration_rng(0, 0))
    with pytest.raises(ValueError, match=r"\(5,\)"):
        policy.act(np.zeros(4, np.float32), False, exploration_rng(0, 0))


def test_normaliser_is_fitted_with_a_floor() -> None:
    """Pins: a field that never varies in the demonstrations is divided by nothing."""
    policy = make_policy()
    rows = np.random.default_rng(0).normal(3.0, 2.0, (500, 5)).astype(np.float32)
    rows[:, 2] = 0.7
    policy.fit_normaliser(rows, std_floor=0.05)
    torch.testing.assert_close(policy.observation_mean, torch.from_numpy(rows.mean(0)), atol=1e-4, rtol=0)
    assert policy.observation_std[2].item() == pytest.approx(0.05)
    one_std_up = policy.normalise(policy.observation_mean + policy.observation_std)
    torch.testing.assert_close(one_std_up, torch.full((5,), 2.0).log(), atol=1e-5, rtol=0)
    far = policy.normalise(policy.observation_mean + torch.tensor([[-30.0], [-20.0]]) * policy.observation_std)
    assert (far[0] < far[1] - 0.1).all(), "starts far from the demonstrations must stay distinguishable"
    with pytest.raises(ValueError, match="NaN"):
        policy.fit_normaliser(np.full((3, 5), np.nan, np.float32))


def test_manifest_and_file_rebuild_the_same_policy(tmp_path) -> None:
    """Pins: an architecture setting or buffer that is lost on the way to the robot."""
    policy = make_policy()
    policy.fit_normaliser(np.random.default_rng(0).normal(size=(50, 5)).astype(np.float32))
    save_policy(tmp_path / "p.safetensors", policy, {"task": "t"})
    twin, facts = load_policy(tmp_path / "p.safetensors")
    assert facts == {"task": "t"} and twin.manifest() == policy.manifest()
    assert policy_from_manifest(policy.manifest()).manifest() == policy.manifest()
    row = np.linspace(-1, 1, 5, dtype=np.float32)
    a, b = (p.act(row, True, exploration_rng(3, 1)) for p in (policy, twin))
    np.testing.assert_array_equal(a.action, b.action)
    np.testing.assert_array_equal(a.raw, b.raw)


@pytest.mark.parametrize(
    "change, word",
    [
        ({"kind": "pickle"}, "kind"),
        ({"hidden": []}, "hidden"),
        ({"activation": "gelu"}, "activation"),
        ({"log_std_min": 3.0}, "log_std"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_bad_manifest_is_refused_by_name(change: dict[str, object], word: str) -> None:
    """Pins: a manifest from elsewhere that builds something else."""
    with pytest.raises(ConfigError, match=word):
        policy_from_manifest({**make_policy().manifest(), **change})


def test_a_file_that_is_no_policy_is_refused(tmp_path) -> None:
    """Pins: a stack trace instead of the file's name."""
    (tmp_path / "x").write_bytes(b"not safetensors")
    with pytest.raises(ConfigError, match="x"):
        load_policy(tmp_path / "x")


@given(arrays(np.float32, (3, 4), elements=st.floats(-8.0, 8.0, width=32)))
def test_the_density_of_one_action_is_that_of_a_batch(values):
    raw, mean, log_std = values
    many = log_density(*torch.from_numpy(values.astype(np.float64)))
    assert log_density_of_one(raw, mean, log_std) == pytest.approx(float(many), rel=1e-9, abs=1e-9)
