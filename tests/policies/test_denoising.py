"""The arithmetic of denoising: schedule identities, Gaussian densities, and that a perfect network is exact."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inril_core.policies.denoising import NoiseSchedule, gaussian_log_density, time_features


@settings(deadline=None)
@given(steps=st.integers(1, 60))
def test_the_schedule_loses_the_signal_monotonically_and_its_posterior_adds_up(steps: int) -> None:
    """Pins: q(x_{t-1} | x_t, x_0) has the marginal's mean and variance when x_t comes from x_0 (DDPM eq. 6, 7)."""
    s = NoiseSchedule(steps)
    assert (np.diff(np.concatenate(([1.0], s.alpha_bar))) < 0.0).all() and s.alpha_bar[-1] < 0.01
    previous = np.concatenate(([1.0], s.alpha_bar[:-1]))
    levels = torch.arange(steps)
    _, _, clean, noisy, std = (c.double().squeeze(1).numpy() for c in s._constants(levels))
    np.testing.assert_allclose(clean + noisy * np.sqrt(s.alpha_bar), np.sqrt(previous), atol=1e-5)
    np.testing.assert_allclose(noisy**2 * (1 - s.alpha_bar) + std**2, 1 - previous, atol=1e-5)
    assert std[0] == 0.0 and clean[0] == pytest.approx(1.0)


def test_the_cosine_schedule_has_its_published_shape() -> None:
    s = NoiseSchedule(20)
    f = [math.cos((t / 20 + 0.008) / 1.008 * math.pi / 2) ** 2 for t in (0, 1, 10)]
    assert s.alpha_bar[0] == pytest.approx(f[1] / f[0]) and s.alpha_bar[9] == pytest.approx(f[2] / f[0])


def perfect(schedule: NoiseSchedule, point: torch.Tensor):
    """The noise in ``plans`` if all data were ``point``."""

    def epsilon(plans: torch.Tensor, levels: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        share = torch.from_numpy(schedule.alpha_bar).float()[levels][:, None]
        return (plans - share.sqrt() * point) / (1.0 - share).sqrt()

    return epsilon


@settings(max_examples=30, deadline=None)
@given(steps=st.integers(1, 30), data=st.data(), seed=st.integers(0, 99))
def test_with_a_perfect_network_the_sample_is_the_only_point_there_is(steps: int, data, seed: int) -> None:
    """Pins: any coefficient of DDIM or DDPM."""
    schedule, generator = NoiseSchedule(steps), torch.Generator().manual_seed(seed)
    point = 2.0 * torch.rand(3, generator=generator) - 1.0
    noise = torch.randn((steps + 1, 4, 3), generator=generator)
    count = data.draw(st.integers(1, steps))
    made = schedule.ddim(perfect(schedule, point), torch.zeros(4, 1), noise[0], count)
    torch.testing.assert_close(made, point.expand(4, -1), atol=2e-4, rtol=0)
    chain = schedule.ddpm(perfect(schedule, point), torch.zeros(4, 1), noise, 0.0)
    assert chain.shape == (steps + 1, 4, 3)
    torch.testing.assert_close(chain[-1], point.expand(4, -1), atol=2e-4, rtol=0)


def test_a_ddpm_step_keeps_its_share_of_the_noise() -> None:
    """Pins: the mean of q(x_{t-1} | x_t, x_0), from x_0 and x_t by Bayes' rule for two Gaussians."""
    schedule, point = NoiseSchedule(10), torch.tensor([0.3, -0.7])
    noisy = torch.randn((10, 2), generator=torch.Generator().manual_seed(0))
    levels = torch.arange(10)
    epsilon = perfect(schedule, point)(noisy, levels, noisy)
    mean, std = schedule.step_back(noisy, levels, epsilon, 0.0)
    share = torch.from_numpy(schedule.alpha_bar)
    previous = torch.cat((torch.ones(1), share[:-1]))
    one = (share / previous)[:, None]  # x_t = sqrt(one) x_{t-1} + sqrt(1 - one) noise
    prior, spread = previous.sqrt()[:, None] * point, (1.0 - previous)[:, None]
    gain = spread * one.sqrt() / (one * spread + 1.0 - one)
    expected = prior + gain * (noisy - one.sqrt() * prior)
    torch.testing.assert_close(mean, expected.float(), atol=1e-4, rtol=0)
    torch.testing.assert_close(std, ((1.0 - gain * one.sqrt()) * spread).sqrt().float(), atol=1e-4, rtol=0)


def test_ddim_visits_the_noisiest_and_the_last_level() -> None:
    assert NoiseSchedule(20).ddim_levels(5) == [19, 14, 10, 5, 0]
    assert NoiseSchedule(20).ddim_levels(20) == list(range(19, -1, -1)) and NoiseSchedule(7).ddim_levels(1) == [6]


def test_ddim_keeps_the_level_of_noise_on_the_way() -> None:
    """Pins: DDIM eq. 12: with a perfect network each x_t stays sqrt(a_t) x_0 + sqrt(1 - a_t) noise, one noise."""
    schedule, point = NoiseSchedule(10), torch.tensor([0.3])
    seen = []

    def epsilon(plans, levels, condition):
        seen.append(perfect(schedule, point)(plans, levels, condition))
        return seen[-1]

    schedule.ddim(epsilon, torch.zeros(2, 1), torch.tensor([[0.5], [-1.0]]), 10)
    for noise in seen[1:]:
        torch.testing.assert_close(noise, seen[0], atol=1e-3, rtol=0)


def test_the_predicted_plan_is_clipped_to_the_actions_range() -> None:
    schedule = NoiseSchedule(5)
    mean, _ = schedule.step_back(torch.full((1, 2), 50.0), torch.tensor([0]), torch.zeros(1, 2), 0.1)
    assert mean.tolist() == [[1.0, 1.0]]


def test_a_step_without_noise_has_the_floor_as_its_std() -> None:
    """Pins: the last step's posterior std is 0, and its density would be infinite."""
    schedule = NoiseSchedule(20)
    levels = torch.arange(20)
    std = schedule.step_back(torch.zeros(20, 1), levels, torch.zeros(20, 1), 0.1)[1].squeeze(1)
    assert std[0] == pytest.approx(0.1) and (std >= 0.1 - 1e-7).all()
    assert std[10] == pytest.approx(schedule.posterior_std[10]) and std[10] > 0.1


def test_the_log_density_is_torchs() -> None:
    generator = torch.Generator().manual_seed(0)
    x, mean, std = (torch.randn((5, 4), generator=generator) for _ in range(3))
    std = std.abs() + 0.1
    expected = torch.distributions.Normal(mean, std).log_prob(x)
    torch.testing.assert_close(gaussian_log_density(x, mean, std), expected)


def test_the_log_densitys_gradient_is_the_gaussians_score() -> None:
    mean = torch.tensor([0.2, -0.4], requires_grad=True)
    x, std = torch.tensor([0.5, 0.5]), torch.tensor([0.1, 2.0])
    gaussian_log_density(x, mean, std).sum().backward()
    torch.testing.assert_close(mean.grad, (x - mean.detach()) / std**2)


def test_each_level_has_features_of_its_own() -> None:
    features = time_features(20, 16)
    assert features.shape == (20, 16) and len(np.unique(features.round(4), axis=0)) == 20
