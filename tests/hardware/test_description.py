"""Pins: links that a viewer draws elsewhere than the arm is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from inril_core.errors import ConfigError
from inril_core.hardware.description import JointTree, robot_description
from inril_core.sim.kinematics import ArmKinematics

TREE = JointTree(robot_description(""))
KINEMATICS = ArmKinematics(np.zeros(7))
JOINT = '<joint name="j" type="revolute"><parent link="a"/><child link="b"/>{}</joint>'
LINKS = '<robot name="r"><link name="a"/><link name="b"/>{}</robot>'


@given(st.lists(st.floats(-2.5, 2.5), min_size=7, max_size=7))
@settings(max_examples=30)
def test_the_tool_is_where_the_simulator_has_it(arm_rad: list[float]) -> None:
    positions = TREE.positions(arm_rad, 0.03)
    assert positions["finger1_joint"] == positions["finger2_joint"] == 0.015
    poses = {TREE.root: np.eye(4)}
    for joint in TREE.joints:
        xyz_m, quat = joint.transform(positions.get(joint.name, 0.0))
        step = np.eye(4)
        step[:3, :3], step[:3, 3] = Rotation.from_quat(quat).as_matrix(), xyz_m
        poses[joint.child] = poses[joint.parent] @ step
    expected = KINEMATICS.tool_pose(np.array(arm_rad))
    np.testing.assert_allclose(poses["tool"][:3, 3], expected[:3], atol=1e-6)
    np.testing.assert_allclose(poses["tool"][:3, :3], Rotation.from_quat(expected[3:]).as_matrix(), atol=1e-6)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "give a URDF file"),
        ("<robot", "give a URDF file"),
        ("<sdf/>", "no <robot>"),
        ("<robot/>", "no <robot> with <link>s"),
        ('<!DOCTYPE r [<!ENTITY a "aaaa">]><robot><link name="&a;"/></robot>', "entities"),
    ],
)
def test_what_is_no_urdf_is_named(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "arm.urdf"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"arm.urdf.*{reason}"):
        robot_description(str(path))
    with pytest.raises(ConfigError, match="missing.urdf"):
        robot_description(str(tmp_path / "missing.urdf"))


@pytest.mark.parametrize(
    ("joint", "reason"),
    [
        ('<origin xyz="0 0" rpy="0 0 0"/>', "three finite numbers"),
        ('<origin xyz="0 nan 0"/>', "three finite numbers"),
        ('<axis xyz="0 0 0"/>', "give a direction"),
    ],
)
def test_a_joint_that_is_incomplete_is_named(joint: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"joint 'j'.*{reason}"):
        JointTree(LINKS.format(JOINT.format(joint)))
    with pytest.raises(ConfigError, match="2 links have no parent"):
        JointTree(LINKS.format(""))
