"""Behaviour cloning."""

import ctypes
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from inril_core import distributed
from inril_core.finetune.contracts import Gradient, IlConfig, IlMethod
from inril_core.finetune.direct import gaussian_of, imitation
from inril_core.finetune.memory.replay import Replay
from inril_core.finetune.native import ImitationKernel
from inril_core.networks.critics import views_like
from inril_core.networks.direct import in_use
from inril_core.networks.flat import Adam, FlatParameters
from inril_core.policies import ImitationSettings, Policy


class Config(IlConfig):
    """Settings of behaviour cloning."""

    method: Literal["bc"]
    distributed = True
    loss: Literal["nll", "mse", "faithful"] = "faithful"
    """``nll``: -log pi(a|s). ``mse``: squared error of the mode tanh(mean). ``faithful``: ``mse`` plus the negative
    log-likelihood of the log-std alone, so that the spread cannot spoil the fit of the mean (Stirn et al., "Faithful
    Heteroscedastic Regression", AISTATS 2023). A diffusion policy has its denoising error instead."""
    batch: int = Field(128, ge=1)
    action_limit: float = Field(0.99, gt=0.5, lt=1.0)
    """Demonstrated actions are clipped to +- this, because +-1 is at infinity before squashing."""

    def batch_rows(self) -> int:
        """See `IlConfig.batch_rows`."""
        return self.batch

    def build(self, policy: Policy, actor: FlatParameters, generator: torch.Generator) -> "Bc":
        """See `IlConfig.build`."""
        return Bc(self, policy, actor, generator)


class Bc(IlMethod):
    """Gradient of the imitation loss on a minibatch of demonstrations."""

    def __init__(self, config: Config, policy: Policy, flat: FlatParameters, generator: torch.Generator) -> None:
        self.config, self._policy, self._actor, self._generator = config, policy, flat, generator
        self._settings = ImitationSettings(loss=config.loss, action_limit=config.action_limit)
        self.direct: dict[str, Callable[..., Any]] = {}
        self._kernel: ImitationKernel | None = None
        self._gaussian = gaussian_of(policy, flat) if type(self).loss is Bc.loss else None
        if self._gaussian is not None:
            self._weights = views_like(flat.value, flat.parameters)
            self.direct["imitation"] = partial(imitation, self._gaussian, self._settings)

    def take_kernels(self, found: ctypes.CDLL) -> None:
        """See `inril_core.networks.compute.give_kernels`."""
        if self._gaussian is not None:
            self._kernel = ImitationKernel(found, self._gaussian, self._settings.loss, self._settings.action_limit)

    def loss(self, inputs: Tensor, actions: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """See `IlMethod.loss`."""
        return self._policy.imitation_loss(inputs, actions, self._settings, generator or self._generator)

    def gradient(self, demos: Replay, batch: int | None = None) -> Gradient:
        """See `IlMethod.gradient`."""
        rows = demos.sample(self.config.batch if batch is None else batch, self._generator)
        if self._kernel is not None and in_use():
            vector, number = self._kernel(self._actor.value, rows.observations, rows.actions)
            return Gradient(vector, {"il_loss": number})
        if self.direct and in_use():
            with torch.no_grad():
                vector, value = self.direct["imitation"](self._weights, rows.observations, rows.actions)
            return Gradient(distributed.average_(vector), {"il_loss": value})
        loss = self.loss(rows.observations, rows.actions)
        return Gradient(self._actor.gradient(loss), {"il_loss": loss.detach()})


def fit(
    il: IlMethod,
    flat: FlatParameters,
    demos: Replay,
    updates: int,
    batch: int,
    lr: float,
    on_update: Callable[[int, float], None] | None = None,
) -> list[float]:
    """``updates`` Adam steps on the imitation loss, lr falling along a half cosine to 0; returns the losses."""
    adam = Adam(flat.value.numel(), lr)
    losses = []
    for update in range(updates):
        gradient, metrics = il.gradient(demos, batch)
        rate = 0.5 * lr * (1.0 + torch.cos(torch.tensor(torch.pi * update / updates)).item())
        flat.value.sub_(adam.direction(gradient), alpha=rate)
        losses.append(float(metrics["il_loss"]))
        if on_update is not None:
            on_update(update, losses[-1])
    return losses
