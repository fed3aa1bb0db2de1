"""What a combination of RL and IL does with their gradients."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor

from inril_core.networks.flat import Adam, FlatParameters

GradientSource = Callable[[], tuple[Tensor, dict[str, float]]]
"""Computes a gradient ``[P]`` at the present parameters, with metrics; its buffer is reused by the next call."""


class Combiner(ABC):
    """Takes the actor's step of one RL update. Parameters are one flat vector.

    Metrics every combination logs where they exist: ``gradient_cosine`` (of the raw RL and IL gradients),
    ``norm_removed`` (share of the IL step's norm that the projection took), ``step_cosine`` (of the step
    really taken with the RL gradient; negative: the step undoes RL, to first order).
    """

    uses_rl = True

    def __init__(self, flat: FlatParameters) -> None:
        self.flat = flat
        self.adams: dict[str, Adam] = {}

    @abstractmethod
    def step(self, rl: GradientSource, il: GradientSource) -> dict[str, float]:
        """Change the actor; returns metrics. ``rl`` reads the minibatch of this RL update each time."""

    def end_update(self, rl: GradientSource, il: GradientSource) -> dict[str, float]:
        """After one whole RL update: an actor step with its critic steps, or a rollout with its epochs."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """Everything `load` needs, as tensors."""
        return {f"{name}.{key}": t for name, adam in self.adams.items() for key, t in adam.state().items()}

    def load(self, state: dict[str, Tensor]) -> None:
        """Continue from what `state` returned."""
        for name, adam in self.adams.items():
            adam.load({key: state[f"{name}.{key}"] for key in ("first", "second", "steps")})
