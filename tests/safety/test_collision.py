"""Pins: an arm that is moved into itself or into a box, and one that sticks at a box instead of sliding along it."""

import math

import numpy as np
import pytest
from guarded import JOINTS, limited
from hypothesis import given, settings
from hypothesis import strategies as st

from inril_core.errors import ConfigError
from inril_core.safety.collision import SLACK, Bodies
from inril_core.safety.guard import step_between
from inril_core.safety.joint_model import JointModel, JointSample
from inril_core.safety.limits import ActionLimiter
from inril_core.sim.urdf import panda_urdf

pytest.importorskip("pinocchio")

READY = (0.0, -0.4, 0.0, -2.2, 0.0, 1.8, 0.785)
FAR = {"position_min_m": (-0.9, -0.9, -0.3), "position_max_m": (0.9, 0.9, 1.2), "max_tilt_rad": 3.1}
LEAST_M = 0.03
WALL = {"name": "wall", "center_m": [0.75, 0.0, 0.4], "size_m": [0.1, 2.0, 2.0]}
POST = {"name": "post", "center_m": [0.35, 0.35, 0.3], "size_m": [0.08, 0.08, 0.6], "quat_xyzw": [0, 0, 0.6, 0.8]}


def contract(**collision):
    joints = {**JOINTS, "speed_share": 1.0, "min_manipulability": None, "position_margin_rad": 0.02}
    return limited(joints={**joints, "collision": {"min_distance_m": LEAST_M, **collision}}, **FAR)


def follow(wanted, actions, joints=READY):
    """Executed by an arm that does what the model predicts: distances of all pairs after each step, joints, names."""
    model = JointModel(wanted, panda_urdf())
    joints = np.array(joints)
    position, quat = model.tool_pose(joints)
    limiter = ActionLimiter(wanted, model)
    limiter.reference((*position, *quat))
    distances, track, named = [model._bodies.distances(joints)], [joints], set()
    for action in actions:
        position, quat = model.tool_pose(joints)
        pose = (*position, *quat)
        sample = JointSample(joints.tolist(), pose, 0)
        limiter.saw_joints(sample)
        limiter.reference(pose)
        result = limiter.apply(action, pose)
        step = step_between(position, quat, result.target_pose[:3], result.target_pose[3:])
        inverse = model._at_target(sample, position, quat)[1]
        joints = joints + inverse @ np.array(step)
        distances.append(model._bodies.distances(joints))
        track.append(joints)
        named.update(result.limits)
    return np.array(distances), np.array(track), named


@settings(max_examples=12, deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(st.floats(-1.0, 1.0), min_size=6, max_size=6), st.integers(5, 25)), min_size=1, max_size=4
    ),
    st.booleans(),
)
def test_no_sequence_brings_bodies_nearer_than_allowed(sequence, own):
    """Or, where they are nearer at the beginning, nearer than then."""
    actions = [action for action, times in sequence for _ in range(times)]
    wanted = contract(self_collision=own, boxes=[WALL, POST])
    distances, _, _ = follow(wanted, actions)
    least = np.minimum(SLACK * LEAST_M, distances[0])
    assert (distances >= least - 1e-9).all()


def test_the_arm_slides_along_a_wall_that_its_hand_meets():
    wanted = contract(boxes=[WALL])
    distances, track, named = follow(wanted, [[1.0, 0.5, 0, 0, 0, 0]] * 40)
    tools = [JointModel(wanted, panda_urdf()).tool_pose(joints)[0] for joints in track[[-15, -1]]]
    assert "collision:wall" in named and SLACK * LEAST_M <= distances.min() < 1.2 * LEAST_M
    assert tools[-1][1] > 0.15, "all of the motion along the wall is left"
    assert tools[-1][0] == pytest.approx(tools[0][0], abs=0.01)


def test_the_elbow_keeps_off_a_box_that_the_tool_is_far_from():
    """What a keep-out box for the tool point does not see."""
    shelf = {"name": "shelf", "center_m": [0.0, 0.0, 0.95], "size_m": [0.4, 0.4, 0.1]}
    wanted, up = contract(boxes=[shelf]), [[-0.6, 0.0, 1.0, 0, 0, 0]] * 40
    distances, track, named = follow(wanted, up)
    assert "collision:shelf" in named and distances.min() >= SLACK * LEAST_M - 1e-9
    model = JointModel(wanted, panda_urdf())
    assert min(math.dist(model.tool_pose(joints)[0], shelf["center_m"]) for joints in track) > 0.3
    _, free, _ = follow(contract(), up)
    assert min(model._bodies.distances(joints).min() for joints in free) < 0.0, "it would have hit it"


def test_the_hand_does_not_turn_into_the_arm():
    turn = [[0, 0, 0, 0, -1.0, 0]] * 40, [[0, 0, 0, 0, 1.0, 0]] * 40
    named = set().union(*(follow(contract(), actions)[2] for actions in turn))
    assert any(name.startswith("self_collision:") for name in named), named


def test_rows_are_the_gradient_of_the_distances():
    """Against finite differences of coal's own distances, for every pair that is near."""
    wanted = contract(boxes=[WALL, POST])
    model = JointModel(wanted, panda_urdf())
    bodies, joints = model._bodies, np.array([0.3, 0.2, 0.1, -2.0, 0.3, 1.6, 0.5])
    rows = list(bodies.rows(joints, np.eye(7)[:, :6]))
    before = bodies.distances(joints)
    near = np.flatnonzero(before < LEAST_M + 0.15)
    assert len(rows) == len(near) > 5 and {row.name.split(":")[0] for row in rows} == {"collision", "self_collision"}
    for axis in range(6):
        move = 1e-3 * np.eye(7)[axis]  # coal is right to 1e-6 m
        slope = (bodies.distances(joints + move)[near] - bodies.distances(joints - move)[near]) / 2e-3
        np.testing.assert_allclose([-row.normal[axis] for row in rows], slope, atol=5e-3)


def test_links_that_are_built_near_each_other_are_left_out_and_others_by_name():
    names = set(JointModel(contract(), panda_urdf())._bodies._names)
    assert "self_collision:link5-link7" not in names and "self_collision:link5-hand" in names
    names = set(JointModel(contract(ignored_links=[["hand", "link5"]]), panda_urdf())._bodies._names)
    assert "self_collision:link5-hand" not in names and "self_collision:link4-hand" in names


@pytest.mark.parametrize(
    ("collision", "told"),
    [
        ({"self_collision": False}, "neither self_collision nor boxes"),
        ({"boxes": [WALL, WALL]}, "twice"),
        ({"min_distance_m": 0.0}, "greater than 0"),
        ({"min_distance_m": math.nan}, "finite|nan"),
    ],
)
def test_a_section_that_says_nothing_is_refused(collision, told):
    with pytest.raises(ValueError, match=told):
        contract(**collision)


def test_a_urdf_whose_shapes_will_not_do_is_named():
    urdf = panda_urdf()
    with pytest.raises(ConfigError, match="ignored_links.*nowhere.*link0"):
        JointModel(contract(ignored_links=[["nowhere", "hand"]]), urdf)
    mesh = urdf.replace('<box size="0.12 0.1 0.06" />', '<mesh filename="package://nowhere/link0.stl" />')
    assert mesh != urdf
    with pytest.raises(ConfigError, match="shapes cannot be read.*boxes, cylinders and spheres"):
        JointModel(contract(), mesh)
    bare = urdf.replace("<visual>", "<nothing>").replace("</visual>", "</nothing>")
    with pytest.raises(ConfigError, match="no link has a shape"):
        JointModel(contract(), bare)
    assert isinstance(JointModel(contract(), urdf)._bodies, Bodies)
