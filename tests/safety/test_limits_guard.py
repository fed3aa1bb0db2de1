"""Pins: a Target behind a wall, in a box, too fast or beyond a joint's margin, and a wall at which the tool sticks."""

import math

import numpy as np
import pytest
from guarded import JOINTS, MOTION, SPACE, limited
from hypothesis import given, settings
from hypothesis import strategies as st

from inril_core.contract.limits import KeepOutBox, Region, SpaceLimits
from inril_core.errors import ConfigError
from inril_core.safety import guard, nearest
from inril_core.safety.guard import stoppable, wall_of
from inril_core.safety.joint_model import JointModel, JointSample
from inril_core.safety.last_check import TargetLimits, violation
from inril_core.safety.limits import ActionLimiter
from inril_core.sim.urdf import panda_urdf
from inril_core.transforms import quat_from_rotvec, quat_multiply, quat_normalise

DOWN = (1.0, 0.0, 0.0, 0.0)
FAR = {"position_min_m": (0.1, -0.6, -0.3), "position_max_m": (0.9, 0.6, 0.9)}


def box_at(center=(0.5, 0.0, 0.2), size=(0.1, 0.1, 0.1), **more):
    return KeepOutBox(name="b", center_m=center, size_m=size, **more)


def made(contract, pose, model=None):
    limiter = ActionLimiter(contract, model)
    limiter.reference(pose)
    return limiter


# -- geometry --------------------------------------------------------------------------------------------------------


def test_distance_to_a_box_is_that_of_its_nearest_point():
    assert wall_of(box_at(), (0.6, 0.0, 0.2)) == (pytest.approx((1, 0, 0)), pytest.approx(0.05))
    normal, distance_m = wall_of(box_at(), (0.58, 0.08, 0.2))
    assert distance_m == pytest.approx(0.03 * math.sqrt(2)) and normal == pytest.approx(
        (math.sqrt(0.5), math.sqrt(0.5), 0)
    )
    assert wall_of(box_at(), (0.5, 0.0, 0.24)) == (pytest.approx((0, 0, 1)), pytest.approx(-0.01))
    turned = box_at(quat_xyzw=(0.0, 0.0, math.sin(math.pi / 8), math.cos(math.pi / 8)))
    assert wall_of(turned, (0.6, 0.0, 0.2))[1] == pytest.approx(0.1 - 0.05 * math.sqrt(2))


def test_a_region_has_the_planes_of_its_hull():
    cube = [(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)]
    planes = Region(name="cube", corners_m=cube).planes
    assert sorted(tuple(round(part, 9) + 0.0 for part in plane) for plane in planes) == sorted(
        [(1, 0, 0, 1), (-1, 0, 0, 0), (0, 1, 0, 1), (0, -1, 0, 0), (0, 0, 1, 1), (0, 0, -1, 0)]
    )


@given(st.floats(0.0, 1.0), st.floats(1e-4, 0.1))
def test_what_is_stoppable_stops_within_the_distance_and_uses_all_of_it(distance, slowing):
    step = stoppable(distance, slowing)
    way, n = 0.0, 0
    while step - n * slowing > 0.0:
        way, n = way + step - n * slowing, n + 1
    assert way == pytest.approx(distance, abs=1e-9)


def test_zero_is_a_floor_and_null_is_none():
    """Pins: `if floor_m:`, which takes a table at height 0 away."""
    low = (0.5, 0.0, 0.005, *DOWN)
    down = [0, 0, -1.0, 0, 0, 0]
    floor = limited(**FAR, space={"tool_radius_m": 0.0, "floor_m": 0.0})
    limiter = made(floor, low)
    assert limiter.apply(down, low).target_pose[2] == pytest.approx(0.0, abs=1e-9)
    result = limiter.apply(down, low)
    assert result.target_pose[2] == pytest.approx(0.0, abs=1e-9) and "floor" in result.limits
    free = limited(**FAR, space={"tool_radius_m": 0.0, "keep_out": [box_at((0.8, 0.5, 0.8)).model_dump()]})
    assert made(free, low).apply(down, low).target_pose[2] == pytest.approx(-0.005)


# -- nearest ---------------------------------------------------------------------------------------------------------


def test_the_tool_slides_along_a_wall_and_into_its_corner():
    """Pins: a limit that shortens the whole step, at which the tool sticks."""
    wall = {"name": "room", "corners_m": [(x, y, z) for x in (0.3, 0.6) for y in (-0.2, 0.2) for z in (-0.2, 0.8)]}
    contract = limited(**FAR, space={"tool_radius_m": 0.05, "keep_in": [wall]})
    pose = (0.55, 0.0, 0.2, *DOWN)
    limiter = made(contract, pose)
    for number in range(1, 10):
        result = limiter.apply([0.8, 0.6, 0.0, 0, 0, 0], pose)
        pose = result.target_pose
        assert pose[:3] == pytest.approx((0.55, 0.006 * number, 0.2)), "all of the motion along the wall is left"
        assert result.limits == ("keep_in:room",) and result.margins == pytest.approx((-0.008,))
        assert result.executed[:2] == pytest.approx((0.0, 0.6))
    for _ in range(30):
        pose = limiter.apply([0.8, 0.6, -0.3, 0, 0, 0], pose).target_pose
    assert pose[:2] == pytest.approx((0.55, 0.15)), "both walls at once"
    assert pose[2] < 0.15, "and still down their common edge"


def test_the_tool_goes_round_the_edge_of_a_box():
    contract = limited(**FAR, space={"tool_radius_m": 0.02, "keep_out": [box_at().model_dump()]})
    pose = (0.40, 0.0, 0.2, *DOWN)
    limiter = made(contract, pose)
    for _ in range(60):
        pose = limiter.apply([0.8, 0.6, 0.0, 0, 0, 0], pose).target_pose
        assert wall_of(box_at(), pose[:3])[1] >= 0.02 - 1e-9
    assert pose[0] > 0.57, "past the box"


def test_the_nearest_motion_is_that_of_a_dense_search():
    """A wall, the floor, the speed and the acceleration at once, against a fine grid."""
    contract = limited(**FAR, space={**SPACE, "keep_out": []}, motion=MOTION)
    start = (0.5, -0.2, 0.06, *DOWN)
    limiter = made(contract, start)
    first = limiter.apply([0.2, -0.2, -0.1, 0, 0, 0], start).target_pose
    asked = np.array([0.009, -0.01, -0.01])
    result = limiter.apply([*(asked / 0.01), 0, 0, 0], first)
    found = np.array(result.target_pose[:3]) - first[:3]
    limits = limiter._guard.limits(first[:3], DOWN, (tuple(np.subtract(first[:3], start[:3])), (0.0, 0.0, 0.0)), 0)
    span = np.linspace(-0.013, 0.013, 53)
    grid = np.stack(np.meshgrid(span, span, span), -1).reshape(-1, 3)
    for row in limits.rows:
        grid = grid[grid @ np.array(row.normal[:3]) <= row.bound]
    for ball in limits.balls:
        if not ball.turn:
            grid = grid[np.linalg.norm(grid - ball.centre, axis=1) <= ball.radius]
    best = np.linalg.norm(grid - asked, axis=1).min()
    assert len(grid) > 50 and np.linalg.norm(found - asked) <= best + 1e-6


@pytest.mark.parametrize("said", ["infeasible", "nonsense", "not a number"])
def test_a_solver_that_fails_or_lies_is_a_hold_by_name(monkeypatch, said):
    wrong = {
        "infeasible": lambda *_, **__: (np.zeros(6), 0.0, -1, {"lam": np.zeros(99)}),
        "nonsense": lambda h, f, a, b, *_, **__: (np.full(6, 50.0), 0.0, 1, {"lam": np.zeros(len(b))}),
        "not a number": lambda h, f, a, b, *_, **__: (np.full(6, math.nan), 0.0, 1, {"lam": np.zeros(len(b))}),
    }
    monkeypatch.setattr(nearest.daqp, "solve", wrong[said])
    contract = limited(**FAR, space={"tool_radius_m": 0.03, "floor_m": 0.0})
    low = (0.5, 0.0, 0.031, *DOWN)
    result = made(contract, low).apply([1.0, 0, -1.0, 0, 0, 0], low)
    assert result.target_pose == low and result.executed == pytest.approx([0.0] * 6)
    assert result.limits == ("infeasible",) and math.isnan(result.margins[0])


def test_where_no_limit_is_met_no_program_is_solved(monkeypatch):
    monkeypatch.setattr(guard, "nearest", None)
    contract = limited(**FAR, space=SPACE, motion=MOTION)
    pose = (0.45, 0.0, 0.3, *DOWN)
    assert made(contract, pose).apply([0.1, 0.1, 0.1, 0, 0, 0.05], pose).limits == ()


# -- sequences -------------------------------------------------------------------------------------------------------

numbers = st.floats(-1.5, 1.5)
ways = st.tuples(st.lists(numbers, min_size=6, max_size=6), st.integers(1, 8), st.booleans())
starts = st.tuples(st.floats(0.35, 0.7), st.floats(-0.3, 0.3), st.floats(-0.02, 0.45))


@settings(max_examples=25, deadline=None)
@given(
    starts,
    st.lists(numbers, min_size=3, max_size=3),
    st.sampled_from(["commanded", "measured"]),
    st.sampled_from([("space",), ("motion",), ("space", "motion")]),
    st.lists(ways, min_size=1, max_size=10),
)
def test_no_sequence_leaves_space_and_motion_limits(start, turn, reference, kinds, sequence):
    """From anywhere, also within a box or behind a wall: what the last check wants, and a record that adds up."""
    chosen = {kind: {"space": SPACE, "motion": MOTION}[kind] for kind in kinds}
    contract = limited(action={"delta_reference": reference}, **chosen)
    known = TargetLimits.of(contract)
    before, old = None, (*start, *quat_normalise(quat_multiply(quat_from_rotvec([0.3 * part for part in turn]), DOWN)))
    limiter = made(contract, old)
    for action, times, follows in sequence:
        for _ in range(times):
            measured = old if follows or before is None else before
            result = limiter.apply(action, measured)
            assert violation(known, old, result.target_pose, 0.0, before) is None
            assert len(result.margins) == len(result.limits)
            base = measured if reference == "measured" else old
            moved_m = np.array(base[:3]) + 0.01 * np.array(result.executed[:3])
            np.testing.assert_allclose(moved_m, result.target_pose[:3], atol=1e-9)
            before, old = old, result.target_pose


def test_the_tool_brakes_before_a_wall_and_reaches_it():
    contract = limited(**FAR, space={"tool_radius_m": 0.0, "floor_m": 0.0}, motion={"max_acceleration_mps2": 0.2})
    old = pose = (0.5, 0.0, 0.15, *DOWN)
    limiter, steps = made(contract, pose), []
    for _ in range(80):
        pose = limiter.apply([0, 0, -1.0, 0, 0, 0], pose).target_pose
        steps.append(old[2] - pose[2])
        old = pose
    assert max(steps) > 0.0099 and pose[2] == pytest.approx(0.0, abs=1e-4)
    assert np.abs(np.diff([0.0, *steps])).max() <= 0.002 + 1e-9, "nowhere harder than allowed, so no hold was needed"


# -- joints ----------------------------------------------------------------------------------------------------------

READY = (0.0, -0.4, 0.0, -2.2, 0.0, 1.8, 0.785)


def joint_contract(**changes):
    return limited(joints={**JOINTS, **changes}, max_tilt_rad=3.0, **FAR)


def test_the_jacobian_tells_what_the_joints_do():
    """Against pinocchio's own forward kinematics: the predicted joints hold the tool where the step leads."""
    contract = joint_contract(min_manipulability=None)
    model = JointModel(contract, panda_urdf())
    position, quat = model.tool_pose(READY)
    step = np.array([0.002, -0.001, 0.001, 0.003, 0.002, -0.004])
    sample = JointSample(READY, (*position, *quat), 0)
    rows = [row for row in model.rows(sample, position, quat) if row.name.startswith("joint_speed")][::2]
    turned = np.array(READY) + [np.dot(row.normal, step) for row in rows]
    new, new_quat = model.tool_pose(turned)
    np.testing.assert_allclose(guard.step_between(position, quat, new, new_quat), step, atol=5e-5)


def follow(contract, action, joints=READY, steps=120):
    """Executed by an arm that does what the model predicts: its joints, and what was named."""
    model = JointModel(contract, panda_urdf())
    position, quat = model.tool_pose(joints)
    limiter = made(contract, (*position, *quat), model)
    joints, named, track = np.array(joints), set(), [np.array(joints)]
    for _ in range(steps):
        position, quat = model.tool_pose(joints)
        pose = (*position, *quat)
        limiter.saw_joints(JointSample(joints.tolist(), pose, 0))
        limiter.reference(pose)
        result = limiter.apply(action, pose)
        step = guard.step_between(position, quat, result.target_pose[:3], result.target_pose[3:])
        rows = [row for row in model.rows(JointSample(joints.tolist(), pose, 0), position, quat)]
        joints = joints + [np.dot(row.normal, step) for row in rows if row.name.startswith("joint_speed")][::2]
        named.update(result.limits)
        track.append(joints)
    return model, np.array(track), named


@settings(max_examples=4, deadline=None)
@given(st.lists(st.floats(-1.0, 1.0), min_size=6, max_size=6))
def test_no_motion_takes_a_joint_beyond_its_margins(action):
    contract = joint_contract()
    model, track, _ = follow(contract, action, steps=60)
    monitor = contract.monitor
    low, high = np.array(monitor.joint_position_min_rad) + 0.1, np.array(monitor.joint_position_max_rad) - 0.1
    assert (track >= np.minimum(low, track[0]) - 1e-9).all() and (track <= np.maximum(high, track[0]) + 1e-9).all()
    most = np.array(monitor.max_joint_speed_radps) * 0.1 / contract.control_rate_hz
    assert (np.abs(np.diff(track, axis=0)) <= most + 1e-9).all()
    assert min(model._manipulability(joints) for joints in track) >= min(0.05, model._manipulability(track[0])) - 1e-9


def test_each_joint_limit_is_named():
    _, _, named = follow(joint_contract(speed_share=0.01), [1.0, 0, 0, 0, 0, 0], steps=3)
    assert any(name.startswith("joint_speed:") for name in named)
    _, _, named = follow(joint_contract(speed_share=1.0), [0, 0, 0, 0, 0, 1.0], steps=60)
    assert "joint_position:7" in named
    _, track, named = follow(joint_contract(speed_share=1.0), [1.0, 0, 0, 0, 0, 0], steps=60)
    assert "manipulability" in named


@pytest.mark.parametrize("joints", [(), READY[:6], (math.nan, *READY[1:]), (math.inf, *READY[1:]), (0.3, *READY[1:])])
def test_nothing_moves_on_joints_that_are_unknown_or_of_another_pose(joints):
    contract = joint_contract()
    model = JointModel(contract, panda_urdf())
    position, quat = model.tool_pose(READY)
    pose = (*position, *quat)
    limiter = made(contract, pose, model)
    assert limiter.joints_doubt() == "no joint positions were measured"
    limiter.saw_joints(JointSample(joints, pose, 0))
    result = limiter.apply([0.5, 0, 0, 0, 0, 0], pose)
    assert result.limits == ("joint_state",) and result.target_pose == pytest.approx(pose)
    assert limiter.joints_doubt() is not None
    limiter.saw_joints(JointSample(READY, pose, 0))
    assert limiter.apply([0.1, 0, 0, 0, 0, 0], pose).limits == () and limiter.joints_doubt() is None
    limiter.measured_ns = 10**9
    assert limiter.apply([0.1, 0, 0, 0, 0, 0], pose).limits == ("joint_state",), "they are a second older than the pose"


# -- contract --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        ({"space": {"tool_radius_m": 0.0}}, "neither floor_m nor"),
        ({"space": {"floor_m": 0.0}}, "tool_radius_m"),
        ({"space": {"tool_radius_m": 0.0, "floor_m": 0.49999}}, "no place"),
        ({"space": {"tool_radius_m": 0.0, "floor_m": math.nan}}, "finite"),
        (
            {"space": {"tool_radius_m": 0.0, "keep_in": [{"name": "a", "corners_m": [[0, 0, 0]] * 4}]}},
            "in one plane",
        ),
        (
            {"space": {"tool_radius_m": 0, "keep_out": [{"name": "a", "center_m": [0] * 3, "size_m": [1, 1]}]}},
            "three edge lengths",
        ),
        (
            {"space": {**SPACE, "keep_out": [{"name": "cell", "center_m": [0] * 3, "size_m": [1, 1, 1]}]}},
            "unique",
        ),
        (
            {
                "space": {
                    "tool_radius_m": 0,
                    "keep_out": [
                        {"name": "a", "center_m": [0] * 3, "size_m": [1, 1, 1], "quat_xyzw": [0, 0, 0, 0]},
                    ],
                }
            },
            "unit quaternion",
        ),
        ({"motion": {}}, "no limit"),
        ({"motion": {"max_speed_mps": 0.0}}, "greater than 0"),
        ({"wrench": {}}, "neither max_force_n"),
    ],
)
def test_a_limit_that_says_nothing_or_leaves_nothing_is_refused(limits, why):
    with pytest.raises(ValueError, match=why):
        limited(**limits)


def test_a_contract_without_the_new_sections_reads_as_it_did():
    plain = limited()
    assert '"space"' not in plain.text and '"motion"' not in plain.text and '"joints"' not in plain.text
    more = limited(space=SPACE)
    assert more.deployment_digest != plain.deployment_digest and more.interface_digest == plain.interface_digest
    assert limited(space=more.limits.space.model_dump(mode="json")) == more
    assert SpaceLimits(tool_radius_m=0.1, floor_m=0.0).walls == (("floor", (0.0, 0.0, -1.0, -0.1)),)


def test_joints_without_a_model_or_with_the_wrong_one_are_refused():
    contract = joint_contract()
    with pytest.raises(ConfigError, match="give the URDF"):
        ActionLimiter(contract)
    with pytest.raises(ConfigError, match="is no link"):
        JointModel(joint_contract(tool_link="nowhere"), panda_urdf())
    with pytest.raises(ConfigError, match="7"):
        JointModel(joint_contract(tool_link="link3"), panda_urdf())
    with pytest.raises(ConfigError, match="no range"):
        JointModel(
            joint_contract(position_margin_rad=1.0).model_copy(
                update={"monitor": contract.monitor.model_copy(update={"joint_position_max_rad": (-2.0,) * 7})}
            ),
            panda_urdf(),
        )
