"""Pins: a limit that holds for one source of commands and not for another. Each limit, asked by policy, asynchronous
device, synchronous device, a person who drives in (reset), and held; with measurements that jump, are not numbers, are
old or come twice in between. docs/safety.md has the table."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from guarded import JOINTS, MOTION, SPACE, limited
from hypothesis import given, settings
from hypothesis import strategies as st

from inril_core.safety.guard import step_between
from inril_core.safety.joint_model import JointModel, JointSample
from inril_core.safety.last_check import TargetLimits, violation
from inril_core.safety.takeover import HandBack, Mode, TakeoverConfig
from inril_core.safety.ticks import Phase, RobotSample, Source
from inril_core.sim.urdf import panda_urdf

ROOT = Path(__file__).resolve().parents[2]
DOWN = (1.0, 0.0, 0.0, 0.0)
READY = (0.0, 0.15, 0.0, -2.25, 0.0, 2.40, -2.4)
SOURCES = ("policy", "asynchronous", "synchronous", "reset", "hold")
BOX = {"tool_radius_m": 0.02, "keep_out": [{"name": "post", "center_m": [0.6, 0, 0.2], "size_m": [0.1, 0.1, 0.1]}]}
FREE_JOINTS = {**JOINTS, "speed_share": 1.0, "min_manipulability": None}
POST = {"name": "post", "center_m": [0.72, 0.0, 0.15], "size_m": [0.1, 0.6, 0.3]}
LIMITS = {
    "position_box": {"position_max_m": (0.51, 0.35, 0.5)},
    "translation_step": {"max_translation_step_m": 0.005},
    "rotation_step": {"max_rotation_step_rad": 0.05},
    "tilt": {"max_tilt_rad": 0.06},
    "floor": {"space": {"tool_radius_m": 0.04, "floor_m": 0.15}},
    "keep_in": {"space": {**SPACE, "keep_out": [], "tool_radius_m": 0.1}},
    "keep_out": {"space": BOX},
    "speed": {"motion": {"max_speed_mps": 0.05}},
    "turn_speed": {"motion": {"max_turn_radps": 0.3}},
    "acceleration": {"motion": {"max_acceleration_mps2": 0.2}},
    "turn_acceleration": {"motion": {"max_turn_acceleration_radps2": 2.0}},
    "joint_position": {"joints": FREE_JOINTS, "max_tilt_rad": 3.0},
    "joint_speed": {"joints": {**JOINTS, "speed_share": 0.005, "min_manipulability": None}},
    "manipulability": {"joints": {**JOINTS, "speed_share": 1.0, "min_manipulability": 0.2}},
    "self_collision": {"joints": {**FREE_JOINTS, "collision": {"min_distance_m": 0.15}}, "max_tilt_rad": 3.0},
    "collision": {"joints": {**FREE_JOINTS, "collision": {"boxes": [POST]}}},
}
PUSH = (1.0, 0.6, -1.0, 0.8, 0.6, 1.0)
"""Against every one of them but the one below."""
FOLD = {"self_collision": tuple(-part for part in PUSH)}
"""Back to the base, where the arm's links come near each other."""
WRONG = ("none", "jump", "nan", "infinite", "old", "twice")


def model_of(contract):
    return None if contract.limits.joints is None else JointModel(contract, panda_urdf())


class Driven:
    """An arbiter in real time whose arm goes where it is told, asked by one source."""

    def __init__(self, bench, contract, source: str) -> None:
        config = {"expects_policy": source in ("policy", "hold"), "drive_in": source == "reset"}
        config["takeover"] = TakeoverConfig(Mode.DEAD_MAN, HandBack.BUTTON)
        self.source, self.contract, self.model = source, contract, model_of(contract)
        self.joints = READY
        pose = (0.5, 0.0, 0.2, *DOWN)
        if self.model is not None:
            position, quat = self.model.tool_pose(READY)
            pose = (*position, *quat)
        self.b = bench(lockstep=False, arm=False, contract=contract, joint_model=self.model, pose=pose, **config)
        self.say_robot()
        assert self.b.arm() == (True, "armed by an operator")
        self.targets = []
        self.began = True
        """Commanding began at the measured pose, and no step was seen since."""

    def say_robot(self, wrong: str = "none") -> None:
        b, pose = self.b, self.b.pose
        pose = {
            "jump": (pose[0] + 0.8, *pose[1:]),
            "nan": (math.nan, *pose[1:]),
            "infinite": (*pose[:6], math.inf),
        }.get(wrong, pose)
        stamp_ns = b.now_ns - (20 * 10**9 if wrong == "old" else 0)
        b._robot_ns = b.now_ns
        for _ in range(2 if wrong == "twice" else 1):
            sample = RobotSample("arm", stamp_ns, pose, False, "base", joint_position_rad=self.joints)
            b.arbiter.on_robot_state(sample, b.mono_ns)

    def tick(self, action, wrong: str = "none") -> None:
        b = self.b
        b.advance_s(0.1)
        self.say_robot(wrong)
        if b.arbiter.faults.count or not b.arbiter.armed:
            self.say_robot()
            b.arm()
            self.began = True
        heard = len(b.said)
        if self.source in ("asynchronous", "reset"):
            b.human(action, sync=False)
        b.observe(episode_id="e0", phase=Phase.RUN)
        if self.source == "synchronous":
            b.human(action, sync=True)
        if self.source == "policy":
            b.policy(action)
        b.advance_s(0.1)
        self.say_robot()
        b.timer()
        for closed in b.said[heard:]:
            self.take(closed)

    def take(self, closed) -> None:
        assert len(closed.limits) == len(closed.margins)
        if closed.target is None:
            return
        before, self.b.pose = self.b.pose, closed.target.pose
        if self.model is not None:
            self.follow(before)
        self.targets.append(closed)

    def follow(self, before) -> None:
        """Joints that do what the model predicts, and the pose that they give."""
        pose = self.b.pose
        joints = list(self.joints)
        for _ in range(3):
            position, quat = self.model.tool_pose(joints)
            inverse = self.model._at_target(JointSample(joints, (*position, *quat), 0), position, quat)[1]
            error = step_between(position, quat, pose[:3], pose[3:])
            joints = [float(a + b) for a, b in zip(joints, inverse @ error, strict=True)]
        self.joints = tuple(joints)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("limit", LIMITS)
def test_each_limit_holds_for_each_source(bench, limit, source):
    """It is named, with what was left of it, and the source moved the arm as far as it may; a hold moves nothing."""
    driven = Driven(bench, limited(**LIMITS[limit]), source)
    for _ in range(12):
        driven.tick(FOLD.get(limit, PUSH))
    if source == "hold":
        assert len({closed.target.pose for closed in driven.targets}) == 1
        return
    said = [closed for closed in driven.b.said if closed.source is not None and closed.limits]
    met = [name.partition(":")[0] for closed in said for name in closed.limits]
    assert limit in met, met
    expected = {"policy": Source.POLICY, "reset": Source.RESET}.get(source, Source.HUMAN)
    assert {closed.source for closed in said} == {expected}
    margins = [m for c in said for name, m in zip(c.limits, c.margins, strict=True) if name.partition(":")[0] == limit]
    assert min(margins) < 0.0, "what was asked for was beyond it"


@pytest.mark.parametrize("source", SOURCES)
@settings(max_examples=8, deadline=None)
@given(
    sections=st.sampled_from([{"space": SPACE}, {"motion": MOTION}, {"space": SPACE, "motion": MOTION}]),
    ticks=st.lists(
        st.tuples(st.lists(st.floats(-1.5, 1.5), min_size=6, max_size=6), st.sampled_from(WRONG)), max_size=10
    ),
)
def test_whatever_is_measured_no_target_leaves_the_limits(bench, source, sections, ticks):
    contract = limited(**sections)
    driven = Driven(bench, contract, source)
    known, old, before = TargetLimits.of(contract), None, None
    anew = known._replace(step_change_m=math.inf, turn_change_rad=math.inf)  # the motion before is not known here
    for action, wrong in ticks:
        count = len(driven.targets)
        driven.tick(action, wrong)
        for closed in driven.targets[count:]:
            pose = closed.target.pose
            if old is not None:
                wanted = anew if driven.began else known
                assert violation(wanted, old, pose, closed.target.gripper_width_m, before) is None
                driven.began = False
            before, old = old, pose


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("load", [(0, 0, -31.0, 0, 0, 0), (0, 0, 0, 3.1, 0, 0)])
def test_a_load_on_the_tool_latches_whoever_moves_it(bench, source, load):
    contract = limited(wrench={"max_force_n": 30.0, "max_torque_nm": 3.0})
    b = bench(lockstep=False, arm=False, contract=contract, expects_policy=source == "policy")
    sample = RobotSample("arm", b.now_ns, b.pose, False, "base", external_wrench=(0.0, 0.0, -29.0, 0.0, 0.0, 2.9))
    b.arbiter.on_robot_state(sample, b.mono_ns)
    assert b.arm()[0]
    b.observe()
    b.arbiter.on_robot_state(sample._replace(external_wrench=load), b.mono_ns)
    assert b.faults() == ["wrench_limit"] and "look at what it touches" in b.arbiter.faults.named()["wrench_limit"]
    b.arbiter.on_robot_state(sample, b.mono_ns)
    assert b.faults() == ["wrench_limit"], "it stays when the load has gone"
    b.human((1.0,) * 6, sync=source == "synchronous") if source != "policy" else b.policy((1.0,) * 6)
    b.advance_s(0.1)
    b.arbiter.on_robot_state(sample._replace(stamp_ns=b.now_ns), b.mono_ns)
    b.timer()
    assert all(closed.target is None or closed.target.pose == b.pose for closed in b.said)


@pytest.mark.parametrize("wrench", [(), (0.0,) * 3, (math.nan,) * 6, (0.0, 0.0, math.inf, 0.0, 0.0, 0.0)])
def test_an_arm_that_measures_no_load_is_not_armed(bench, wrench):
    b = bench(lockstep=False, arm=False, contract=limited(wrench={"max_force_n": 30.0}))
    sample = RobotSample("arm", b.now_ns, b.pose, False, "base", external_wrench=wrench)
    b.arbiter.on_robot_state(sample, b.mono_ns)
    armed, why = b.arm()
    assert not armed and "wrench_unknown" in why
    b.arbiter.on_robot_state(sample._replace(external_wrench=(0.0,) * 6), b.mono_ns)
    assert b.arm()[0]
    b.arbiter.on_robot_state(sample, b.mono_ns)
    assert b.faults() == ["wrench_unknown"]


def test_an_arm_whose_joints_are_unknown_is_not_armed(bench):
    contract = limited(joints=JOINTS)
    b = bench(lockstep=False, arm=False, contract=contract, joint_model=model_of(contract))
    b.robot()
    armed, why = b.arm()
    assert not armed and "joints_unknown" in why


@pytest.mark.parametrize("name", ["floor", "keep_out", "speed", "acceleration"])
def test_a_new_limit_stops_where_the_contract_says_so(bench, name):
    contract = limited(**LIMITS[name])
    reactions = {**contract.limits.on_violation, name: "stop"}
    contract = contract.model_copy(update={"limits": contract.limits.model_copy(update={"on_violation": reactions})})
    driven = Driven(bench, contract, "policy")
    for _ in range(12):
        driven.tick(PUSH)
        if driven.b.faults():
            break
    assert driven.b.faults() == ["limit_stop"] and name in driven.b.arbiter.faults.named()["limit_stop"]


def test_the_tests_that_the_page_names_are_there():
    """Pins: a claim of docs/safety.md whose test was renamed or removed."""
    page = (ROOT / "docs" / "safety.md").read_text()
    named = set(re.findall(r"\b(test_[a-z0-9_]+)`", page)) | set(re.findall(r"`(test_[a-z0-9_]+)`", page))
    written = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        written |= set(re.findall(r"^\s*def (test_\w+)\(", path.read_text(), re.MULTILINE))
    assert len(named) >= 15 and named - written == set()
    for path in re.findall(r"`(tests/[\w/]+\.py)", page):
        assert (ROOT / path).is_file(), path
    rows = page[page.index("| limit |") :].split("\n\n")[0]
    assert set(LIMITS) <= set(re.findall(r"^\| `(\w+)`", rows, re.MULTILINE)), "each limit has its row"
