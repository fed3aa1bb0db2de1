"""Gradients of RLPD and of behaviour cloning on a Gaussian MLP in C++, each in one call.

The same formulas as in `inril_core.finetune.direct`, which is the twin that tests compare; for networks on a CPU, in
float32. See `inril_core.networks.native`.
"""

import ctypes
import math

import torch
from torch import Tensor

from inril_core.finetune.direct import Gaussian
from inril_core.finetune.memory.replay import Batch
from inril_core.networks.native import Handle, integers, usable

_KINDS = {"nll": 0, "mse": 1, "faithful": 2}


class _Shape(ctypes.Structure):
    """``Shape`` in gaussian.h."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("actions", "tanh", "fixed")),
        *((name, ctypes.c_float) for name in ("log_std", "lowest", "highest", "mean_limit")),
    )


def _gaussian(found: ctypes.CDLL, policy: Gaussian) -> Handle:
    fixed = policy.fixed_log_std
    shape = _Shape(
        policy.actions, policy.tanh, fixed is not None, fixed or 0.0, *policy.bounds, policy.mean_limit or 0.0
    )
    return Handle(found, "gaussian", len(policy.sizes), integers(policy.sizes), ctypes.byref(shape))


class ImitationKernel:
    """`inril_core.finetune.direct.imitation` of one policy, whose weights are one vector."""

    def __init__(self, found: ctypes.CDLL, policy: Gaussian, loss: str, action_limit: float) -> None:
        self._run, self._policy = found.inril_imitation, _gaussian(found, policy)
        self._kind, self._limit = _KINDS[loss], action_limit

    def __call__(self, weights: Tensor, inputs: Tensor, actions: Tensor) -> tuple[Tensor, float]:
        """Gradient ``[P]`` and loss, at ``weights [P]``; ``inputs [B, D]``, ``actions [B, A]``."""
        inputs, actions, gradient = usable(inputs), usable(actions), torch.empty_like(weights)
        loss = self._run(
            self._policy.address, weights.data_ptr(), inputs.data_ptr(), inputs.stride(0), actions.data_ptr(),
            actions.stride(0), inputs.shape[0], self._kind, self._limit, gradient.data_ptr(),
        )  # fmt: skip
        return gradient, loss


class RegressionKernel:
    """`inril_core.finetune.direct.regression` of one ensemble, whose weights are one vector.

    Args:
        sizes: widths of a critic, from its inputs to its one output.
    """

    def __init__(self, found: ctypes.CDLL, members: int, sizes: tuple[int, ...]) -> None:
        self._run = found.inril_regression
        self.critics, self.members = Handle(found, "ensemble", members, len(sizes), integers(sizes)), members
        self._found = (ctypes.c_double * 2)()

    def __call__(
        self, critics: Tensor, observations: Tensor, actions: Tensor, targets: Tensor
    ) -> tuple[Tensor, float, float]:
        """Gradient ``[P]``, mean error and mean value, at ``critics [P]``.

        Args:
            observations: ``[B, D]``. actions: ``[B, A]``. targets: ``[B]``.
        """
        observations, actions, targets = usable(observations), usable(actions), usable(targets)
        rows, size = actions.shape
        gradient = torch.empty_like(critics)
        self._run(
            self.critics.address, critics.data_ptr(), observations.data_ptr(), observations.stride(0),
            actions.data_ptr(), actions.stride(0), targets.data_ptr(), rows, size, gradient.data_ptr(), self._found,
        )  # fmt: skip
        return gradient, *self._found


class ActorKernels:
    """What RLPD asks its critics about a Gaussian policy; weights of either are one vector.

    Args:
        smallest, entropy: see `inril_core.finetune.direct.Value`.
    """

    def __init__(
        self, found: ctypes.CDLL, policy: Gaussian, regression: RegressionKernel, smallest: bool, entropy: bool
    ) -> None:
        self._value, self._targets = found.inril_value, found.inril_targets
        self._policy, self._critics = _gaussian(found, policy), regression.critics
        self._members, self._smallest, self._entropy = regression.members, smallest, entropy
        self._found = (ctypes.c_double * 3)()

    def targets(
        self,
        weights: Tensor,
        critics: Tensor,
        drawn: Tensor | None,
        batch: Batch,
        noise: Tensor,
        temperature: float,
        bounds: tuple[float, float] | None,
    ) -> Tensor:
        """See `Rlpd.targets`, ``[B]``.

        Args:
            drawn: the critics that are asked; None: all. noise: ``[B, A]``.
            temperature: of the entropy in the target; 0: none. bounds: what the targets are clipped to.
        """
        following, noise = usable(batch.next_observations), usable(noise)
        rows = following.shape[0]
        y = torch.empty(rows)
        low, high = bounds or (-math.inf, math.inf)
        self._targets(
            self._policy.address, weights.data_ptr(), self._critics.address, critics.data_ptr(),
            None if drawn is None else drawn.data_ptr(), self._members if drawn is None else drawn.shape[0],
            following.data_ptr(), following.stride(0), noise.data_ptr(), rows, batch.rewards.data_ptr(),
            batch.rewards.stride(0), batch.discounts.data_ptr(), batch.discounts.stride(0), temperature, low, high,
            y.data_ptr(),
        )  # fmt: skip
        return y

    def gradient(
        self,
        weights: Tensor,
        critics: Tensor,
        inputs: Tensor,
        replayed: Tensor,
        noise: Tensor,
        temperature: float,
        weight: float,
    ) -> tuple[Tensor, float, float, float]:
        """See `inril_core.finetune.direct.Value.gradient`; ``weight`` 0: no behaviour regularisation."""
        inputs, replayed, noise = usable(inputs), usable(replayed), usable(noise)
        gradient = torch.empty_like(weights)
        self._value(
            self._policy.address, weights.data_ptr(), self._critics.address, critics.data_ptr(), inputs.data_ptr(),
            inputs.stride(0), replayed.data_ptr(), replayed.stride(0), noise.data_ptr(), inputs.shape[0],
            self._smallest, self._entropy, weight > 0.0, temperature, weight, gradient.data_ptr(), self._found,
        )  # fmt: skip
        return gradient, *self._found
