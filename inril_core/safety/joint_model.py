"""What a step of the tool asks of the joints, from the arm's URDF with pinocchio."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from inril_core.contract import Contract
from inril_core.errors import ConfigError, missing_package
from inril_core.safety.collision import Bodies
from inril_core.safety.nearest import Row, Vector6
from inril_core.transforms import Quaternion, Vector3, quat_difference, within_turn

DAMPING = 0.01
"""Of the pseudo-inverse: bounds the predicted joint motion where the arm is singular (Nakamura and Hanafusa 1986)."""

FITS_M = 0.01
FITS_RAD = 0.05
"""Measured tool pose and that of the measured joints may differ by so much; more is another URDF, link or base."""

APPROACH = 0.5
"""Manipulability may fall by this share of what is left of it in one step: its gradient holds for small steps."""

_DIFFERENCE_RAD = 1e-5


class JointSample(NamedTuple):
    """Measured joints and the tool pose of the same message."""

    position_rad: Sequence[float]
    tool_pose: Sequence[float]
    """7, m and xyzw, base frame."""
    stamp_ns: int


class JointModel:
    """The arm's joints as the contract's section `limits.joints` wants them.

    urdf: text of the URDF; its root is the contract's base frame.

    Raises:
        ConfigError: pinocchio is not installed, the URDF is none, has no such link, or has not the joints that the
            contract's `monitor` bounds.
    """

    def __init__(self, contract: Contract, urdf: str) -> None:
        wanted = contract.limits.joints
        if wanted is None:
            raise ConfigError("contract.limits.joints is not given: no joint is limited; give it, or no URDF")
        try:
            import pinocchio
        except ImportError as error:
            raise missing_package("limits.joints needs pinocchio", "joints", error) from error
        self._pin: Any = pinocchio
        try:
            whole = pinocchio.buildModelFromXML(urdf)
        except (ValueError, RuntimeError) as error:
            raise ConfigError(f"limits.joints.urdf: pinocchio cannot read it ({error}); give a URDF") from error
        if not whole.existFrame(wanted.tool_link):
            known = [frame.name for frame in whole.frames][1:]
            raise ConfigError(f"limits.joints.tool_link = {wanted.tool_link!r} is no link of the URDF: {known}")
        frame = whole.frames[whole.getFrameId(wanted.tool_link)]
        chain = list(whole.supports[frame.parentJoint])[1:]
        others = [joint for joint in range(1, whole.njoints) if joint not in chain]
        self._model = pinocchio.buildReducedModel(whole, others, pinocchio.neutral(whole))
        self._data = self._model.createData()
        self._frame = self._model.getFrameId(wanted.tool_link)
        monitor = contract.monitor
        size = len(monitor.joint_position_min_rad)
        if self._model.nq != size or self._model.nv != size:
            raise ConfigError(
                f"limits.joints: the URDF has {self._model.nv} joints up to {wanted.tool_link!r}, the contract's "
                f"monitor bounds {size}; give the arm's own URDF and link"
            )
        margin = wanted.position_margin_rad
        self._low_rad = np.array(monitor.joint_position_min_rad) + margin
        self._high_rad = np.array(monitor.joint_position_max_rad) - margin
        if not (self._low_rad < self._high_rad).all():
            raise ConfigError(f"limits.joints.position_margin_rad = {margin} leaves a joint no range; make it smaller")
        self._steps_rad = np.array(monitor.max_joint_speed_radps) * wanted.speed_share / contract.control_rate_hz
        self._rate_hz = contract.control_rate_hz
        self._min = wanted.min_manipulability
        collision = wanted.collision
        self._bodies = None if collision is None else Bodies(pinocchio, whole, urdf, others, collision)
        self.size = size

    def tool_pose(self, position_rad: Sequence[float]) -> tuple[Vector3, Quaternion]:
        """Of the joints: m, and xyzw."""
        self._pin.forwardKinematics(self._model, self._data, np.asarray(position_rad, float))
        self._pin.updateFramePlacement(self._model, self._data, self._frame)
        x, y, z, qx, qy, qz, qw = self._pin.SE3ToXYZQUAT(self._data.oMf[self._frame]).tolist()
        return (x, y, z), (qx, qy, qz, qw)

    def unusable(self, sample: JointSample) -> str | None:
        """Why measured joints cannot be used; None: they can."""
        joints = sample.position_rad
        if len(joints) != self.size or not all(map(math.isfinite, joints)):
            return f"the measured joint positions are {list(joints)}; {self.size} finite numbers are needed"
        position, quat = self.tool_pose(joints)
        apart_m = math.dist(position, sample.tool_pose[:3])
        if not (apart_m <= FITS_M and within_turn(quat, sample.tool_pose[3:], FITS_RAD)):
            return (
                f"by the URDF the measured joints hold the tool at {_shown(position)}, measured is "
                f"{_shown(sample.tool_pose[:3])} m, or it is turned; look at limits.joints and base_frame"
            )
        return None

    def rows(self, sample: JointSample, old: Vector3, old_quat: Quaternion) -> Iterator[Row]:
        """Rows on a step (6, m and rad) from the last Target, whose joints are predicted from the measured ones."""
        joints, inverse = self._at_target(sample, old, old_quat)
        for number, (line, at, low, high, most) in enumerate(
            zip(inverse.tolist(), joints.tolist(), self._low_rad, self._high_rad, self._steps_rad, strict=True), start=1
        ):
            back: Vector6 = tuple(-part for part in line)
            yield Row(f"joint_position:{number}", tuple(line), max(float(high - at), 0.0))
            yield Row(f"joint_position:{number}", back, max(float(at - low), 0.0))
            yield Row(f"joint_speed:{number}", tuple(line), float(most), self._rate_hz)
            yield Row(f"joint_speed:{number}", back, float(most), self._rate_hz)
        if self._min is not None:
            here = self._manipulability(joints)
            slope = np.array([self._manipulability(joints + d) - here for d in _DIFFERENCE_RAD * np.eye(self.size)])
            line = (-(slope / _DIFFERENCE_RAD) @ inverse).tolist()
            yield Row("manipulability", tuple(line), max(APPROACH * (here - self._min), 0.0))
        if self._bodies is not None:
            yield from self._bodies.rows(joints, inverse)

    def forbids(self, sample: JointSample, old: Vector3, old_quat: Quaternion, step: Sequence[float]) -> bool:
        """By the predicted joints the arm is then less manipulable than allowed, or two bodies are nearer than allowed,
        and than before the step. The rows keep both for small steps."""
        if self._min is None and self._bodies is None:
            return False
        joints, inverse = self._at_target(sample, old, old_quat)
        after = joints + inverse @ np.array(step)
        if self._min is not None:
            here = self._manipulability(joints)
            if self._manipulability(after) < min(self._min, here):
                return True
        return self._bodies is not None and self._bodies.are_nearer_after(joints, after)

    def _at_target(self, sample: JointSample, old: Vector3, old_quat: Quaternion) -> tuple[np.ndarray, np.ndarray]:
        """Predicted joints at the last Target, and the pseudo-inverse (joints, 6) there."""
        joints = np.asarray(sample.position_rad, float)
        x, y, z, *quat = sample.tool_pose
        lead = (old[0] - x, old[1] - y, old[2] - z, *quat_difference(old_quat, quat))
        joints = joints + _inverse(self._jacobian(joints)) @ np.array(lead)
        return joints, _inverse(self._jacobian(joints))

    def _jacobian(self, joints: np.ndarray) -> np.ndarray:
        axes = self._pin.ReferenceFrame.LOCAL_WORLD_ALIGNED
        found: np.ndarray = self._pin.computeFrameJacobian(self._model, self._data, joints, self._frame, axes)
        return found

    def _manipulability(self, joints: np.ndarray) -> float:
        jacobian = self._jacobian(joints)
        return math.sqrt(max(float(np.linalg.det(jacobian @ jacobian.T)), 0.0))


def _inverse(jacobian: np.ndarray) -> np.ndarray:
    inverse: np.ndarray = np.linalg.solve(jacobian @ jacobian.T + DAMPING**2 * np.eye(6), jacobian).T
    return inverse


def _shown(position: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.3f}" for value in position) + ")"
