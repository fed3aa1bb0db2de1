"""Pins: a policy of another project that is given, or understood, in other units, frames or signs than its data had."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation as R

from inril_core.contract import Contract, contract_from_text, load_contract
from inril_core.control.observation import observation_vector, split_observations
from inril_core.errors import ConfigError
from inril_core.exchange.convert import convert
from inril_core.exchange.foreign import Foreign
from inril_core.exchange.mapping import ImportMap
from inril_core.exchange.policy_map import Features, PolicyMap, exported_map
from inril_core.exchange.rotations import SIZES, rotation_numbers, rotations

ROTATIONS = {
    "rotvec": lambda r: np.rad2deg(r.as_rotvec()),
    "euler_xyz": lambda r: np.rad2deg(r.as_euler("xyz")),
    "quat_xyzw": lambda r: r.as_quat(),
    "quat_wxyz": lambda r: r.as_quat()[:, [3, 0, 1, 2]],
    "matrix": lambda r: r.as_matrix().reshape(-1, 9),
    "rot6d": lambda r: r.as_matrix()[:, :, :2].transpose(0, 2, 1).reshape(-1, 6),
}
ANGLES = ("rotvec", "euler_xyz")


def image(name: str, required: bool, width_px: int = 16, height_px: int = 16) -> dict:
    sizes = {"width_px": width_px, "height_px": height_px}
    return {"name": name, "camera": name, "required": required, "recorded_in": ["demo"], **sizes}


def a_contract(images: tuple[dict, ...] = (), gripper: bool = False, **changes) -> Contract:
    content = json.loads(load_contract("one_leg_low" if gripper else "insert_leg").text)
    content["observation"] = [
        {"name": "tool_position_m", "shape": [3], "unit": "m", "frame": "base"},
        {"name": "tool_rot6d", "shape": [6], "unit": "1", "frame": "base"},
        {"name": "gripper_width_m", "shape": [1], "unit": "m", "frame": "tool"},
    ]
    return contract_from_text(json.dumps(content | {"images": list(images)} | changes))


def a_map(kind: str = "rotvec", action: dict | None = None, **changes) -> ImportMap:
    end = 3 + SIZES[kind]
    turned = {"unit": "deg" if kind in ANGLES else "1", "rotation": kind}
    values = {
        "contract": "made",
        "rate_hz": 10.0,
        "success": "unknown",
        "observation": {
            "tool_position_m": {"from": "observation.state[0:3]", "unit": "mm", "frame": "base"},
            "tool_rot6d": {"from": f"observation.state[3:{end}]", "frame": "base", **turned},
            "gripper_width_m": {"from": "observation.hand", "unit": "cm", "frame": "tool"},
        },
        "action": action or {"from": "action", "kind": "normalised"},
    }
    return ImportMap.model_validate(values | changes)


def features(kind: str = "rotvec", action_size: int = 6, **more) -> Features:
    return Features(
        {"observation.state": 3 + SIZES[kind], "observation.hand": 1}, more.pop("images", {}), action_size, **more
    )


def recorded(kind: str, actions: np.ndarray, position_m: np.ndarray, turned: R, rate_hz: float = 10.0) -> Foreign:
    """A file of another project: millimetres, rotations of its kind in degrees, the hand's opening in cm."""
    state = np.concatenate([position_m * 1e3, ROTATIONS[kind](turned)], 1)
    hand = np.linspace(0.0, 4.0, len(state))[:, None]
    columns = {"observation.state": state, "observation.hand": hand, "action": actions}
    return Foreign("theirs", columns, rate_hz=rate_hz)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(ROTATIONS)), st.integers(0, 10_000))
def test_the_mapping_of_an_import_turns_observations_back(kind: str, seed: int) -> None:
    """What was imported and is then asked of the policy is what the file held."""
    rng, contract = np.random.default_rng(seed), a_contract()
    turned = R.random(4, random_state=seed)
    file = recorded(kind, rng.uniform(-1, 1, (3, 6)), rng.normal(size=(4, 3)), turned)
    episode = convert(file, a_map(kind), contract, "run", "file", 0).episode
    mapped = PolicyMap(a_map(kind), contract, features(kind))
    for row, observation in enumerate(episode.observations):
        made = mapped.inputs(observation)
        assert made["observation.state"].dtype == np.float32
        np.testing.assert_allclose(made["observation.state"][:3], file.columns["observation.state"][row, :3], atol=1e-3)
        np.testing.assert_allclose(made["observation.hand"], file.columns["observation.hand"][row], atol=1e-5)
        numbers = made["observation.state"][None, 3:].astype(np.float64) * (np.pi / 180 if kind in ANGLES else 1.0)
        apart = rotations(numbers, kind, "made") * turned[row].inv()
        assert apart.magnitude()[0] < 1e-3


DELTA = {"from": "action[0:3]", "unit": "mm", "rotation": "action[3:6]", "rotation_kind": "rotvec"}


@pytest.mark.parametrize(
    ("action", "rate_hz"),
    [
        ({"from": "action", "kind": "normalised"}, 10.0),
        ({**DELTA, "kind": "delta_pose"}, 10.0),
        ({**DELTA, "kind": "delta_pose", "frame": "tool"}, 10.0),
        ({**DELTA, "kind": "absolute_pose"}, 10.0),
        ({**DELTA, "kind": "delta_pose"}, 30.0),
        ({**DELTA, "kind": "absolute_pose"}, 30.0),
        ({**DELTA, "kind": "absolute_pose"}, 5.0),
    ],
)
def test_a_plan_means_what_the_same_rows_of_a_file_mean(action: dict, rate_hz: float) -> None:
    """The arm follows the actions exactly, so that the file's measured poses are those that a plan expects."""
    rng, contract = np.random.default_rng(3), a_contract()
    moves_m, turns = rng.uniform(-0.004, 0.004, (12, 3)), R.from_rotvec(rng.uniform(-0.04, 0.04, (12, 3)))
    position_m, turned = [np.array([0.5, 0.1, 0.2])], [R.random(random_state=5)]
    for step in range(12):
        in_tool = action.get("frame") == "tool"
        position_m.append(position_m[-1] + (turned[-1].apply(moves_m[step]) if in_tool else moves_m[step]))
        turned.append(turned[-1] * turns[step] if in_tool else turns[step] * turned[-1])
    deltas = np.concatenate([moves_m * 1e3, turns.as_rotvec()], 1)
    targets = np.concatenate([np.stack(position_m[1:]) * 1e3, R.concatenate(turned[1:]).as_rotvec()], 1)
    rows = {"normalised": rng.uniform(-1, 1, (12, 6)), "delta_pose": deltas, "absolute_pose": targets}[action["kind"]]
    file = recorded("rotvec", rows, np.stack(position_m), R.concatenate(turned), rate_hz)
    map_ = a_map(action=action, rate_hz=rate_hz, resample=rate_hz != 10.0)
    episode = convert(file, map_, contract, "run", "file", 0).episode
    plan = PolicyMap(map_, contract, features()).plan(rows, episode.observations[0])
    np.testing.assert_allclose(plan, episode.proposed, atol=2e-3)
    assert len(plan) == {10.0: 12, 30.0: 4, 5.0: 24}[rate_hz] and np.abs(plan).max() > 0.05


def test_a_predicted_rotation_need_not_be_of_length_one() -> None:
    """Pins: a network's own quaternions and axes, refused or taken as a stretched rotation."""
    contract = a_contract()
    action = {"from": "action[0:3]", "kind": "delta_pose", "rotation": "action[3:9]", "rotation_kind": "rot6d"}
    mapped = PolicyMap(a_map(action=action), contract, features(action_size=9))
    turn = R.from_rotvec([0.0, 0.0, 0.06])
    row = np.concatenate([[0.005, 0.0, 0.0], 1.2 * ROTATIONS["rot6d"](R.concatenate([turn]))[0]])
    np.testing.assert_allclose(mapped.plan(row[None], mapped.example()), [[0.5, 0, 0, 0, 0, 0.5]], atol=1e-6)
    with pytest.raises(ConfigError, match="is no rot6d: its length"):
        mapped.plan(np.zeros((1, 9)), mapped.example())


def test_a_gripper_closes_at_the_files_own_number() -> None:
    action = {**DELTA, "kind": "delta_pose", "gripper": "action[6]", "gripper_open": 1.0, "gripper_closed": 0.0}
    mapped = PolicyMap(a_map(action=action), a_contract(gripper=True), features(action_size=7))
    plan = mapped.plan(np.array([[0, 0, 0, 0, 0, 0, 1.0], [0, 0, 0, 0, 0, 0, 0.25]]), mapped.example())
    np.testing.assert_allclose(plan[:, 6], [-1.0, 0.5])


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["rotvec", "euler_xyz", "quat_xyzw", "quat_wxyz"]), st.integers(0, 10_000), st.integers(-1, 1))
def test_a_rotation_is_given_the_way_that_the_data_gave_it(kind: str, seed: int, turns: int) -> None:
    """Pins: a gripper that points down has a rotation vector of length pi: its sign flips from tick to tick."""
    turned = R.random(1, random_state=seed)
    plain = rotation_numbers(turned, kind)
    if kind.startswith("quat"):
        wanted = plain if turns >= 0 else -plain
    elif kind == "rotvec":
        wanted = plain + turns * 2.0 * np.pi * plain / np.linalg.norm(plain)
    else:
        wanted = plain + turns * 2.0 * np.pi * np.array([1.0, 0.0, -1.0])
    near = wanted[0] + np.random.default_rng(seed).uniform(-0.05, 0.05, SIZES[kind])
    np.testing.assert_allclose(rotation_numbers(turned, kind, near), wanted, atol=1e-9)
    np.testing.assert_allclose((rotations(wanted, kind, "wanted") * turned.inv()).magnitude(), 0.0, atol=1e-6)


def test_the_training_datas_mean_chooses_the_sign() -> None:
    down = R.from_rotvec([[np.pi - 0.01, 0.0, 0.0]])
    mean = {"observation.state": np.array([0.0, 0.0, 0.0, -179.0, 0.0, 0.0])}
    mapped = PolicyMap(a_map(), a_contract(), features(means=mean))
    row = np.concatenate([np.zeros(3), ROTATIONS["rot6d"](down)[0], np.zeros(1)]).astype(np.float32)
    np.testing.assert_allclose(mapped.inputs(row)["observation.state"][3:], [-180.0 - 0.573, 0.0, 0.0], atol=0.01)


def test_images_go_by_name_and_are_averaged_to_the_policys_size() -> None:
    contract = a_contract(images=(image("front", True), image("side", True, 32, 16)))
    map_ = a_map(images={"front": "observation.images.a", "side": "observation.images.b"})
    sizes = {"observation.images.a": (8, 8), "observation.images.b": (16, 32)}
    mapped = PolicyMap(map_, contract, features(images=sizes))
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    other = np.full((16, 32, 3), 7, np.uint8)
    state, _ = split_observations(contract.image_shapes, mapped.example())
    made = mapped.inputs(observation_vector(contract.image_shapes, state, {"front": pixels, "side": other}))
    wanted = pixels.reshape(8, 2, 8, 2, 3).astype(float).mean((1, 3))
    assert made["observation.images.a"].dtype == np.uint8
    np.testing.assert_allclose(made["observation.images.a"], wanted, atol=1.0)  # rounded once an axis
    np.testing.assert_array_equal(made["observation.images.b"], other)


def test_a_policy_that_scales_images_itself_is_given_them_as_they_are() -> None:
    contract = a_contract(images=(image("front", True, 32, 16),))
    map_, sizes = a_map(images={"front": "observation.images.a"}), {"observation.images.a": (8, 8)}
    with pytest.raises(ConfigError, match=r"images.front: is 32x16, the policy's observation.images.a is 8x8"):
        PolicyMap(map_, contract, features(images=sizes))
    mapped = PolicyMap(map_, contract, features(images=sizes, scales_images=True))
    assert mapped.inputs(mapped.example())["observation.images.a"].shape == (16, 32, 3)


@pytest.mark.parametrize("gripper", [False, True])
def test_a_policy_that_was_trained_on_an_export_needs_no_mapping(gripper: bool) -> None:
    contract = a_contract(images=(image("front", True), image("side", False)), gripper=gripper)
    sizes, size = {"observation.images.front": (16, 16)}, contract.action_size
    of_export = Features({"observation.state": 10}, sizes, size, action_range=(-np.ones(size), np.ones(size)))
    mapped = PolicyMap(exported_map("made", contract, of_export), contract, of_export)
    row = mapped.example()
    row[:3] = 0.1, 0.2, 0.3
    made = mapped.inputs(row)
    np.testing.assert_array_equal(made["observation.state"], row[:10])
    assert made["observation.images.front"].shape == (16, 16, 3)
    plan = np.random.default_rng(0).uniform(-1, 1, (5, size)).astype(np.float32)
    np.testing.assert_array_equal(mapped.plan(plan, row), plan)


def changed_map(field: str, **changes) -> ImportMap:
    values = a_map().model_dump(by_alias=True)
    values["observation"][field] |= changes
    return ImportMap.model_validate(values)


SIDE = {"observation.images.side": (16, 16)}
MISSPELT = changed_map("gripper_width_m", **{"from": "observation.hnd"})
JOINTS = a_map(observation={"joints": {"from": "observation.state", "unit": "rad", "frame": "base"}})


@pytest.mark.parametrize(
    ("message", "map_", "given"),
    [
        (r"observation.state\[6:14\]: the policy needs it", a_map(), {"numbers": {"observation.state": 14}}),
        (r"observation.hand\[0:1\]: .*names observation.hnd", MISSPELT, {}),
        ("observation.hand.*has 1 numbers", changed_map("gripper_width_m", **{"from": "observation.hand[0:2]"}), {}),
        ("are 2 numbers, the field gives 3", changed_map("tool_position_m", **{"from": "observation.state[0:2]"}), {}),
        ("frame 'world', the contract's is in 'base'", changed_map("tool_position_m", frame="world"), {}),
        ("unit = 'rad', the contract's is 'm'", changed_map("tool_position_m", unit="rad"), {}),
        ("an angle is in rad or deg", changed_map("tool_rot6d", unit="1"), {}),
        ("observation.joints: the contract has no such field", JOINTS, {}),
        ("observation.images.side: the policy needs it", a_map(), {"images": SIDE}),
        ("not `required: true`", a_map(images={"side": "observation.images.side"}), {"images": SIDE}),
        ("images.back: the contract has no such image", a_map(images={"back": "observation.x"}), {"images": SIDE}),
        ("action: the policy's has 8 numbers, the contract's 6 .*joints", a_map(), {"action_size": 8}),
        ("from -2.9 to 2.9.*joints", a_map(), {"action_range": (np.full(6, -2.9), np.full(6, 2.9))}),
        ("action.rotation: is missing", a_map(action={"from": "action[0:3]", "kind": "delta_pose"}), {}),
        ("4 numbers; rotvec has 3", a_map(action={**DELTA, "kind": "delta_pose", "rotation": "action[2:6]"}), {}),
        ("has no column 'actions'", a_map(action={"from": "actions", "kind": "normalised"}), {}),
        ("does not say its rate", a_map(rate_hz=None), {}),
        ("is at 30 Hz, the contract at 10 Hz", a_map(rate_hz=30.0), {}),
    ],
)  # fmt: skip
def test_what_cannot_be_mapped_is_refused_by_name(message: str, map_: ImportMap, given: dict) -> None:
    contract = a_contract(images=(image("front", True), image("side", False)))
    values = {"numbers": {"observation.state": 6, "observation.hand": 1}, "images": {}, "action_size": 6} | given
    with pytest.raises(ConfigError, match=message):
        PolicyMap(map_, contract, Features(**values))


def test_an_absolute_pose_needs_to_know_where_the_tool_is() -> None:
    content = json.loads(a_contract().text)
    content["observation"] = content["observation"][1:]
    action = {**DELTA, "kind": "absolute_pose"}
    values = a_map(action=action).model_dump(by_alias=True)
    del values["observation"]["tool_position_m"]
    given = Features({"observation.hand": 1}, {}, 6)
    with pytest.raises(ConfigError, match="no tool_position_m, from which the first step starts"):
        PolicyMap(ImportMap.model_validate(values), contract_from_text(json.dumps(content)), given)


def test_what_the_policy_does_not_look_at_is_told_and_left_out() -> None:
    contract = a_contract(images=(image("front", True),))
    mapped = PolicyMap(
        a_map(images={"front": "observation.images.a"}), contract, Features({"observation.hand": 1}, {}, 6)
    )
    assert mapped.left_out == ["observation.state[0:3]", "observation.state[3:6]", "observation.images.a"]
    assert set(mapped.inputs(mapped.example())) == {"observation.hand"}


def test_a_pose_of_the_mapping_gives_what_no_field_does() -> None:
    pose = {
        "position": "observation.pose[0:3]",
        "unit": "cm",
        "rotation": "observation.pose[3:7]",
        "rotation_kind": "quat_wxyz",
    }
    map_ = a_map(observation={}, tool_pose=pose)
    mapped = PolicyMap(map_, a_contract(), Features({"observation.pose": 7}, {}, 6))
    row = mapped.example()
    row[:3] = 0.1, 0.2, 0.3
    np.testing.assert_allclose(mapped.inputs(row)["observation.pose"], [10, 20, 30, 1, 0, 0, 0], atol=1e-5)
