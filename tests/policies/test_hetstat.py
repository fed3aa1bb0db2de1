"""The HETSTAT head: its spread is bounded, small where it was trained and back at the prior elsewhere."""

import math

import numpy as np
import pytest
import torch

from inril_core.errors import ConfigError
from inril_core.policies import ImitationSettings, exploration_rng, policy_config, policy_from_manifest
from inril_core.policies.hetstat import STD_LIMIT, triangle

SMALL = {"kind": "hetstat", "hidden": [16], "bottleneck": 4, "features": 8, "log_scale_init": 0.0}


def make(**changes):
    """Its features vary strongly over a few units of input."""
    torch.manual_seed(0)
    return policy_config({**SMALL, **changes}).build(4, 3)


def test_the_triangle_wave_has_the_zeros_slope_sign_and_power_of_its_definition() -> None:
    phase = torch.linspace(-20, 20, 4001, dtype=torch.float64)
    expected = (math.pi / (2 * math.sqrt(2))) * (2 / math.pi) * torch.asin(torch.sin(phase))
    torch.testing.assert_close(triangle(phase), expected, atol=1e-9, rtol=0)


def test_variance_is_the_quadratic_form_of_the_features() -> None:
    """Pins: L instead of its transpose, a diagonal that is not exponentiated, a bottleneck without its ELU."""
    policy = make()
    with torch.no_grad():
        policy.factors.normal_()
        policy.log_diagonals.normal_(std=0.3)
        policy.head.normal_()
    inputs = torch.randn(5, 4)
    mean, log_std = policy(inputs)
    f = policy.features_of(policy.trunk(inputs))
    bottleneck = torch.nn.functional.elu(policy.layers[-1](policy.trunk(inputs)))
    assert bottleneck.min() < 0.0, "where ELU and identity differ"
    z = (bottleneck * policy.log_scales.exp()) @ policy.projection
    waves = torch.cat((triangle(z + math.pi / 4), triangle(z - math.pi / 4)), 1)
    torch.testing.assert_close(f, waves / math.sqrt(8))
    for d in range(3):
        lower = torch.tril(policy.factors[d], -1) + torch.diag(policy.log_diagonals[d].exp())
        for row in range(5):
            variance = (lower.T @ f[row]).square().sum()
            std = math.sqrt(0.75) * torch.tanh(torch.sqrt(1e-5 + variance))
            torch.testing.assert_close(log_std[row, d].exp(), std, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(mean, 3.0 * torch.tanh(f @ policy.head / 3.0))
    torch.testing.assert_close(make(mean_limit=None)(inputs)[0], torch.zeros(5, 3))


def test_the_spread_stays_within_its_bounds() -> None:
    policy = make()
    for diagonal in (-30.0, 30.0):
        with torch.no_grad():
            policy.log_diagonals.fill_(diagonal)
        std = policy(100 * torch.randn(20, 4))[1].exp()
        assert (std >= STD_LIMIT * math.tanh(policy.std_floor) - 1e-7).all() and (std <= STD_LIMIT).all()
    assert policy.std_floor == pytest.approx(math.sqrt(1e-5))


@pytest.mark.parametrize("mean", ["features", "trunk"])
def test_the_likelihood_trains_the_variance_alone(mean: str) -> None:
    """Pins "faithful" as CSIL has it: mean *and* features are held fixed in the likelihood."""
    policy, inputs, actions = make(mean=mean), torch.randn(6, 4), torch.rand(6, 3) - 0.5
    with torch.no_grad():
        policy.head.normal_()

    def gradients(loss: str) -> dict[str, torch.Tensor]:
        policy.zero_grad(set_to_none=True)
        policy.imitation_loss(inputs, actions, ImitationSettings(loss=loss), torch.Generator()).backward()
        return {n: torch.zeros(()) if p.grad is None else p.grad.clone() for n, p in policy.named_parameters()}

    faithful, mse, nll = (gradients(loss) for loss in ("faithful", "mse", "nll"))
    spread = ("factors", "log_diagonals")
    for name in faithful:
        if name in spread:
            assert mse[name].abs().max() == 0.0 and torch.equal(faithful[name], nll[name])
        else:
            torch.testing.assert_close(faithful[name], mse[name])
    assert max(faithful[name].abs().max() for name in spread) > 0.0


def test_the_manifest_rebuilds_it() -> None:
    policy = make()
    twin = policy_from_manifest(policy.manifest())
    twin.load_state_dict(policy.state_dict())
    row = np.linspace(-1, 1, 4, dtype=np.float32)
    a, b = (p.act(row, True, exploration_rng(1, 2)) for p in (policy, twin))
    np.testing.assert_array_equal(a.action, b.action)


def test_an_odd_number_of_features_is_refused() -> None:
    with pytest.raises(ConfigError, match="must be even"):
        make(features=7)
