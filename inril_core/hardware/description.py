"""The arm's description (URDF): for the console's 3-D view, `robot_description` and the frames of tf."""

from __future__ import annotations

import xml.etree.ElementTree as xml
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy  # its parts are loaded at first use

from inril_core.errors import ConfigError
from inril_core.sim.urdf import panda_urdf

MAX_BYTES = 4 << 20


def robot_description(path: str) -> str:
    """URDF text of a file; of the Panda that comes with inril where the path is empty.

    Raises:
        ConfigError: the file cannot be read, is too large, or is no URDF.
    """
    if not path:
        return panda_urdf()
    file = Path(path).expanduser()
    try:
        if file.stat().st_size > MAX_BYTES:
            raise ConfigError(f"urdf = {path}: larger than {MAX_BYTES >> 20} MB; give the robot's URDF")
        text = file.read_text()
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise ConfigError(f"urdf = {path}: has XML entities, which are not expanded; run xacro first")
        root = xml.fromstring(text)
    except (OSError, UnicodeDecodeError, xml.ParseError) as error:
        raise ConfigError(f"urdf = {path}: {error}; give a URDF file (run xacro first)") from error
    if root.tag != "robot" or root.find("link") is None:
        raise ConfigError(f"urdf = {path}: has no <robot> with <link>s; give a URDF file")
    return text


@dataclass(frozen=True)
class Joint:
    """A joint of a URDF."""

    name: str
    parent: str
    child: str
    kind: str
    """revolute, continuous, prismatic or fixed; any other is treated as fixed."""
    xyz_m: tuple[float, float, float]
    quat_xyzw: tuple[float, float, float, float]
    """Of the child in the parent at zero."""
    axis: tuple[float, float, float]
    """Unit vector in the child's frame."""

    @property
    def turns(self) -> bool:
        """A hinge."""
        return self.kind in ("revolute", "continuous")

    def transform(self, value: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Child in parent at a joint's position (rad or m): translation [m] and quaternion xyzw."""
        at = scipy.spatial.transform.Rotation.from_quat(self.quat_xyzw)
        if self.turns:
            turned = (at * scipy.spatial.transform.Rotation.from_rotvec(value * np.array(self.axis))).as_quat()
            return self.xyz_m, tuple(turned.tolist())
        if self.kind == "prismatic":
            moved = np.array(self.xyz_m) + at.apply(value * np.array(self.axis))
            return tuple(moved.tolist()), self.quat_xyzw
        return self.xyz_m, self.quat_xyzw


class JointTree:
    """The joints of a URDF, in the order in which they stand there.

    The arm's joints are its first hinges; slides are fingers that share the gripper's width.

    Raises:
        ConfigError: a joint is incomplete, or the links are no tree.
    """

    def __init__(self, urdf: str) -> None:
        robot = xml.fromstring(urdf)
        self.joints = tuple(_joint(element) for element in robot.findall("joint"))
        links = [link.get("name", "") for link in robot.findall("link")]
        children = [joint.child for joint in self.joints]
        roots = [link for link in links if link not in children]
        if len(roots) != 1 or len(set(children)) != len(children):
            raise ConfigError(f"urdf: {len(roots)} links have no parent ({roots}); a robot has one")
        self.root = roots[0]

    def positions(self, arm_rad: Sequence[float], gripper_width_m: float) -> dict[str, float]:
        """Position of each joint that moves [rad or m], by name; hinges beyond ``arm_rad`` are left out."""
        hinges = [joint.name for joint in self.joints if joint.turns]
        slides = [joint.name for joint in self.joints if joint.kind == "prismatic"]
        found = dict(zip(hinges, map(float, arm_rad), strict=False))
        return found | {name: gripper_width_m / len(slides) for name in slides}


def _joint(element: xml.Element) -> Joint:
    parent, child, origin, axis = (element.find(tag) for tag in ("parent", "child", "origin", "axis"))
    name = element.get("name", "")
    if parent is None or child is None:
        raise ConfigError(f"urdf: joint {name!r} has no parent or no child")
    place = {} if origin is None else origin.attrib
    rotation = scipy.spatial.transform.Rotation.from_euler("xyz", _numbers(name, place.get("rpy", "0 0 0")))
    direction = np.array(_numbers(name, "1 0 0" if axis is None else axis.get("xyz", "1 0 0")))
    length = float(np.linalg.norm(direction))
    if length < 1e-9:
        raise ConfigError(f"urdf: joint {name!r} has the axis {direction.tolist()}; give a direction")
    x, y, z = _numbers(name, place.get("xyz", "0 0 0"))
    return Joint(
        name,
        parent.get("link", ""),
        child.get("link", ""),
        element.get("type", "fixed"),
        (x, y, z),
        tuple(rotation.as_quat().tolist()),
        tuple((direction / length).tolist()),
    )


def _numbers(joint: str, text: str) -> list[float]:
    try:
        numbers = [float(word) for word in text.split()]
    except ValueError:
        numbers = []
    if len(numbers) != 3 or not np.isfinite(numbers).all():
        raise ConfigError(f"urdf: joint {joint!r}: {text!r}: three finite numbers are needed")
    return numbers
