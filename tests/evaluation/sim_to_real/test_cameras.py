"""Pins: a camera's pose that is not what was planted, or that is told from images which do not show it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from inril_core.contract import Contract, load_contract
from inril_core.contract.definitions.physics import CameraOffset, PhysicsValues
from inril_core.data.episode import Episode
from inril_core.evaluation.sim_to_real import cameras
from inril_core.evaluation.sim_to_real.cameras import (
    LARGEST_ERROR,
    LEAST_IMAGES_N,
    STEP,
    CameraFit,
    CameraFits,
    Unclear,
    View,
    fit_camera,
    fit_cameras,
)
from inril_core.evaluation.sim_to_real.identify import Replay
from inril_core.evaluation.sim_to_real.study import CAMERAS, displaced, record
from inril_core.evaluation.sim_to_real.twin import as_found, write_contract
from inril_core.sim.render import RenderError

NOMINAL = load_contract("insert_leg_pixels")
STEPS_N = 15
TOLERANCE_M, TOLERANCE_RAD = 0.0015, 0.004
"""A pixel of either camera is 7 and 14 mrad wide, and 2 mm at least of what it looks at."""
LARGEST_ERROR_M, LARGEST_ERROR_RAD = 0.0003, 0.0015
"""Standard errors that these images must reach; a pose is off by four of them at most."""


def numbers(offset: CameraOffset) -> np.ndarray:
    return np.array([*offset.offset_m, *offset.rotation_rad])


@pytest.fixture(scope="module")
def recordings() -> list[Episode]:
    """Of a cell whose cameras stand elsewhere, without its state; images with noise and changing brightness."""
    return record(displaced(NOMINAL, PhysicsValues(), CAMERAS), range(100, 103), np.random.default_rng(3))


@pytest.fixture(scope="module")
def states(recordings: list[Episode]) -> list[np.ndarray]:
    return Replay(NOMINAL, recordings, STEPS_N).states(None)


@pytest.fixture(scope="module")
def fits(recordings: list[Episode], states: list[np.ndarray]) -> CameraFits:
    return fit_cameras(NOMINAL, recordings, states)


@pytest.mark.parametrize("camera", sorted(CAMERAS))
def test_a_planted_pose_is_recovered(fits: CameraFits, camera: str) -> None:
    assert fits.refused == {}
    found, planted = fits.found[camera], numbers(CAMERAS[camera])
    off, error = numbers(found.value) - planted, numbers(found.error)
    assert np.abs(off[:3]).max() < TOLERANCE_M and np.abs(off[3:]).max() < TOLERANCE_RAD, (off, error)
    assert (np.abs(off) < 4 * error).all(), off / error
    assert (error[:3] < LARGEST_ERROR_M).all() and (error[3:] < LARGEST_ERROR_RAD).all(), error
    assert found.rms < 0.5 * found.rms_before


def test_the_twin_stands_its_cameras_where_they_were_found(fits: CameraFits, tmp_path) -> None:
    twin = load_contract(write_contract(tmp_path / "twin.yaml", as_found(NOMINAL, None, fits)))
    ranges, found = twin.sim.physics.cameras["close"], fits.found["close"]
    for bounds, values, errors in zip((ranges.offset_m, ranges.rotation_rad), found.value, found.error, strict=True):
        np.testing.assert_allclose(np.mean(bounds, axis=1), values, atol=1e-12)
        np.testing.assert_allclose(np.ptp(bounds, axis=1), 4 * np.array(errors), rtol=1e-9)
    assert twin.sim.physics.gain_scale == (1.0, 1.0) and twin.interface_digest == NOMINAL.interface_digest
    kept = as_found(twin, None, CameraFits({"wrist": found}, {"close": "flat"})).sim.physics.cameras
    assert kept["close"] == ranges and kept["wrist"] == found.ranges()


def refusal(
    recordings: list[Episode], states: list[np.ndarray], change: Callable[[np.ndarray], np.ndarray]
) -> tuple[str, CameraFits]:
    """What is said of `close`, whose images are changed."""
    changed = [
        dataclasses.replace(e, images={**e.images, "close": change(np.array(e.images["close"]))}) for e in recordings
    ]
    found = fit_cameras(_only(NOMINAL, "close"), changed, states)
    return found.refused.get("close", ""), found


def _only(contract: Contract, camera: str) -> Contract:
    content = contract.model_dump(mode="json")
    return Contract.model_validate({**content, "images": [i for i in content["images"] if i["camera"] == camera]})


NOISE = np.random.default_rng(0).normal(0.0, 5.0, (84, 84, 3))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda images: np.full_like(images, 90), "the images are flat: they vary by 0.0 grey levels"),
        (lambda images: (NOISE + 90).clip(0, 255).astype(np.uint8)[None].repeat(len(images), 0), "are flat"),
        (lambda images: images[:, ::-1, ::-1].copy(), "do not look like what the simulated cell draws"),
        (lambda images: 255 - images, "do not look like"),
        (lambda images: np.roll(images, 30, axis=2), "within 50 mm and 0.2 rad|do not look like"),
        (lambda images: images[:, :80].copy(), "uint8[80, 84, 3], uint8[84, 84, 3] in the contract; give the contract"),
    ],
)
def test_images_that_say_too_little_are_refused(
    recordings: list[Episode], states: list[np.ndarray], change: Callable[[np.ndarray], np.ndarray], text: str
) -> None:
    said, fits = refusal(recordings, states, change)
    assert any(part in said for part in text.split("|")), (said, fits)
    assert fits.found == {}


def test_numbers_that_are_none_are_refused(states: list[np.ndarray]) -> None:
    field = next(image for image in NOMINAL.images if image.camera == "close")
    views = [View(field, state, np.full((84, 84, 3), np.nan)) for state in states[0]]  # type: ignore[arg-type]
    with pytest.raises(
        Unclear, match=r"is float64\[84, 84, 3\], uint8\[84, 84, 3\] in the contract; give the contract"
    ):
        fit_camera(NOMINAL, "close", views)
    image = np.random.default_rng(0).integers(5, 250, (84, 84, 3)).astype(np.uint8)
    views = [View(field, np.full_like(state, np.nan), image) for state in states[0]]
    with pytest.raises(RenderError, match="finite numbers; give the contract that it was recorded with"):
        fit_camera(NOMINAL, "close", views)


def test_white_parts_of_an_image_count_for_nothing(states: list[np.ndarray]) -> None:
    """What is brighter than a camera can say moved the pose of a camera on the hand by its edges."""
    field = next(image for image in NOMINAL.images if image.camera == "close")
    image = np.random.default_rng(0).integers(5, 250, (84, 84, 3)).astype(np.uint8)
    image[30:50, 30:50] = 255
    pictures = cameras._Pictures(NOMINAL, "close", [View(field, states[0][0], image)])
    errors = pictures.errors(np.zeros(6), cameras.FINE_PX).reshape(84, 84, 3)
    pictures.close()
    assert (errors[30:50, 30:50] == 0.0).all() and (errors[28:52, 35:45] == 0.0).all(), "also what is blurred with it"
    assert (errors[:24] != 0.0).mean() > 0.99


def test_few_images_are_refused(recordings: list[Episode], states: list[np.ndarray]) -> None:
    few = [state[: LEAST_IMAGES_N - 1] for state in states[:1]]
    assert "3 images whose state" in fit_cameras(NOMINAL, recordings[:1], few).refused["close"]


def test_recordings_without_images_say_nothing(recordings: list[Episode], states: list[np.ndarray]) -> None:
    blind = [dataclasses.replace(episode, images={}, image_steps={}) for episode in recordings]
    assert fit_cameras(NOMINAL, blind, states) == CameraFits()


def test_a_recorded_state_comes_before_a_replayed_one(recordings: list[Episode], states: list[np.ndarray]) -> None:
    """Rows of it that are not known are left out."""
    qpos = np.full((recordings[0].steps + 1, states[0].shape[1]), np.nan)
    qpos[:3] = states[0][:3]
    said = fit_cameras(NOMINAL, [dataclasses.replace(recordings[0], qpos=qpos)], states[:1]).refused
    assert "3 images whose state" in said["close"]
    other = dataclasses.replace(recordings[0], qpos=np.zeros((recordings[0].steps + 1, 5)))
    assert "qpos of shape (5,)" in fit_cameras(NOMINAL, [other], states[:1]).refused["close"]


def test_a_camera_that_the_cell_does_not_have_is_named(recordings: list[Episode], states: list[np.ndarray]) -> None:
    content = NOMINAL.model_dump(mode="json")
    content["images"][0]["camera"] = "side"
    content["images"] = content["images"][:1]
    said = fit_cameras(Contract.model_validate(content), recordings, states)
    assert "no such camera; it has front, overview, close, wrist" in said.refused["side"] and said.found == {}


def test_ranges_are_two_standard_errors_either_way() -> None:
    fit = CameraFit(CameraOffset((0.01, 0.0, 0.0)), CameraOffset((0.001, 0.0, 0.0), (0.0, 0.0, 0.002)), 9.0, 2.0, 12)
    ranges = fit.ranges()
    assert ranges.offset_m[0] == pytest.approx((0.008, 0.012))
    assert ranges.rotation_rad[2] == pytest.approx((-0.004, 0.004))


class Straight(cameras._Pictures):
    """Images that change in proportion to the pose, with noise of `LEVELS` grey levels, of a camera that stands at
    `planted`: what comes of them can be computed."""

    LEVELS, SIZE_PX = 2.0, 24

    def __init__(self, planted: np.ndarray, slopes: np.ndarray, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self._planted, self._views = planted, [None] * 9  # type: ignore[list-item]
        shape = (9, self.SIZE_PX, self.SIZE_PX, 3)
        self._slopes = rng.normal(0.0, 1.0, (*shape, 6)) * slopes
        self._noise = rng.normal(0.0, self.LEVELS, shape)
        images = rng.normal(0.0, 100.0, shape)
        self.recorded = {px: list(images) for px in (*cameras.COARSE_PX, cameras.FINE_PX)}

    def errors(self, x: np.ndarray, blur_px: float, every: int = 1, times: int = 1) -> np.ndarray:
        off = (self._planted - x) / STEP
        return (self._noise + self._slopes @ off)[::every].ravel()

    def close(self) -> None:
        pass


def straight(monkeypatch: pytest.MonkeyPatch, planted: np.ndarray, slopes: object, seed: int = 0) -> CameraFit:
    images = Straight(planted, np.asarray(slopes), seed)
    monkeypatch.setattr(cameras, "_Pictures", lambda *_: images)
    return fit_camera(NOMINAL, "close", [None] * 9)  # type: ignore[list-item]


PLANTED = np.array([0.008, -0.003, 0.002, 0.004, 0.0175, -0.006])


def test_a_standard_error_is_the_error_s_own_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over 8 noises: off by one standard error (rms), which is little more than what least squares would have."""
    slopes = np.array([1.0, 2.0, 3.0, 1.0, 2.0, 3.0])
    off, said = [], []
    for seed in range(8):
        found = straight(monkeypatch, PLANTED, slopes, seed)
        off.append(numbers(found.value) - PLANTED)
        said.append(numbers(found.error))
    assert 0.8 < np.sqrt(np.mean((np.array(off) / said) ** 2)) < 1.25  # 48 numbers: 1 +- 0.1
    least = STEP * Straight.LEVELS / slopes / np.sqrt(9 * Straight.SIZE_PX**2 * 3)  # of least squares
    ratio = np.mean(said, axis=0) / least
    assert ((ratio > 0.9) & (ratio < 1.4)).all(), ratio


@pytest.mark.parametrize(
    ("planted", "slopes", "text"),
    [
        (PLANTED, [1, 1, 1, 0, 1, 1], "the same when the camera moves in some direction.*record images in which more"),
        (PLANTED, [1, 1, 1e-3, 1, 1, 1], "do not tell the offset in z.* 10 are taken; record images in which more is"),
        (PLANTED, [1, 1, 1, 1, 1e-3, 1], "do not tell the rotation in y.* 30 are taken; record images in which more"),
        (np.array([0, 0.08, 0, 0, 0, 0]), [1] * 6, "within 50 mm and 0.2 rad.*measure the pose by `inril calibrate"),
        (np.array([0, 0, 0, 0, 0, -0.3]), [1] * 6, "within 50 mm and 0.2 rad.*measure the pose by `inril calibrate"),
        (np.array([0.2, 0.2, 0, 0, 0, 0]), [9] * 6, "do not look like.*measure the pose by `inril calibrate hand-eye`"),
    ],
)
def test_a_pose_that_cannot_be_told_is_refused_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, planted: np.ndarray, slopes: list[float], text: str
) -> None:
    with pytest.raises(Unclear, match=text):
        straight(monkeypatch, planted, slopes)


def test_an_error_that_is_no_number_is_not_small(monkeypatch: pytest.MonkeyPatch) -> None:
    error = np.where(np.arange(6) == 4, np.nan, 0.5 * LARGEST_ERROR)
    monkeypatch.setattr(cameras, "_fine", lambda pictures, x: (x, pictures.errors(x, cameras.FINE_PX), error))
    with pytest.raises(Unclear, match="do not tell the rotation in y"):
        straight(monkeypatch, PLANTED, [1] * 6)
