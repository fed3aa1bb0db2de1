"""Pins: a camera's pose that is not what was planted, or that is told from images which do not show it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from inril_core.contract import Contract, load_contract
from inril_core.contract.definitions.physics import CameraOffset, PhysicsValues
from inril_core.data.episode import Episode
from inril_core.evaluation.sim_to_real.cameras import LEAST_IMAGES_N, CameraFit, CameraFits, fit_cameras
from inril_core.evaluation.sim_to_real.identify import Replay
from inril_core.evaluation.sim_to_real.study import CAMERAS, displaced, record
from inril_core.evaluation.sim_to_real.twin import as_found, write_contract

NOMINAL = load_contract("insert_leg_pixels")
STEPS_N = 15
TOLERANCE_M, TOLERANCE_RAD = 0.0015, 0.004
"""A pixel of either camera is 7 and 14 mrad wide, and 2 mm at least of what it looks at."""


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
    assert (
        (np.abs(off) < np.maximum(5 * error, [0.0003] * 3 + [0.0006] * 3)).all()
        and (error[:3] < TOLERANCE_M).all()
        and (error[3:] < TOLERANCE_RAD).all()
    )
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
    ],
)
def test_images_that_say_too_little_are_refused(
    recordings: list[Episode], states: list[np.ndarray], change: Callable[[np.ndarray], np.ndarray], text: str
) -> None:
    said, fits = refusal(recordings, states, change)
    assert any(part in said for part in text.split("|")), (said, fits)
    assert fits.found == {}


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
