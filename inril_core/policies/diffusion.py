"""Diffusion policy: plans of several actions, drawn by denoising (arXiv 2303.04137), with an MLP.

Fine-tuned as in DPPO (arXiv 2409.00588): a frozen copy of the cloned network handles the noisiest levels, the trained
one the last K'. Exploring, plans are drawn by DDPM with a smallest std, and the fine-tuned part of the denoising chain
is noted; otherwise as ``inference`` says. Either way a plan is a sample: two plans for one observation differ.
"""

import copy
from typing import Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from inril_core import distributed
from inril_core.errors import ConfigError
from inril_core.networks.encoder import ImageEncoder
from inril_core.policies.base import NOTHING, Array, Decision, ImitationSettings, Memory, Policy, PolicyConfig
from inril_core.policies.denoising import NoiseSchedule, gaussian_log_density, time_features

LOG_DENSITY_RANGE = (-5.0, 2.0)  # DPPO's code clamps each element's to this
INFERENCE_STD_FLOOR = 1e-3  # DPPO's code: of each denoising step but the last, when not exploring


class DiffusionSettings(PolicyConfig):
    """Settings of a denoising network and of how it is sampled."""

    chunk: int = Field(4, ge=1, le=64)
    """Actions per plan; all of them are executed."""
    hidden: tuple[int, ...] = Field((128, 128), min_length=1)
    """Widths of the hidden layers."""
    time_size: int = Field(16, ge=2, multiple_of=2)
    """Width of the noise level's features."""
    denoising_steps: int = Field(20, ge=1, le=1000)
    """K (DPPO's MLPs: 20)."""
    finetuned_steps: int | None = Field(None, ge=1)
    """K', last steps that fine-tuning trains (DPPO: 10 of 20); None: all K, with no frozen copy."""
    inference: Literal["posterior", "ddim", "mean"] = "posterior"
    """How plans are drawn when not exploring.

    ``posterior`` (DPPO's code for MLPs, its IDQL included): all K steps of DDPM with the posterior's noise, std at
    least 1e-3, none at the last. IDQL's own code draws a little wider, with std sqrt(beta).
    ``ddim``: ``inference_steps`` steps of DDIM with eta 0, which the initial noise decides alone: K /
    ``inference_steps`` times cheaper, and what DPPO does for assembly. Its plans are coarser, and a shortcut through a
    network whose DDPM steps were fine-tuned need not be better than before.
    ``mean``: all K steps of DDPM by their means. The plans of one state are nearly copies of each other, so that a
    critic has nothing to choose from, and where there are several ways they all go the same.
    What the last two cost is measured by `inril_core.bench.two_ways` (docs/methods.md)."""
    inference_steps: int = Field(5, ge=1)
    std_floor: float = Field(0.1, gt=0.0, le=1.0)
    """Smallest std of a step while exploring (DPPO: 0.1; 0.04 for assembly). Its log-density uses the same std; DPPO's
    assembly settings use 0.1 there, which is then not the density of what was drawn."""
    noise_limit: float = Field(3.0, gt=0.0)
    """Standard normal noise is clipped to +- this (DPPO: 3)."""
    restrict_imitation: bool = True
    """Imitation during fine-tuning draws noise levels below K' only: those above are the frozen copy's, and training
    the network there changes nothing that is used."""

    def plan_steps(self) -> int:
        """See `PolicyConfig.plan_steps`."""
        return self.chunk

    @model_validator(mode="after")
    def _steps(self) -> "DiffusionSettings":
        for name in ("finetuned_steps", "inference_steps"):
            if (getattr(self, name) or 0) > self.denoising_steps:
                raise ConfigError(
                    f"policy.{name} = {getattr(self, name)}: must be at most policy.denoising_steps = "
                    f"{self.denoising_steps}"
                )
        return self


class Config(DiffusionSettings):
    """Settings of a diffusion policy."""

    kind: Literal["diffusion"] = "diffusion"
    distributed = True
    provides = frozenset({"chain"})

    def build(self, observation_size: int, action_size: int) -> "DiffusionPolicy":
        """See `PolicyConfig.build`."""
        return DiffusionPolicy(observation_size, action_size, self)


class EpsilonNetwork(nn.Module):
    """MLP that predicts the noise in plans ``[B, P]`` at levels ``[B]``, given inputs ``[B, D]``."""

    def __init__(self, plan_size: int, input_size: int, config: DiffusionSettings, image_encoder: ImageEncoder) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self._features = time_features(config.denoising_steps, config.time_size)
        sizes = (plan_size + config.time_size + image_encoder.width(input_size), *config.hidden, plan_size)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True))

    def forward(self, plans: Tensor, levels: Tensor, inputs: Tensor) -> Tensor:
        """The predicted noise ``[B, P]``."""
        features = torch.from_numpy(self._features).to(levels.device)[levels]
        hidden = torch.cat((plans, features, self.image_encoder(inputs)), -1)
        for layer in list(self.layers)[:-1]:
            hidden = functional.mish(layer(hidden))
        predicted: Tensor = self.layers[-1](hidden)
        return predicted


class DiffusionPolicy(Policy):
    """Denoises a plan of ``chunk`` actions and executes it.

    `Decision.aux` of a plan drawn while exploring: x_K', ..., x_0 ``[(K' + 1) * P]``, then the mean clamped
    log-density of each of the K' steps as it was when the robot acted. ``log_prob`` there is the joint log-density of
    these steps, 0 inside the plan (nothing is drawn), NaN where nothing explores.
    """

    kind = "diffusion"
    config: DiffusionSettings
    finetuning: Tensor

    def __init__(self, observation_size: int, action_size: int, config: DiffusionSettings) -> None:
        super().__init__(observation_size, action_size, config)
        self.chunk, self.plan_size = config.chunk, config.chunk * action_size
        self.schedule = NoiseSchedule(config.denoising_steps)
        self.finetuned_steps = config.finetuned_steps or config.denoising_steps
        self.aux_size = (self.finetuned_steps + 1) * self.plan_size + self.finetuned_steps
        self.network = EpsilonNetwork(self.plan_size, self.input_size, config, self.new_image_encoder())
        # both are there from the beginning and travel with the weights, so that a pack of a fine-tuned policy has the
        # shapes of a cloned one, and whoever acts with it knows which it is
        self.early: EpsilonNetwork | None = None
        if self.finetuned_steps < config.denoising_steps:
            self.early = copy.deepcopy(self.network).requires_grad_(False)
        self.register_buffer("finetuning", torch.zeros(1))

    def prepare_finetuning(self) -> None:
        """See `Policy.prepare_finetuning`: the copy for the noisiest levels is made; a second call keeps it."""
        if bool(self.finetuning.item()):
            return
        if self.early is not None:
            self.early.load_state_dict(self.network.state_dict())
        self.finetuning.fill_(1.0)

    def epsilon(self, plans: Tensor, levels: Tensor, inputs: Tensor) -> Tensor:
        """The predicted noise ``[B, P]``; all ``levels [B]`` on one side of K'."""
        frozen = self.early is not None and int(levels[0]) >= self.finetuned_steps and bool(self.finetuning.item())
        network = self.early if frozen and self.early is not None else self.network
        predicted: Tensor = network(plans, levels, inputs)
        return predicted

    def denoising_errors(self, inputs: Tensor, actions: Tensor, generator: torch.Generator) -> Tensor:
        """Squared errors of the predicted noise ``[B]``, mean over the plan (DDPM eq. 14).

        Args:
            inputs: ``[B, D]``. actions: ``[B, P]``, in [-1, 1].
        """
        restricted = self.config.restrict_imitation and bool(self.finetuning.item())
        top = self.finetuned_steps if restricted else self.schedule.steps
        levels = distributed.integers_like(actions, top, generator)
        noise = distributed.normal_like(actions, generator)
        predicted = self.network(self.schedule.add_noise(actions, levels, noise), levels, inputs)
        errors: Tensor = (predicted - noise).square().mean(-1)
        return errors

    def imitation_loss(
        self, inputs: Tensor, actions: Tensor, settings: ImitationSettings, generator: torch.Generator
    ) -> Tensor:
        """See `Policy.imitation_loss`: the denoising error."""
        return self.denoising_errors(inputs, actions, generator).mean()

    def step_log_density(self, inputs: Tensor, before: Tensor, after: Tensor, levels: Tensor) -> Tensor:
        """Log-density ``[B, P]`` of one fine-tuned denoising step, elementwise, from ``before`` to ``after [B, P]``."""
        epsilon = self.network(before, levels, inputs)
        mean, std = self.schedule.step_back(before, levels, epsilon, self.config.std_floor)
        return gaussian_log_density(after, mean, std)

    def draw(self, inputs: Tensor, explore: bool, rng: np.random.Generator) -> Tensor:
        """Denoising chains ``[N + 1, B, P]`` for ``inputs [B, D]``, the plan last; not exploring, only the plan."""
        limit, size = self.config.noise_limit, (len(inputs), self.plan_size)
        # DDIM looks at the first row alone, which is the same however many are drawn
        steps = 1 if not explore and self.config.inference == "ddim" else self.schedule.steps + 1
        noise = torch.from_numpy(rng.standard_normal((steps, *size)).astype(np.float32).clip(-limit, limit))
        noise = noise.to(inputs.device)
        if explore:
            return self.schedule.ddpm(self.epsilon, inputs, noise, self.config.std_floor)
        if self.config.inference == "ddim":
            return self.schedule.ddim(self.epsilon, inputs, noise[0], self.config.inference_steps)[None]
        noise[1 if self.config.inference == "mean" else -1 :] = 0.0
        return self.schedule.ddpm(self.epsilon, inputs, noise, INFERENCE_STD_FLOOR)[-1:]

    def plan(self, inputs: Tensor, explore: bool, rng: np.random.Generator) -> tuple[Tensor, float, Array]:
        """A plan ``[P]`` for ``inputs [1, D]``, its log-density, and ``aux``."""
        chain = self.draw(inputs, explore, rng)[:, 0]
        if not explore:
            return chain[-1], float("nan"), NOTHING
        steps = self.finetuned_steps
        chain = chain[-(steps + 1) :]
        levels = torch.arange(steps - 1, -1, -1, device=chain.device)
        density = self.step_log_density(inputs.expand(steps, -1), chain[:-1], chain[1:], levels)
        noted = density.clamp(*LOG_DENSITY_RANGE).mean(-1)
        return chain[-1], float(density.sum()), torch.cat((chain.reshape(-1), noted)).cpu().numpy()

    def unpack(self, aux: Tensor) -> tuple[Tensor, Tensor]:
        """Chains ``[B, K' + 1, P]`` and log-densities ``[B, K']`` of ``aux [B, aux_size]``."""
        steps = self.finetuned_steps
        chain, noted = aux.split(((steps + 1) * self.plan_size, steps), -1)
        return chain.reshape(-1, steps + 1, self.plan_size), noted

    @torch.no_grad()
    def act(
        self, observation: Array, explore: bool, rng: np.random.Generator, memory: Memory | None = None
    ) -> Decision:
        """See `Policy.act`. A plan begins in noise also when not exploring, so ``rng`` is always used."""
        memory = Memory() if memory is None else memory
        row = self.checked(observation)
        if memory.queue:
            raw, index = memory.queue.popleft(), memory.index
            memory.index += 1
            return Decision(raw.clip(-1.0, 1.0), raw, 0.0, chunk_index=index)
        plan, log_prob, aux = self.plan(self.normalise(row)[None], explore, rng)
        rows = plan.cpu().numpy().reshape(self.chunk, self.action_size)
        memory.queue.extend(rows[1:])
        memory.index = 1
        return Decision(rows[0].clip(-1.0, 1.0), rows[0], log_prob, aux)
