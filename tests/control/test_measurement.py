"""Pins: a measurement or an image that ends the node that hears it, or reaches a policy although it cannot be."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inril_common.convert import array_to_image, image_to_array
from sensor_msgs.msg import Image

from inril_core.contract import load_contract
from inril_core.control.measurement import BadMeasurement, check_frame, check_pose
from inril_core.control.observation import PartMissing, StateVector, check_crop, prepare_image
from inril_core.control.pixels import ENCODINGS, check_layout, rgb_pixels

TOOL = np.array([0.5, 0.0, 0.2, 1.0, 0.0, 0.0, 0.0])
PARTS = {
    "leg": np.array([0.5, 0.0, 0.15, 1.0, 0.0, 0.0, 0.0]),
    "hole": np.array([0.5, 0.0, 0.05, 0.0, 0.0, 0.0, 1.0]),
}
VECTORS = {task: StateVector(load_contract(task)) for task in ("insert_leg", "one_leg:low")}
FIELD = (
    load_contract("insert_leg").images[0].model_copy(update={"crop_px": (2, 1, 8, 8), "width_px": 8, "height_px": 8})
)

anything = st.floats(allow_nan=True, allow_infinity=True, width=64)
poses = st.lists(anything, min_size=7, max_size=7).map(np.array)


def with_numbers(pose: np.ndarray, **numbers: float) -> np.ndarray:
    changed = pose.copy()
    for name, value in numbers.items():
        changed[["x", "y", "z", "qx", "qy", "qz", "qw"].index(name)] = value
    return changed


BAD_POSES = {
    "NaN position": with_numbers(TOOL, x=math.nan),
    "huge position": with_numbers(TOOL, y=1e150),
    "never filled": np.zeros(7),
    "NaN quaternion": with_numbers(TOOL, qx=math.nan, qw=math.nan),
    "infinite quaternion": with_numbers(TOOL, qx=math.inf),
    "quaternion of length 2": with_numbers(TOOL, qx=2.0),
}


@pytest.mark.parametrize("task", VECTORS)
@pytest.mark.parametrize("name", BAD_POSES)
@pytest.mark.parametrize("whose", ["tool_pose", "leg", "hole"])
def test_a_pose_that_cannot_be_is_named(task: str, name: str, whose: str) -> None:
    parts, tool = dict(PARTS), TOOL
    if whose == "tool_pose":
        tool = BAD_POSES[name]
    else:
        parts[whose] = BAD_POSES[name]
    with pytest.raises(BadMeasurement, match=rf"{whose}: (position|quaternion)"):
        VECTORS[task](tool, np.zeros(6), 0.03, parts)


@given(
    tool=poses, leg=poses, hole=poses, twist=st.lists(anything, min_size=6, max_size=6).map(np.array), width=anything
)
def test_nothing_but_bad_measurement_leaves_it_and_what_it_gives_is_finite(tool, leg, hole, twist, width) -> None:
    for vector in VECTORS.values():
        try:
            state = vector(tool, twist, width, {"leg": leg, "hole": hole})
        except BadMeasurement:
            continue
        assert np.isfinite(state).all()


def test_features_from_outside_may_raise_what_they_like() -> None:
    def stumbles(*_: object) -> dict[str, np.ndarray]:
        raise ZeroDivisionError("float division by zero")

    with pytest.raises(BadMeasurement, match="features: ZeroDivisionError"):
        StateVector(load_contract("insert_leg"), stumbles)(TOOL, np.zeros(6), 0.0, PARTS)


def test_a_part_that_nobody_uses_may_be_lost() -> None:
    """A tracker that sees a third part badly must not stop the task."""
    vector = StateVector(load_contract("insert_leg"))
    usable = vector.usable_parts({**PARTS, "screw": np.zeros(7)})
    assert usable.keys() == {"leg", "hole"}
    with pytest.raises(PartMissing, match=r"part leg: position.*'leg' has no pose"):
        vector.usable_parts({**PARTS, "leg": BAD_POSES["NaN position"]})
    with pytest.raises(PartMissing, match=r"'leg' has no pose \(named: \['hole', 'lag'\]\)"):
        vector.usable_parts({"lag": PARTS["leg"], "hole": PARTS["hole"]})


def test_a_state_that_was_never_filled_is_refused() -> None:
    """ROS fills a quaternion with w = 1, so it is a unit one."""
    with pytest.raises(BadMeasurement, match="nobody filled"):
        VECTORS["insert_leg"](np.array([0.0, 0, 0, 0, 0, 0, 1]), np.zeros(6), 0.03, PARTS)


def test_quaternions_that_a_filter_shortened_a_little_are_taken() -> None:
    check_pose("leg", with_numbers(TOOL, qx=0.9999))


@pytest.mark.parametrize("frame_id", ["", "/base", "world", "panda_link0", "x" * 10_000])
def test_another_frame_is_refused_by_name(frame_id: str) -> None:
    with pytest.raises(BadMeasurement, match="'base'") as refused:
        check_frame(frame_id, "base")
    assert len(str(refused.value)) < 400


def encoded(pixels: np.ndarray, encoding: str, padding: int, big_endian: bool) -> bytes:
    """uint8[H, W, 3] as a camera would send it, the other way round than the code under test does it."""
    columns = {"r": pixels[..., 0], "g": pixels[..., 1], "b": pixels[..., 2], "a": np.full(pixels.shape[:2], 255)}
    letters = "r" if encoding.startswith("mono") else encoding.rstrip("0123456789")
    values = np.stack([columns[letter] for letter in letters], axis=-1)
    if encoding.endswith("16"):
        upper = values.astype(np.uint32)
        rows = (upper * 256 + (upper + 91) % 256).astype(">u2" if big_endian else "<u2")
    else:
        rows = values.astype(np.uint8)
    return b"".join(row.tobytes() + bytes([7] * padding) for row in rows)


@given(
    encoding=st.sampled_from(sorted(ENCODINGS)),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    padding=st.integers(0, 5),
    big_endian=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_encoding_gives_the_colours_that_were_sent(encoding, size, padding, big_endian, seed) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    if encoding.startswith("mono"):
        pixels = np.repeat(pixels[..., :1], 3, axis=2)
    data = encoded(pixels, encoding, padding, big_endian)
    found = rgb_pixels(encoding, *size, len(data) // size[0], big_endian, data)
    np.testing.assert_array_equal(found, pixels)
    np.testing.assert_array_equal(image_to_array(array_to_image(found, Image().header.stamp, "x")), pixels)


@given(
    encoding=st.one_of(st.sampled_from([*sorted(ENCODINGS), "", "8UC3", "bayer_rggb8", "16UC1"]), st.text(max_size=50)),
    height=st.integers(0, 2**32 - 1),
    width=st.integers(0, 2**32 - 1),
    step=st.integers(0, 2**32 - 1),
    data=st.binary(max_size=200),
)
def test_any_other_image_is_refused_by_name(encoding, height, width, step, data) -> None:
    try:
        pixels = rgb_pixels(encoding, height, width, step, False, data)
    except BadMeasurement as error:
        assert 0 < len(str(error)) < 400
    else:
        assert pixels.shape == (height, width, 3) and pixels.dtype == np.uint8


@pytest.mark.parametrize(
    ("step", "length", "reason"),
    [(14, 56, "step = 14"), (15, 59, "59 bytes of data"), (15, 61, "61 bytes of data"), (0, 60, "step = 0")],
)
def test_a_buffer_that_does_not_fit_is_refused(step: int, length: int, reason: str) -> None:
    with pytest.raises(BadMeasurement, match=reason):
        check_layout("rgb8", 4, 5, step, length)


@pytest.mark.parametrize(("height", "width", "fits"), [(9, 10, True), (8, 10, False), (9, 9, False), (1, 1, False)])
def test_an_image_smaller_than_its_crop_is_refused(height: int, width: int, fits: bool) -> None:
    if fits:
        check_crop(FIELD, height, width)
        assert prepare_image(np.zeros((height, width, 3), np.uint8), FIELD).shape == (8, 8, 3)
        return
    with pytest.raises(BadMeasurement, match="crop_px"):
        check_crop(FIELD, height, width)
    with pytest.raises(BadMeasurement, match="crop_px"):
        prepare_image(np.zeros((height, width, 3), np.uint8), FIELD)


def test_a_task_whose_features_look_at_no_part_says_so() -> None:
    """Pins: a task without parts that waits for ever for somebody to publish their poses."""
    contract = load_contract("insert_leg")
    names = {field.name: np.zeros(field.size) for field in contract.observation}

    def broken(*_: object) -> dict[str, np.ndarray]:
        raise ZeroDivisionError

    assert StateVector(contract).looks_at_parts
    assert StateVector(contract, broken).looks_at_parts, "of features that fail nothing is known"
    vector = StateVector(contract, lambda *_: names)
    assert not vector.looks_at_parts and vector(TOOL, np.zeros(6), 0.0, {}).shape == (contract.state_size,)
