"""What a task brings besides its contract: observation features, success rule, scene and scripted expert."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from inril_core.contract.definitions.physics import Physics
from inril_core.errors import ConfigError
from inril_core.plugins import Kind
from inril_core.settings import Settings

Features = Callable[[np.ndarray, np.ndarray, float, Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
"""(tool_pose float64[7], tool_twist float64[6], gripper_width_m, parts {name: float64[7]}) to named observation fields.

Poses are m and xyzw, twists m/s and rad/s, base frame. MUST have no memory, raise KeyError for a part that is missing
and ValueError for what has no meaning.
"""

Progress = Callable[[Mapping[str, np.ndarray]], np.ndarray]
"""Observation fields {name: float64[T, size]} to how far the task is at each row, float64[T] in [0, 1]. MUST have no
memory, and raise KeyError for a field that is missing."""

KIND = Kind("definitions", "inril_core.contract.definitions", "DEFINITION")


class PartNoise(Settings):
    """How a tracker differs from the truth. The default is a perfect one."""

    position_m: float = Field(0.0, ge=0.0, le=0.1)
    """Standard deviation of each coordinate, independent between parts and images."""
    rotation_rad: float = Field(0.0, ge=0.0, le=0.5)
    """Standard deviation of each component of a rotation vector, in the part's frame."""
    delay_s: float = Field(0.0, ge=0.0, le=1.0)
    """From the exposure of the image to the pose. Stamps are the time of exposure."""
    dropout: float = Field(0.0, ge=0.0, le=0.95)
    """Probability that an image gives no pose, of any part."""
    rate_hz: float | None = Field(None, ge=1.0, le=1000.0)
    """Of the images; None: one in a control period."""
    smoothing_s: float = Field(0.0, ge=0.0, le=10.0)
    """Time constant of the low-pass filter that the poses pass, as in `inril_core.parts.PartTracker`; 0: none."""


class CellSettings(Settings):
    """What every simulated cell may be told in the contract's section ``sim``; a task's own settings extend it."""

    part_noise: PartNoise | None = None
    """How a tracker sees the parts; None: a perfect one."""
    physics: Physics | None = None
    """Of the arm, and where the cameras stand, drawn per episode; None: as the model has it."""

    @model_serializer(mode="wrap")
    def _without_what_is_not_set(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = serialise(self)
        for name in CellSettings.model_fields:  # digests of contracts that do not name it stay
            if getattr(self, name) is None:
                values.pop(name, None)
        return values


@dataclass(frozen=True)
class TaskDefinition:
    """One task. A contract names it in ``definition`` (``module:attribute``, an entry point ``inril.definitions``, or
    a file here); without, its ``task`` is the name.

    A task without a success rule is judged by people; one without a scene runs on hardware only.
    """

    features: Features
    """From measurements to the observation fields that the contract may list."""
    success: type[Settings] | None = None
    """What the contract's section ``success`` holds."""
    sim: type[Settings] | None = None
    """What the contract's section ``sim`` holds: how the scene is made and where episodes start."""
    scene: str = ""
    """The scene of the simulated cell: a file of `inril_core.sim.scenes`, entry point ``inril.scenes`` or
    ``module:class`` of an `inril_core.sim.scenes.base.Scene`; empty: none."""
    expert: str = ""
    """Who can do it: a file of `inril_core.experts.scripted`, entry point ``inril.experts`` or ``module:class`` of an
    `inril_core.experts.scripted.base.ScriptedExpert`; empty: nobody."""
    progress: Progress | None = None
    """How far a trial came that did not succeed, for the report of an evaluation; None: nobody can tell."""
    expert_noise: float = 0.0
    """Standard deviation of the noise on each action with which the expert demonstrates."""


def find_definition(name: str) -> TaskDefinition:
    """The definition called ``name``.

    Raises:
        ConfigError: there is none, or it cannot be imported.
    """
    found = KIND.find(name, "definition")
    if not isinstance(found, TaskDefinition):
        raise ConfigError(
            f"definition = {name!r}: must be an inril_core.contract.definitions.TaskDefinition, "
            f"this is of type {type(found).__name__}"
        )
    return found
