"""A module's parameters as one flat vector, and Adam on it.

Projections, the target network and the optimizer all act on whole vectors: one flat buffer makes each of them a
handful of operations, which is most of what a small network's update costs.
"""

import ctypes
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from inril_core import distributed
from inril_core.networks.direct import in_use
from inril_core.networks.native import usable


class FlatParameters:
    """Moves parameters into one buffer; each parameter and its gradient become views of it."""

    value: Tensor
    """All parameters, ``[P]``; writing to it changes the module."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self.value = torch.cat([p.detach().reshape(-1) for p in self.parameters])
        self._gradient = torch.zeros_like(self.value)
        offset = 0
        for p in self.parameters:
            size = p.numel()
            p.data = self.value[offset : offset + size].view(p.shape)
            p.grad = self._gradient[offset : offset + size].view(p.shape)
            offset += size

    def gradient(self, loss: Tensor) -> Tensor:
        """Gradient of ``loss``, ``[P]``. The buffer is reused: clone it to keep it past the next call.

        In a data-parallel run it is that of the processes' average loss.
        """
        self._gradient.zero_()
        loss.backward()
        return distributed.average_(self._gradient)


class Adam:
    """Adam (arXiv 1412.6980, algorithm 1) on a flat vector, split into direction and step.

    ``direction`` is the step divided by minus the learning rate; the caller applies it, possibly projected. The moments
    move to the device of the first gradient.
    """

    def __init__(self, size: int, lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> None:
        self.lr, self.betas, self.eps = lr, betas, eps
        self.first = torch.zeros(size)
        self.second = torch.zeros(size)
        self.steps = 0
        self.kernels: ctypes.CDLL | None = None
        """`inril_core.networks.native`, where it is to be used."""

    def direction(self, gradient: Tensor) -> Tensor:
        """Take ``gradient [P]`` into the moments; returns m_hat / (sqrt(v_hat) + eps)."""
        self._move_to(gradient.device)
        self.steps += 1
        if self.kernels is not None and in_use():
            gradient = usable(gradient)
            result = torch.empty_like(gradient)
            self.kernels.inril_direction(*self._taken(gradient), result.data_ptr())
            return result
        beta1, beta2 = self.betas
        self.first.lerp_(gradient, 1.0 - beta1)
        self.second.mul_(beta2).addcmul_(gradient, gradient, value=1.0 - beta2)
        eps, scale = self._corrected()
        return self.first / (self.second.sqrt().add_(eps).mul_(scale))

    def step_(self, value: Tensor, gradient: Tensor, target: Tensor | None = None, tau: float = 0.0) -> None:
        """Move ``value [P]`` by minus ``lr`` times the direction of ``gradient [P]``; ``target`` follows by ``tau``."""
        if self.kernels is not None and in_use():
            self._move_to(gradient.device)
            self.steps += 1
            gradient = usable(gradient)
            follower = None if target is None else target.data_ptr()
            self.kernels.inril_step(*self._taken(gradient), self.lr, value.data_ptr(), follower, tau)
            return
        value.sub_(self.direction(gradient), alpha=self.lr)
        if target is not None:
            target.lerp_(value, tau)

    def _corrected(self) -> tuple[float, float]:
        """Eps and scale that make the bias corrections of both moments one factor."""
        beta1, beta2 = self.betas
        root = (1.0 - beta2**self.steps) ** 0.5
        return self.eps * root, (1.0 - beta1**self.steps) / root

    def _taken(self, gradient: Tensor) -> tuple[int | float, ...]:
        """The kernels' arguments that tell moments and gradient."""
        vectors = (gradient.data_ptr(), self.first.data_ptr(), self.second.data_ptr())
        return (gradient.numel(), *vectors, *self.betas, *self._corrected())

    def precondition(self, gradient: Tensor) -> Tensor:
        """``gradient / (sqrt(v_hat) + eps)`` with the moments as they are (before the first step: unchanged)."""
        self._move_to(gradient.device)
        if self.steps == 0:
            return gradient
        correction = (1.0 - self.betas[1] ** self.steps) ** 0.5
        return gradient / (self.second.sqrt().div_(correction).add_(self.eps))

    def _move_to(self, device: torch.device) -> None:
        if self.first.device != device:
            self.first, self.second = self.first.to(device), self.second.to(device)

    def state(self) -> dict[str, Tensor]:
        """Everything `load` needs, as tensors."""
        return {"first": self.first, "second": self.second, "steps": torch.tensor([self.steps])}

    def load(self, state: dict[str, Tensor]) -> None:
        """Continue from what `state` returned."""
        self.first.copy_(state["first"])
        self.second.copy_(state["second"])
        self.steps = int(state["steps"])
