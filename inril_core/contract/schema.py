"""The contract's fields, with units and bounds."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import (
    Field,
    SerializeAsAny,
    ValidationInfo,
    field_validator,
    model_validator,
)

from inril_core.contract.definitions import TaskDefinition, find_definition
from inril_core.contract.fields import Frozen, Name
from inril_core.contract.limits import Limits
from inril_core.errors import ConfigError
from inril_core.settings import Settings

PositiveSeconds = Annotated[float, Field(gt=0.0, le=60.0, allow_inf_nan=False)]
Joint = Annotated[float, Field(ge=-1000.0, le=1000.0, allow_inf_nan=False)]
ARM_JOINTS = 7
Purpose = Literal["demo", "train", "eval"]
Frame = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+(/[A-Za-z0-9_]+)*$", max_length=64)]


class ImageShape(NamedTuple):
    """An image of an observation: uint8[height_px, width_px, 3]."""

    name: str
    height_px: int
    width_px: int

    @property
    def size(self) -> int:
        """Numbers in the image."""
        return 3 * self.height_px * self.width_px


class ObservationField(Frozen):
    """One part of the state vector."""

    name: Name
    shape: tuple[Annotated[int, Field(ge=1, le=4096)], ...]
    """Flattened row by row."""
    unit: str
    frame: str

    @property
    def size(self) -> int:
        """Number of floats in the vector."""
        return int(np.prod(self.shape))


class ImageField(Frozen):
    """One camera image of an Observation."""

    name: Name
    camera: Name
    width_px: Annotated[int, Field(ge=8, le=4096)]
    height_px: Annotated[int, Field(ge=8, le=4096)]
    crop_px: tuple[int, int, int, int] | None = None
    """(left, top, width, height) in the camera's own pixels, before resizing; None keeps all."""
    required: bool = False
    """A policy reads it, so every Observation of a running episode carries it."""
    recorded_in: tuple[Purpose, ...] = ("demo", "eval")
    """Purposes in which it is carried although no policy reads it."""

    def due(self, purpose: str) -> bool:
        """Whether an Observation of an episode with this purpose carries the image."""
        return self.required or purpose in self.recorded_in


class _DeltaAction(Frozen):
    translation_scale_m: Annotated[float, Field(gt=0.0, le=0.1)]
    """What 1 means in each of the three translations."""
    rotation_scale_rad: Annotated[float, Field(gt=0.0, le=0.5)]
    """What 1 means in each component of the rotation vector."""
    delta_reference: Literal["measured", "commanded"]
    """`commanded` adds to the last commanded pose, which is kept within the wind-up bounds of the measured one;
    `measured` adds to the measured pose."""
    windup_translation_m: Annotated[float, Field(gt=0.0, le=0.2)]
    windup_rotation_rad: Annotated[float, Field(gt=0.0, le=1.0)]


class DeltaPose(_DeltaAction):
    """A delta of the tool pose in the base frame, each of six numbers in [-1, 1] times its scale.

    Order: x, y, z translation, then a rotation vector x, y, z applied on the left.
    """

    kind: Literal["delta_pose"]
    gripper_width_m: Annotated[float, Field(ge=0.0, le=0.2)]
    """The gripper keeps this width during an episode."""

    @property
    def size(self) -> int:
        """Numbers in an action."""
        return 6


class DeltaPoseGripper(_DeltaAction):
    """As `DeltaPose`, and a seventh number for the gripper: 1 closes it, -1 opens it, linear in between."""

    kind: Literal["delta_pose_gripper"]
    gripper_open_m: Annotated[float, Field(gt=0.0, le=0.2)]
    """The width asked for at -1. At 1 it is zero, so that the gripper grasps what is there."""

    @property
    def size(self) -> int:
        """Numbers in an action."""
        return 7


ActionSpec = Annotated[DeltaPose | DeltaPoseGripper, Field(discriminator="kind")]


class Monitor(Frozen):
    """What `safety_monitor` lets the arm do, as measured. Beyond any of it the arm stops, whoever commands it.

    The defaults are for the Franka family: the wider of Panda's and Research 3's joint ranges, and the latter's speeds.
    """

    position_margin_m: Annotated[float, Field(ge=0.0, le=0.5)] = 0.05
    """The measured tool may be this far outside the position box: an arm overshoots, and is pushed."""
    max_tool_speed_mps: Annotated[float, Field(gt=0.0, le=3.0)] = 1.0
    max_tool_turn_radps: Annotated[float, Field(gt=0.0, le=20.0)] = 4.0
    joint_position_min_rad: tuple[Joint, ...] = (-2.95, -1.84, -2.95, -3.12, -2.95, -0.07, -3.07)
    joint_position_max_rad: tuple[Joint, ...] = (2.95, 1.84, 2.95, -0.02, 2.95, 4.62, 3.07)
    max_joint_speed_radps: tuple[Joint, ...] = (2.62, 2.62, 2.62, 2.62, 5.26, 4.18, 5.26)
    max_joint_torque_nm: tuple[Joint, ...] | None = (87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0)
    """null: the arm measures no torques, and nothing bounds them here."""
    cool_down_s: PositiveSeconds = 2.0
    """After a stop the arm must have been within all limits for so long before a person can arm it."""

    @model_validator(mode="after")
    def _fits(self) -> Monitor:
        joints = {len(values) for _, values in self if isinstance(values, tuple)}
        if joints != {ARM_JOINTS}:
            raise ValueError(f"the joint limits have {sorted(joints)} numbers; give each {ARM_JOINTS}, one per joint")
        pairs = zip(self.joint_position_min_rad, self.joint_position_max_rad, strict=True)
        for joint, (low, high) in enumerate(pairs, start=1):
            if not low < high:
                raise ValueError(f"joint_position_min_rad of joint {joint} = {low} is not below {high}; swap them")
        if min(self.max_joint_speed_radps) <= 0.0 or min(self.max_joint_torque_nm or (1.0,)) <= 0.0:
            raise ValueError("max_joint_speed_radps and max_joint_torque_nm must be above 0")
        return self


class Staleness(Frozen):
    """Largest age of each link's data, in seconds, before control stops."""

    robot_state_s: PositiveSeconds
    part_poses_s: PositiveSeconds
    camera_s: PositiveSeconds
    policy_action_s: PositiveSeconds
    teleop_s: PositiveSeconds
    target_s: PositiveSeconds
    monitor_s: PositiveSeconds = 0.3
    """Of the permit by `safety_monitor`, on the monotonic clock; an arm follows nothing without one."""
    recorder_s: PositiveSeconds
    session_s: PositiveSeconds
    learner_s: PositiveSeconds


class CalibrationNeed(Frozen):
    """A stored calibration without which a run of this contract does not start."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")]
    """Of the calibration and its file: ``T_base_front``, ``intrinsics_front``."""
    max_age_days: Annotated[float, Field(gt=0.0, le=3650.0)] = 90.0
    board: str | None = None
    """Board or layout of tags it must have been made with; None: any."""


UNION_TAGS = {"delta_pose", "delta_pose_gripper"}


class Contract(Frozen):
    """Everything that demonstrations, policies, weights and the graph must agree on."""

    schema_version: Literal[1]
    task: Name
    definition: Annotated[str | None, Field(validate_default=True)] = None
    """Name of the `TaskDefinition`, whose settings the sections ``success`` and ``sim`` hold; None: ``task``."""
    description: str
    base_frame: Frame = "base"
    """`frame_id` of every pose in the graph; the arbiter refuses what says another one."""
    control_rate_hz: Annotated[float, Field(gt=0.0, le=100.0)]
    episode_length_steps: Annotated[int, Field(ge=1, le=100_000)]
    observation: Annotated[tuple[ObservationField, ...], Field(min_length=1)]
    images: tuple[ImageField, ...] = ()
    action: ActionSpec
    limits: Limits
    monitor: Monitor = Monitor()
    staleness: Staleness
    success: Annotated[SerializeAsAny[Settings] | None, Field(validate_default=True)] = None
    calibration: tuple[CalibrationNeed, ...] = ()
    sim: SerializeAsAny[Settings] | None = None

    @field_validator("definition")
    @classmethod
    def _is_defined(cls, name: str | None, info: ValidationInfo) -> str | None:
        if "task" in info.data:
            try:
                find_definition(name or info.data["task"])
            except ConfigError as error:
                raise ValueError(f"{error}. Without a definition a contract's task is its name") from error
        return name

    @field_validator("success", "sim", mode="wrap")
    @classmethod
    def _as_defined(cls, given: Any, handler: Any, info: ValidationInfo) -> Settings | None:
        if "task" not in info.data or "definition" not in info.data:
            return None  # they are wrong themselves, and told
        name = info.data["definition"] or info.data["task"]
        definition = find_definition(name)
        settings = definition.success if info.field_name == "success" else definition.sim
        if given is None:
            if info.field_name == "success" and settings is not None:
                raise ValueError(f"is missing: {name} has a success rule; give {sorted(settings.model_fields)}")
            return None
        if settings is None:
            raise ValueError(f"{name} has none; remove it")
        return settings.model_validate(given)

    @model_validator(mode="after")
    def _unique_names(self) -> Contract:
        for kind, names in (
            ("observation", [field.name for field in self.observation]),
            ("images", [image.name for image in self.images]),
            ("calibration", [need.name for need in self.calibration]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{kind} names {twice} twice; names must be unique")
        return self

    @cached_property
    def task_definition(self) -> TaskDefinition:
        """What the task brings besides this contract."""
        return find_definition(self.definition or self.task)

    @property
    def period_ns(self) -> int:
        """Length of a control period."""
        return round(1e9 / self.control_rate_hz)

    @cached_property
    def state_size(self) -> int:
        """Length of the state vector."""
        return sum(field.size for field in self.observation)

    @cached_property
    def image_shapes(self) -> tuple[ImageShape, ...]:
        """The images that a policy reads, in the order in which they follow the state vector."""
        return tuple(ImageShape(i.name, i.height_px, i.width_px) for i in self.images if i.required)

    @cached_property
    def observation_size(self) -> int:
        """Length of the observation vector: the state vector, and the pixels of the required images."""
        return self.state_size + sum(shape.size for shape in self.image_shapes)

    @property
    def action_size(self) -> int:
        """Length of the action."""
        return self.action.size

    @cached_property
    def links(self) -> tuple[str, ...]:
        """Names of the links whose age an Observation carries, in order."""
        return ("robot_state", "part_poses", *(f"camera_{image.camera}" for image in self.images))

    def slices(self) -> dict[str, slice]:
        """Where each observation field lies in the state vector."""
        places: dict[str, slice] = {}
        start = 0
        for field in self.observation:
            places[field.name] = slice(start, start + field.size)
            start += field.size
        return places

    @cached_property
    def text(self) -> str:
        """Canonical JSON that travels with demonstrations, checkpoints and weights."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    @cached_property
    def interface_digest(self) -> str:
        """SHA-256 (hex) of what must match between demos, checkpoints, weights and graph."""
        return _digest(self._interface())

    @cached_property
    def deployment_digest(self) -> str:
        """SHA-256 (hex) of what may differ between deployments, but is recorded and shown."""
        whole = self.model_dump(mode="json")
        return _digest({key: value for key, value in whole.items() if key not in self._interface()})

    def _interface(self) -> dict[str, Any]:
        whole = self.model_dump(mode="json")
        images = [
            {key: image[key] for key in ("name", "camera", "width_px", "height_px", "crop_px", "required")}
            for image in whole["images"]
        ]
        keys = ("schema_version", "task", "control_rate_hz", "observation", "action")
        return {**{key: whole[key] for key in keys}, "images": images}

    def differences(self, other: Contract) -> list[str]:
        """Fields in which two contracts differ, as `field: this != other`."""
        return _differences("", self.model_dump(mode="json"), other.model_dump(mode="json"))


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _differences(path: str, left: Any, right: Any) -> list[str]:
    if isinstance(left, dict) and isinstance(right, dict):
        keys = sorted(set(left) | set(right))
        return [d for key in keys for d in _differences(f"{path}.{key}", left.get(key), right.get(key))]
    if isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        pairs = zip(left, right, strict=True)
        return [d for i, (a, b) in enumerate(pairs) for d in _differences(f"{path}[{i}]", a, b)]
    return [] if left == right else [f"{path.lstrip('.')}: {left!r} != {right!r}"]
