"""How near the arm's bodies are to one another and to boxes, and what a motion of the joints changes of it (coal).

Two bodies at a distance d, nearest at the points p and q, with the unit vector n from p to q, come nearer by

    d' = n . (J_q - J_p) joints'

J being the Jacobian of the body's point. A row of `inril_core.safety.nearest` bounds it, so that the arm slides along
what is near; bodies are convex, so that the row holds for small steps, and the distance after a step is looked at too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from inril_core.contract.limits import CollisionLimits
from inril_core.errors import ConfigError, missing_package
from inril_core.safety.nearest import Row

REACH_M = 0.15
"""Bodies further apart than this and the limit cannot meet within one step: no row is made of them."""

SLACK = 0.9
"""Share of the least distance that is kept exactly; the row, which is exact for small steps only, keeps all of it."""

APPROACH = 0.5
"""Of what is left of the distance, so much may be lost in one step: directions change on the way."""

_POSTURES = 200
"""Pairs that are too near in all of so many random postures are built that way, and are left out."""


class Bodies:
    """The shapes of a URDF's links, and boxes around the arm.

    A link's `collision` shapes count; where no link has any, its `visual` ones. Links that share a joint or are
    neighbours are never compared.

    pin: the module pinocchio. whole: model of the URDF. locked: joints of it that are not the arm's, and stand still.

    Raises:
        ConfigError: coal is missing, a shape cannot be read, there is none, or an ignored link is none.
    """

    def __init__(self, pin: Any, whole: Any, urdf: str, locked: list[int], wanted: CollisionLimits) -> None:
        try:
            import coal
        except ImportError as error:
            raise missing_package("limits.joints.collision needs coal of pinocchio", "joints", error) from error
        kind = pin.GeometryType.COLLISION if "<collision" in urdf else pin.GeometryType.VISUAL
        try:
            shapes = pin.buildGeomFromUrdfString(whole, urdf, kind)
            self._model, (self._shapes,) = pin.buildReducedModel(whole, [shapes], locked, pin.neutral(whole))
        except (ValueError, RuntimeError) as error:
            raise ConfigError(
                f"limits.joints.urdf: its shapes cannot be read ({error}); give one whose collision shapes are boxes, "
                "cylinders and spheres"
            ) from error
        if not self._shapes.ngeoms:
            raise ConfigError("limits.joints.urdf: no link has a shape; give one with collision shapes")
        self._pin, self._wanted = pin, wanted
        self._links = [str(self._model.frames[shape.parentFrame].name) for shape in self._shapes.geometryObjects]
        named = {link for pair in wanted.ignored_links for link in pair}
        if unknown := sorted(named - set(self._links)):
            known = ", ".join(dict.fromkeys(self._links))
            raise ConfigError(f"limits.joints.collision.ignored_links: {unknown} have no shape; there are {known}")
        self._joints = [int(shape.parentJoint) for shape in self._shapes.geometryObjects]
        self._names: list[str] = []
        if wanted.self_collision:
            self._add_own_pairs(pin)
        self._add_boxes(pin, coal)
        self._data = self._model.createData()
        self._found = self._shapes.createData()

    def _add_own_pairs(self, pin: Any) -> None:
        ignored = {frozenset(pair) for pair in self._wanted.ignored_links}
        for one in range(len(self._joints)):
            for other in range(one + 1, len(self._joints)):
                apart = abs(self._joints[one] - self._joints[other]) > 1
                if apart and frozenset((self._links[one], self._links[other])) not in ignored:
                    self._shapes.addCollisionPair(pin.CollisionPair(one, other))
        self._leave_out_what_is_always_near(pin)
        for pair in self._shapes.collisionPairs:
            self._names.append(f"self_collision:{self._links[pair.first]}-{self._links[pair.second]}")

    def _leave_out_what_is_always_near(self, pin: Any) -> None:
        """A property of two links, not of a pair of their shapes, of which one may be near in another posture."""
        pairs = [(pair.first, pair.second) for pair in self._shapes.collisionPairs]
        data, found = self._model.createData(), self._shapes.createData()
        rng, low, high = np.random.default_rng(0), self._model.lowerPositionLimit, self._model.upperPositionLimit
        low, high = np.maximum(low, -np.pi), np.minimum(high, np.pi)
        furthest: dict[frozenset[str], float] = {}
        for _ in range(_POSTURES):
            pin.computeDistances(self._model, data, self._shapes, found, rng.uniform(low, high))
            nearest: dict[frozenset[str], float] = {}
            for (one, other), result in zip(pairs, found.distanceResults, strict=True):
                links = frozenset((self._links[one], self._links[other]))
                nearest[links] = min(result.min_distance, nearest.get(links, np.inf))
            furthest = {links: max(near, furthest.get(links, -np.inf)) for links, near in nearest.items()}
        for one, other in pairs:
            if furthest[frozenset((self._links[one], self._links[other]))] < self._wanted.min_distance_m:
                self._shapes.removeCollisionPair(pin.CollisionPair(one, other))

    def _add_boxes(self, pin: Any, coal: Any) -> None:
        """Of the base frame; links that no joint of the arm moves are not compared with them."""
        for box in self._wanted.boxes:
            place = pin.SE3(np.array(box.axes).T, np.array(box.center_m))
            shape = pin.GeometryObject(box.name, 0, 0, place, coal.Box(*box.size_m))
            number = self._shapes.addGeometryObject(shape)
            for link, joint in enumerate(self._joints):
                if joint > 0:
                    self._shapes.addCollisionPair(pin.CollisionPair(link, number))
                    self._names.append(f"collision:{box.name}")

    def distances(self, joints: np.ndarray) -> np.ndarray:
        """Of all pairs, m; below 0: they are in one another by so much."""
        self._pin.computeDistances(self._model, self._data, self._shapes, self._found, joints)
        return np.array([result.min_distance for result in self._found.distanceResults])

    def rows(self, joints: np.ndarray, inverse: np.ndarray) -> Iterator[Row]:
        """Rows on a step of the tool (6, m and rad) whose motion of the joints is ``inverse`` (joints, 6) times it."""
        distances = self.distances(joints)
        close = np.flatnonzero(distances < self._wanted.min_distance_m + REACH_M)
        if not len(close):
            return
        self._pin.computeJointJacobians(self._model, self._data, joints)
        for number in close.tolist():
            pair, result = self._shapes.collisionPairs[number], self._found.distanceResults[number]
            normal = np.asarray(result.normal)
            if not np.isfinite(normal).all() or not normal.any():
                continue  # the middles of two shapes coincide: the look at the distance after the step remains
            nearing = normal @ (
                self._moved(pair.first, result.getNearestPoint1()) - self._moved(pair.second, result.getNearestPoint2())
            )
            left_m = float(distances[number]) - self._wanted.min_distance_m
            yield Row(self._names[number], tuple((nearing @ inverse).tolist()), max(APPROACH * left_m, 0.0))

    def are_nearer_after(self, joints: np.ndarray, after: np.ndarray) -> bool:
        """Some pair is then nearer than allowed, with the slack, and than before."""
        least = np.minimum(SLACK * self._wanted.min_distance_m, self.distances(joints))
        return bool((self.distances(after) < least - 1e-9).any())

    def _moved(self, shape: int, point: np.ndarray) -> np.ndarray:
        """Jacobian (3, joints) of a point that is fixed to a shape."""
        joint = self._shapes.geometryObjects[shape].parentJoint
        if joint == 0:
            return np.zeros((3, self._model.nv))
        axes = self._pin.ReferenceFrame.LOCAL_WORLD_ALIGNED
        jacobian = self._pin.getJointJacobian(self._model, self._data, joint, axes)
        arm = np.asarray(point) - self._data.oMi[joint].translation
        return np.asarray(jacobian[:3] + np.cross(jacobian[3:], arm, axisa=0, axisc=0))
