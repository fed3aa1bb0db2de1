"""What the arbiter allows: the contract's section `limits`."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from inril_core.contract.fields import Frozen, Metres, Name, Point
from inril_core.transforms import quat_problem

Violation = Literal["clip", "stop"]
LimitName = Literal[
    "position_box",
    "translation_step",
    "rotation_step",
    "tilt",
    "floor",
    "keep_in",
    "keep_out",
    "speed",
    "turn_speed",
    "acceleration",
    "turn_acceleration",
    "joint_position",
    "joint_speed",
    "manipulability",
    "self_collision",
    "collision",
]
ALWAYS_SET = ("position_box", "translation_step", "rotation_step", "tilt")
SECTIONS = ("space", "motion", "joints", "wrench")
Plane = tuple[float, float, float, float]
"""(x, y, z, d): a unit normal that points out of the region, and d in m; inside is ``x px + y py + z pz <= d``."""

FLAT_M = 1e-4
"""A body thinner than this is none."""


class Region(Frozen):
    """A convex body that the tool does not leave."""

    name: Name
    """In an executed action's limits: ``keep_in:NAME``."""
    corners_m: Annotated[tuple[Point, ...], Field(min_length=4, max_length=256)]
    """Points of the base frame, in any order; the region is their convex hull."""

    @cached_property
    def planes(self) -> tuple[Plane, ...]:
        """Its faces, each once.

        Raises:
            ValueError: the corners lie in a plane.
        """
        from scipy.spatial import ConvexHull, QhullError  # late: few contracts have regions, and it takes 0.2 s

        try:
            hull = ConvexHull(self.corners_m)
        except QhullError as error:
            raise ValueError(f"keep_in {self.name}: its corners lie in one plane; give a body") from error
        found: list[Plane] = []
        for x, y, z, offset in hull.equations.tolist():
            plane = (x, y, z, -offset)
            if all(math.dist(plane, other) > FLAT_M for other in found):
                found.append(plane)
        return tuple(found)

    @model_validator(mode="after")
    def _is_a_body(self) -> Region:
        for x, y, z, d in self.planes:
            if max(d - x * p[0] - y * p[1] - z * p[2] for p in self.corners_m) < FLAT_M:
                raise ValueError(f"keep_in {self.name}: its corners lie in one plane; give a body")
        return self


class KeepOutBox(Frozen):
    """A box that the tool does not enter."""

    name: Name
    """In an executed action's limits: ``keep_out:NAME``."""
    center_m: Point
    """Base frame."""
    size_m: tuple[Annotated[float, Field(gt=0.0, le=10.0)], ...]
    """Three whole edge lengths, along the box's own axes."""
    quat_xyzw: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 1.0)
    """Of the box in the base frame."""

    @model_validator(mode="after")
    def _is_a_box(self) -> KeepOutBox:
        if len(self.size_m) != 3:
            raise ValueError(f"keep_out {self.name}: size_m has {len(self.size_m)} numbers; give three edge lengths")
        if problem := quat_problem(self.quat_xyzw, 1e-3):
            raise ValueError(f"keep_out {self.name}: {problem}; give a unit quaternion")
        return self

    @cached_property
    def axes(self) -> tuple[tuple[float, float, float], ...]:
        """The box's x, y and z axis: unit vectors of the base frame."""
        norm = math.hypot(*self.quat_xyzw)
        x, y, z, w = (part / norm for part in self.quat_xyzw)
        return (
            (1 - 2 * (y * y + z * z), 2 * (x * y + z * w), 2 * (x * z - y * w)),
            (2 * (x * y - z * w), 1 - 2 * (x * x + z * z), 2 * (y * z + x * w)),
            (2 * (x * z + y * w), 2 * (y * z - x * w), 1 - 2 * (x * x + y * y)),
        )


class SpaceLimits(Frozen):
    """Where a ball around the tool point may be, besides the position box, which bounds the point itself."""

    tool_radius_m: Annotated[float, Field(ge=0.0, le=0.5)]
    """Of a ball around the tool point that holds what the gripper and its load take up. 0.0: the point alone."""
    floor_m: Metres | None = None
    """Height of the table in the base frame; the ball stays above it. 0.0 is a floor at that height; null: there is
    none."""
    keep_in: tuple[Region, ...] = ()
    """The ball stays within every one of them."""
    keep_out: tuple[KeepOutBox, ...] = ()
    """The ball stays out of every one of them."""

    @model_validator(mode="after")
    def _says_something(self) -> SpaceLimits:
        if self.floor_m is None and not self.keep_in and not self.keep_out:
            raise ValueError("space has neither floor_m nor keep_in nor keep_out; give one, or remove it")
        names = [body.name for body in self.keep_in] + [body.name for body in self.keep_out]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"keep_in and keep_out name {twice} twice; names must be unique")
        return self

    @cached_property
    def walls(self) -> tuple[tuple[str, Plane], ...]:
        """The planes behind which the tool point stays, shifted by the radius, with the limit's name each."""
        radius = self.tool_radius_m
        floor = () if self.floor_m is None else (("floor", (0.0, 0.0, -1.0, -self.floor_m - radius)),)
        faces = ((f"keep_in:{body.name}", (x, y, z, d - radius)) for body in self.keep_in for x, y, z, d in body.planes)
        return (*floor, *faces)


class MotionLimits(Frozen):
    """How fast the commanded pose moves. A Target is where the tool is at the end of one control period, so that a step
    times `control_rate_hz` is a speed, and the change of a step times its square an acceleration.

    Standing still is always allowed: a hold is the last Target once more, and the arm's own interpolation brakes.
    """

    max_speed_mps: Annotated[float | None, Field(gt=0.0, le=3.0)] = None
    """null: `max_translation_step_m` alone bounds it."""
    max_turn_radps: Annotated[float | None, Field(gt=0.0, le=20.0)] = None
    """null: `max_rotation_step_rad` alone bounds it."""
    max_acceleration_mps2: Annotated[float | None, Field(gt=0.0, le=100.0)] = None
    """Of the tool point. With it the tool slows down before a wall instead of at it. null: not bounded here."""
    max_turn_acceleration_radps2: Annotated[float | None, Field(gt=0.0, le=1000.0)] = None
    """null: not bounded here."""

    @model_validator(mode="after")
    def _says_something(self) -> MotionLimits:
        if all(value is None for _, value in self):
            raise ValueError(f"motion has no limit; give one of {sorted(type(self).model_fields)}, or remove it")
        return self


class CollisionLimits(Frozen):
    """How near the arm's own bodies come to one another and to boxes. The bodies are the shapes of the URDF.

    As `JointLimits`: by predicted joints. What is nearer already, because the arm was started or pushed there, may only
    part. Links that are nearer in every posture are left out. No shape is known of what the gripper holds.
    """

    min_distance_m: Annotated[float, Field(gt=0.0, le=0.5)] = 0.02
    """Between two bodies; within one step up to a tenth less, where they turn around one another."""
    self_collision: bool = True
    """Also between links of the arm that are no neighbours. In an executed action's limits:
    ``self_collision:LINK-LINK``."""
    boxes: Annotated[tuple[KeepOutBox, ...], Field(max_length=32)] = ()
    """What stands around the arm; its gripper, too, keeps off. In an executed action's limits: ``collision:NAME``."""
    ignored_links: tuple[tuple[str, str], ...] = ()
    """Pairs of links that are not compared."""

    @model_validator(mode="after")
    def _says_something(self) -> CollisionLimits:
        if not self.self_collision and not self.boxes:
            raise ValueError("collision has neither self_collision nor boxes; give one, or remove it")
        names = [box.name for box in self.boxes]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"collision.boxes names {twice} twice; names must be unique")
        return self


class JointLimits(Frozen):
    """Margins to the joints' ranges and speeds that the section `monitor` gives, kept by commanded motion.

    The motion of the joints is predicted with the pseudo-inverse of the Jacobian at the measured joint positions; how a
    redundant arm's controller moves its elbow is not known here. Without measured joints, or where they do not fit the
    measured tool pose, nothing moves.
    """

    urdf: str
    """Path of the arm's URDF; empty: the Panda that comes with inril. Its hinges up to `tool_link` are, in order, the
    joints that the arm measures; its root is the contract's `base_frame`."""
    tool_link: str = "tool"
    """Link of the URDF whose pose is the measured tool pose."""
    position_margin_rad: Annotated[float, Field(ge=0.0, le=1.0)] = 0.05
    """The joints stay this far within the monitor's range."""
    speed_share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.8
    """The joints stay below this share of the monitor's speeds."""
    min_manipulability: Annotated[float | None, Field(gt=0.0, le=100.0)] = None
    """Of ``sqrt(det(J J^T))`` (Yoshikawa 1985), J (6, joints) in m and rad per rad; a Panda has about 0.1 in the middle
    of its range and 0 where it is singular. null: not bounded."""
    collision: CollisionLimits | None = None
    """null: not looked at."""


class WrenchLimits(Frozen):
    """External load on the tool, as the arm measures it. Beyond it a fault is latched: hold until a person arms.

    Arming is not refused because of the load: commanding then begins at the measured pose, which ends the pressing.
    An arm that measures no wrench is not armed.
    """

    max_force_n: Annotated[float | None, Field(gt=0.0, le=10_000.0)] = None
    """Length of the force. null: not bounded."""
    max_torque_nm: Annotated[float | None, Field(gt=0.0, le=10_000.0)] = None
    """Length of the torque. null: not bounded."""

    @model_validator(mode="after")
    def _says_something(self) -> WrenchLimits:
        if self.max_force_n is None and self.max_torque_nm is None:
            raise ValueError("wrench has neither max_force_n nor max_torque_nm; give one, or remove it")
        return self


class Limits(Frozen):
    """What the arbiter allows, after the choice between human and policy."""

    position_min_m: Point
    """With `position_max_m`: box of the tool point, base frame."""
    position_max_m: Point
    max_translation_step_m: Annotated[float, Field(ge=0.0, le=0.1)]
    """From one commanded pose to the next."""
    max_rotation_step_rad: Annotated[float, Field(ge=0.0, le=0.5)]
    """Likewise."""
    max_tilt_rad: Annotated[float, Field(ge=0.0, le=3.2)]
    """Angle between the tool's z axis and straight down."""
    on_violation: dict[LimitName, Violation]
    """`clip` names the limit on the step and executes the nearest allowed motion, `stop` latches a fault. The first
    four must be given; any other clips where it is not."""
    space: SpaceLimits | None = None
    """null, as for the sections below: no such limit."""
    motion: MotionLimits | None = None
    joints: JointLimits | None = None
    wrench: WrenchLimits | None = None

    @model_validator(mode="after")
    def _complete(self) -> Limits:
        for axis, low, high in zip("xyz", self.position_min_m, self.position_max_m, strict=True):
            if not low < high:
                raise ValueError(
                    f"position_min_m.{axis} = {low} is not below position_max_m.{axis} = {high}; swap them"
                )
        missing = set(ALWAYS_SET) - set(self.on_violation)
        if missing:
            raise ValueError(f"on_violation lacks {sorted(missing)}; give each `clip` or `stop`")
        if self.space is not None:
            self._has_room(self.space)
        return self

    def _has_room(self, space: SpaceLimits) -> None:
        """The box and all walls together leave some place for the tool."""
        from scipy.optimize import linprog  # late, as `Region.planes`

        rows = [[*plane[:3], 1.0] for _, plane in space.walls]
        if not rows:
            return
        box = [*zip(self.position_min_m, self.position_max_m, strict=True), (0.0, 1.0)]
        room = linprog([0.0, 0.0, 0.0, -1.0], A_ub=rows, b_ub=[plane[3] for _, plane in space.walls], bounds=box)
        if room.status != 0 or room.x[3] < FLAT_M:
            raise ValueError(
                "space: floor and keep_in leave the tool, with its radius, no place in the position box; enlarge them"
            )

    @model_serializer(mode="wrap")
    def _without_what_is_not_limited(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A contract says, and its digest tells, of the sections that it has."""
        whole: dict[str, Any] = handler(self)
        return {key: value for key, value in whole.items() if key not in SECTIONS or value is not None}
