"""The arithmetic of denoising diffusion: noise schedule, one step back by DDPM or DDIM, and its log-density.

DDPM: arXiv 2006.11239. Cosine schedule: arXiv 2102.09672, eq. 17. DDIM: arXiv 2010.02502, eq. 12.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from inril_core.policies.base import HALF_LOG_2PI

_OFFSET = 0.008  # s of the cosine schedule
_BETA_MAX = 0.999

Epsilon = Callable[[Tensor, Tensor, Tensor], Tensor]
"""The predicted noise ``[B, P]`` of (noisy plans ``[B, P]``, noise levels int64 ``[B]``, condition ``[B, D]``)."""


class NoiseSchedule:
    """What is known of each of the K noise levels; level 0 is the least noisy.

    Constants, not tensors: a policy built without memory (on the meta device) has them all the same.
    """

    alpha_bar: np.ndarray
    """float64[K], share of the signal's variance that is left at each level."""
    posterior_std: np.ndarray
    """float64[K], of one DDPM step back; 0 at level 0."""

    def __init__(self, steps: int) -> None:
        grid = np.cos((np.linspace(0.0, 1.0, steps + 1) + _OFFSET) / (1.0 + _OFFSET) * math.pi / 2) ** 2
        beta = np.minimum(1.0 - grid[1:] / grid[:-1], _BETA_MAX)
        alpha_bar = np.cumprod(1.0 - beta)
        previous = np.concatenate(([1.0], alpha_bar[:-1]))
        clean = beta * np.sqrt(previous) / (1.0 - alpha_bar)
        noisy = (1.0 - previous) * np.sqrt(1.0 - beta) / (1.0 - alpha_bar)
        self.steps, self.alpha_bar = steps, alpha_bar
        self.posterior_std = np.sqrt(beta * (1.0 - previous) / (1.0 - alpha_bar))
        table = (np.sqrt(alpha_bar), np.sqrt(1.0 - alpha_bar), clean, noisy, self.posterior_std)
        self._table = np.stack(table, 1).astype(np.float32)

    def _constants(self, levels: Tensor) -> tuple[Tensor, ...]:
        """Columns of the table, each ``[B, 1]``: one gather, because small networks leave little to hide it behind."""
        rows = torch.from_numpy(self._table).to(levels.device)[levels]
        return rows.unsqueeze(-1).unbind(1)

    def add_noise(self, plans: Tensor, levels: Tensor, noise: Tensor) -> Tensor:
        """Plans ``[B, P]`` at a noise level (DDPM eq. 4)."""
        signal, spread, *_ = self._constants(levels)
        return signal * plans + spread * noise

    def clean(self, noisy: Tensor, levels: Tensor, epsilon: Tensor) -> Tensor:
        """The plan ``[B, P]`` that a predicted noise stands for, clipped to the action's range."""
        signal, spread, *_ = self._constants(levels)
        return ((noisy - spread * epsilon) / signal).clamp(-1.0, 1.0)

    def step_back(self, noisy: Tensor, levels: Tensor, epsilon: Tensor, floor: float) -> tuple[Tensor, Tensor]:
        """Mean ``[B, P]`` and std ``[B, 1]``, at least ``floor``, of the level below (DDPM eq. 7)."""
        signal, spread, clean_share, noisy_share, std = self._constants(levels)
        clean = ((noisy - spread * epsilon) / signal).clamp(-1.0, 1.0)
        return clean_share * clean + noisy_share * noisy, std.clamp_min(floor)

    def ddim_levels(self, count: int) -> list[int]:
        """``count`` levels from the noisiest to 0, evenly spaced."""
        return [int(level) for level in np.linspace(self.steps - 1, 0, count).round()]

    def ddim(self, epsilon: Epsilon, condition: Tensor, plans: Tensor, count: int) -> Tensor:
        """Plans ``[B, P]`` from pure noise in ``count`` steps without further noise (DDIM eq. 12, sigma 0).

        The noise is recomputed from the clipped plan, so that the two always add up to the noisy one.
        """
        levels = self.ddim_levels(count)
        for level, below in zip(levels, [*levels[1:], -1], strict=True):
            at = torch.full((len(plans),), level, device=plans.device)
            share = float(self.alpha_bar[level])
            clean = self.clean(plans, at, epsilon(plans, at, condition))
            if below < 0:
                return clean
            noise = (plans - math.sqrt(share) * clean) / math.sqrt(1.0 - share)
            share = float(self.alpha_bar[below])
            plans = math.sqrt(share) * clean + math.sqrt(1.0 - share) * noise
        return plans

    def ddpm(self, epsilon: Epsilon, condition: Tensor, noise: Tensor, floor: float) -> Tensor:
        """The whole chain ``[K + 1, B, P]`` from pure noise to plans; ``noise [K + 1, B, P]`` is standard normal."""
        chain = [noise[0]]
        for step, level in enumerate(range(self.steps - 1, -1, -1)):
            at = torch.full((noise.shape[1],), level, device=noise.device)
            mean, std = self.step_back(chain[-1], at, epsilon(chain[-1], at, condition), floor)
            chain.append(mean + std * noise[step + 1])
        return torch.stack(chain)


def gaussian_log_density(values: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Elementwise log N(values; mean, std^2)."""
    return -0.5 * ((values - mean) / std).square() - torch.log(std) - HALF_LOG_2PI


def time_features(steps: int, size: int) -> np.ndarray:
    """Sines and cosines of each noise level, float32 ``[steps, size]``."""
    half = size // 2
    rates = np.exp(-math.log(1e4) * np.arange(half) / max(half - 1, 1))
    angles = np.arange(steps)[:, None] * rates[None, :]
    return np.concatenate((np.sin(angles), np.cos(angles)), 1).astype(np.float32)
