"""What a simulated cell's arm has that differs from robot to robot, drawn for each episode."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import AfterValidator, Field

from inril_core.settings import Settings


def _ascending(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"{list(bounds)}: the lower bound comes first")
    return bounds


Delay = Annotated[float, Field(ge=0.0, le=0.5)]
Friction = Annotated[float, Field(ge=0.0, le=50.0)]
Scale = Annotated[float, Field(ge=0.2, le=5.0)]
_FIRST = 77
"""Of the seed's sequence, so that physics and start of an episode are independent."""


class PhysicsValues(NamedTuple):
    """One draw."""

    action_delay_s: float = 0.0
    joint_friction_nm: float = 0.0
    gain_scale: float = 1.0


class Physics(Settings):
    """Ranges [low, high] from which each episode draws uniformly, by its seed; equal bounds fix a value."""

    action_delay_s: Annotated[tuple[Delay, Delay], AfterValidator(_ascending)] = (0.0, 0.0)
    """From a Target to the arm's motors, in steps of the physics (4 ms)."""
    joint_friction_nm: Annotated[tuple[Friction, Friction], AfterValidator(_ascending)] = (0.0, 0.0)
    """Dry friction of each of the arm's joints."""
    gain_scale: Annotated[tuple[Scale, Scale], AfterValidator(_ascending)] = (1.0, 1.0)
    """Of the arm's position gains."""

    def draw(self, seed: int) -> PhysicsValues:
        """The values of the episode with this seed."""
        rng = np.random.default_rng((_FIRST, seed))
        return PhysicsValues(*(float(rng.uniform(*getattr(self, name))) for name in PhysicsValues._fields))

    @classmethod
    def fixed(cls, **values: float) -> Physics:
        """The same values in every episode.

        Raises:
            ValidationError: a value is unknown or out of its range.
        """
        bounds: dict[str, Any] = {name: (value, value) for name, value in values.items()}
        return cls(**bounds)
