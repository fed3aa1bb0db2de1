"""What a simulated cell has that differs from robot to robot, drawn for each episode: its arm's physics, and where its
cameras stand."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, model_serializer

from inril_core.contract.fields import Name
from inril_core.settings import Settings


def _ascending(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"{list(bounds)}: the lower bound comes first")
    return bounds


Delay = Annotated[float, Field(ge=0.0, le=0.5)]
Friction = Annotated[float, Field(ge=0.0, le=50.0)]
Scale = Annotated[float, Field(ge=0.2, le=5.0)]
Shift = Annotated[float, Field(ge=-0.2, le=0.2)]
Turn = Annotated[float, Field(ge=-0.5, le=0.5)]
Shifts = Annotated[tuple[Shift, Shift], AfterValidator(_ascending)]
Turns = Annotated[tuple[Turn, Turn], AfterValidator(_ascending)]
_NONE = (0.0, 0.0)
_PHYSICS, _CAMERAS = 77, 78
"""First of a seed's sequence, so that start, physics and cameras of an episode are independent."""


class PhysicsValues(NamedTuple):
    """One draw."""

    action_delay_s: float = 0.0
    joint_friction_nm: float = 0.0
    gain_scale: float = 1.0


class CameraOffset(NamedTuple):
    """How a camera stands from where the model has it: ``T_model_camera``, in the model's optical frame of that camera
    (x right, y down, z forward, REP 103). For a camera on the arm this is as fixed to its link as the camera is."""

    offset_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rotation_rad: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Rotation vector."""


class CameraRanges(Settings):
    """Ranges [low, high] of the components of a `CameraOffset`, x, y, z."""

    offset_m: tuple[Shifts, Shifts, Shifts] = (_NONE, _NONE, _NONE)
    rotation_rad: tuple[Turns, Turns, Turns] = (_NONE, _NONE, _NONE)

    def draw(self, rng: np.random.Generator) -> CameraOffset:
        """Each component uniform and independent."""
        drawn = [float(rng.uniform(*bounds)) for bounds in (*self.offset_m, *self.rotation_rad)]
        return CameraOffset((drawn[0], drawn[1], drawn[2]), (drawn[3], drawn[4], drawn[5]))


class Physics(Settings):
    """Ranges [low, high] from which each episode draws uniformly, by its seed; equal bounds fix a value."""

    action_delay_s: Annotated[tuple[Delay, Delay], AfterValidator(_ascending)] = (0.0, 0.0)
    """From a Target to the arm's motors, in steps of the physics (4 ms)."""
    joint_friction_nm: Annotated[tuple[Friction, Friction], AfterValidator(_ascending)] = (0.0, 0.0)
    """Dry friction of each of the arm's joints."""
    gain_scale: Annotated[tuple[Scale, Scale], AfterValidator(_ascending)] = (1.0, 1.0)
    """Of the arm's position gains."""
    cameras: dict[Name, CameraRanges] = {}
    """How cameras of the cell stand from where its model has them; those that are not named stand there."""

    @model_serializer(mode="wrap")
    def _without_cameras_that_are_not_set(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = serialise(self)
        if not self.cameras:  # digests of contracts that name none stay
            values.pop("cameras", None)
        return values

    def draw(self, seed: int) -> PhysicsValues:
        """The arm's values of the episode with this seed."""
        rng = np.random.default_rng((_PHYSICS, seed))
        return PhysicsValues(*(float(rng.uniform(*getattr(self, name))) for name in PhysicsValues._fields))

    def draw_cameras(self, seed: int) -> dict[str, CameraOffset]:
        """Where the cameras of `cameras` stand in the episode with this seed. What one draws does not depend on which
        others there are."""
        return {
            name: ranges.draw(np.random.default_rng((_CAMERAS, seed, *name.encode())))
            for name, ranges in self.cameras.items()
        }

    @classmethod
    def fixed(cls, **values: float) -> Physics:
        """The same values of the arm in every episode.

        Raises:
            ValidationError: a value is unknown or out of its range.
        """
        bounds: dict[str, Any] = {name: (value, value) for name, value in values.items()}
        return cls(**bounds)
