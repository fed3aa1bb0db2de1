"""Diffusion policy whose plans a critic picks: several are drawn, the best or a likely good one is executed.

How IDQL acts (arXiv 2304.10573, section 4). The critics travel with the weights, so that whoever acts needs the
manifest and the tensors alone; `inril_core.finetune.rl.idql` trains its own and copies its target Q and its V here.
Until then they are zero, and the choice is the first plan, or any when exploring.
"""

from collections.abc import Iterable
from typing import Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from inril_core.errors import ConfigError
from inril_core.networks.critics import CriticEnsemble
from inril_core.policies.base import NOTHING, Array
from inril_core.policies.diffusion import DiffusionPolicy, DiffusionSettings


class Config(DiffusionSettings):
    """Settings of a diffusion policy with selection."""

    kind: Literal["selected_diffusion"] = "selected_diffusion"
    distributed = True
    provides = frozenset({"selection"})
    candidates: int = Field(10, ge=1, le=256)
    """Plans drawn per decision (DPPO's IDQL: 10, or 20 for locomotion; IDQL: 64)."""
    explore_weight: float = Field(0.7, ge=0.5, le=1.0)
    """Weight of a plan with Q > V when exploring, against 1 - this of the others; the ratio that the expectile implies
    (IDQL eq. 9)."""
    explore_by: Literal["std_floor", "inference"] = "std_floor"
    """How candidates are drawn when exploring: ``std_floor``: DDPM with that smallest std (DPPO's IDQL);
    ``inference``: as when not exploring (IDQL)."""
    critic_hidden: tuple[int, ...] = Field((128, 128), min_length=1)
    """Widths of Q and V."""

    @model_validator(mode="after")
    def _whole(self) -> "Config":
        if self.finetuned_steps not in (None, self.denoising_steps):
            raise ConfigError(
                f"policy.finetuned_steps = {self.finetuned_steps}: IDQL clones with every denoising step; leave it out"
            )
        return self

    def build(self, observation_size: int, action_size: int) -> "SelectedDiffusionPolicy":
        """See `PolicyConfig.build`."""
        return SelectedDiffusionPolicy(observation_size, action_size, self)


class SelectedDiffusionPolicy(DiffusionPolicy):
    """Draws ``candidates`` plans and picks by min Q; two Q(s, plan) and one V(s)."""

    kind = "selected_diffusion"
    config: Config

    def __init__(self, observation_size: int, action_size: int, config: Config) -> None:
        super().__init__(observation_size, action_size, config)
        self.aux_size = 0
        self.critics, self.value = new_critics(self, config, torch.Generator())
        for parameter in self.critic_parameters():
            nn.init.zeros_(parameter)
            parameter.requires_grad_(False)

    def critic_parameters(self) -> list[nn.Parameter]:
        """Of Q, then of V."""
        return [*self.critics.parameters(), *self.value.parameters()]

    @property
    def has_critics(self) -> bool:
        """Whether critics were ever taken over."""
        return any(bool(p.any()) for p in self.critic_parameters())

    @torch.no_grad()
    def take_critics(self, parameters: Iterable[Tensor]) -> None:
        """Take over Q and V to select by, in the order of `critic_parameters`."""
        for mine, trained in zip(self.critic_parameters(), parameters, strict=True):
            mine.copy_(trained)

    def selection_weights(self, inputs: Tensor, plans: Tensor) -> Tensor:
        """Probability of each plan ``[N]`` when exploring; ``inputs [N, D]``, ``plans [N, P]`` in [-1, 1]."""
        better = self.critics(inputs, plans).amin(0) > self.value(inputs, plans[:, :0])[0]
        weight = self.config.explore_weight
        weights = torch.where(better, weight, 1.0 - weight)
        # with explore_weight = 1 and no plan above V there would be nothing to choose from
        weights = weights if bool(weights.any()) else torch.ones_like(weights)
        return weights / weights.sum()

    def plan(self, inputs: Tensor, explore: bool, rng: np.random.Generator) -> tuple[Tensor, float, Array]:
        """See `DiffusionPolicy.plan`; the picked plan has no density and no chain to learn from."""
        rows = inputs.expand(self.config.candidates, -1)
        plans = self.draw(rows, explore and self.config.explore_by == "std_floor", rng)[-1].clamp(-1.0, 1.0)
        if not explore:
            return plans[int(self.critics(rows, plans).amin(0).argmax())], float("nan"), NOTHING
        edges = self.selection_weights(rows, plans).double().cumsum(0).cpu().numpy()
        pick = int(np.searchsorted(edges, rng.uniform(0.0, edges[-1]), side="right"))
        return plans[min(pick, len(plans) - 1)], float("nan"), NOTHING


def new_critics(
    policy: DiffusionPolicy, config: Config, generator: torch.Generator
) -> tuple[CriticEnsemble, CriticEnsemble]:
    """Two Q(s, plan) and one V(s), which is a critic of no action; drawn from ``generator``."""
    size, hidden = policy.input_size, config.critic_hidden
    critics = CriticEnsemble(2, size, policy.plan_size, hidden, generator, policy.new_image_encoder(generator))
    return critics, CriticEnsemble(1, size, 0, hidden, generator, policy.new_image_encoder(generator))
