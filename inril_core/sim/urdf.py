"""The simulator's arm as a URDF, for viewers: links, joints and the primitive shapes that it is drawn from."""

from __future__ import annotations

import warnings
import xml.etree.ElementTree as xml
from importlib import resources

import mujoco
import numpy as np
import scipy  # its parts are loaded at first use

from inril_core.errors import ConfigError

_SHAPES = {
    mujoco.mjtGeom.mjGEOM_BOX: "box",
    mujoco.mjtGeom.mjGEOM_CYLINDER: "cylinder",
    mujoco.mjtGeom.mjGEOM_CAPSULE: "capsule",
    mujoco.mjtGeom.mjGEOM_SPHERE: "sphere",
}


def panda_urdf() -> str:
    """URDF of the Panda that comes with inril: links ``link0`` to ``link7``, ``hand``, fingers, and ``tool``."""
    text = (resources.files("inril_core.sim") / "mjcf" / "panda.xml").read_text()
    return urdf_of(mujoco.MjModel.from_xml_string(text), "panda")


def urdf_of(model: mujoco.MjModel, name: str) -> str:
    """URDF of a tree of hinges and slides whose visible geoms are primitives. Inertias are left out: it is for viewers.

    Raises:
        ConfigError: a body has several joints, or one of another kind.
    """
    robot = xml.Element("robot", name=name)
    for body in range(1, model.nbody):
        link = xml.SubElement(robot, "link", name=model.body(body).name)
        for geom in range(model.ngeom):
            if model.geom_bodyid[geom] == body:
                _add_visuals(link, model, geom)
        parent = int(model.body_parentid[body])
        if parent > 0:
            _add_joint(robot, model, body, parent)
    for site in range(model.nsite):
        site_name = model.site(site).name
        xml.SubElement(robot, "link", name=site_name)
        joint = xml.SubElement(robot, "joint", name=f"{site_name}_fixed", type="fixed")
        xml.SubElement(joint, "parent", link=model.body(model.site_bodyid[site]).name)
        xml.SubElement(joint, "child", link=site_name)
        _add_origin(joint, model.site_pos[site], model.site_quat[site])
    xml.indent(robot)
    return xml.tostring(robot, encoding="unicode")


def _add_joint(robot: xml.Element, model: mujoco.MjModel, body: int, parent: int) -> None:
    count, first = int(model.body_jntnum[body]), int(model.body_jntadr[body])
    body_name = model.body(body).name
    if count > 1:
        raise ConfigError(f"body {body_name} has {count} joints; a URDF link has one")
    kind, joint_name = "fixed", f"{body_name}_fixed"
    if count == 1:
        kinds = {mujoco.mjtJoint.mjJNT_HINGE: "revolute", mujoco.mjtJoint.mjJNT_SLIDE: "prismatic"}
        if model.jnt_type[first] not in kinds:
            raise ConfigError(f"joint {model.joint(first).name} of {body_name} is neither hinge nor slide")
        kind, joint_name = kinds[model.jnt_type[first]], model.joint(first).name
    joint = xml.SubElement(robot, "joint", name=joint_name, type=kind)
    xml.SubElement(joint, "parent", link=model.body(parent).name)
    xml.SubElement(joint, "child", link=body_name)
    _add_origin(joint, model.body_pos[body], model.body_quat[body])
    if count == 1:
        low, high = model.jnt_range[first]
        xml.SubElement(joint, "axis", xyz=_text(model.jnt_axis[first]))
        xml.SubElement(joint, "limit", lower=f"{low:g}", upper=f"{high:g}", effort="0", velocity="0")


def _add_visuals(link: xml.Element, model: mujoco.MjModel, geom: int) -> None:
    shape = _SHAPES.get(model.geom_type[geom])
    if shape is None:
        return
    size, pos, quat = model.geom_size[geom], model.geom_pos[geom], model.geom_quat[geom]
    material = int(model.geom_matid[geom])
    rgba = model.mat_rgba[material] if material >= 0 else model.geom_rgba[geom]
    colour = (model.mat(material).name if material >= 0 else f"geom{geom}", rgba)
    if shape == "box":
        _add_visual(link, "box", {"size": _text(2.0 * size)}, pos, quat, colour)
    elif shape == "sphere":
        _add_visual(link, "sphere", {"radius": f"{size[0]:g}"}, pos, quat, colour)
    else:
        length = {"radius": f"{size[0]:g}", "length": f"{2.0 * size[1]:g}"}
        _add_visual(link, "cylinder", length, pos, quat, colour)
        if shape == "capsule":  # URDF has none
            axis = scipy.spatial.transform.Rotation.from_quat(quat, scalar_first=True).apply([0.0, 0.0, size[1]])
            for end in (pos + axis, pos - axis):
                _add_visual(link, "sphere", {"radius": f"{size[0]:g}"}, end, quat, colour)


def _add_visual(
    link: xml.Element,
    shape: str,
    settings: dict[str, str],
    pos: np.ndarray,
    quat: np.ndarray,
    colour: tuple[str, np.ndarray],
) -> None:
    visual = xml.SubElement(link, "visual")
    _add_origin(visual, pos, quat)
    xml.SubElement(xml.SubElement(visual, "geometry"), shape, settings)
    material = xml.SubElement(visual, "material", name=colour[0])
    xml.SubElement(material, "color", rgba=_text(colour[1]))


def _add_origin(element: xml.Element, pos: np.ndarray, quat: np.ndarray) -> None:
    """quat: wxyz, as MuJoCo has it. URDF's rpy are rotations about fixed x, y, z."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where pitch is a right angle many rpy say the same; any of them is right
        rpy = scipy.spatial.transform.Rotation.from_quat(quat, scalar_first=True).as_euler("xyz")
    xml.SubElement(element, "origin", xyz=_text(pos), rpy=_text(rpy))


def _text(values: np.ndarray) -> str:
    return " ".join(f"{value:.9g}" for value in np.where(np.abs(values) < 1e-12, 0.0, values))
