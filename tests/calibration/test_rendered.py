"""Pins: on rendered boards, whose truth is known, the whole way from pixels to results is right."""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from inril_bringup import cli

from inril_core.calibration import base_tag, intrinsics, rigid
from inril_core.calibration.board import load_board
from inril_core.calibration.camera import Camera
from inril_core.calibration.rendered import BoardCamera, random_views
from inril_core.calibration.stored import read_stored
from inril_core.calibration.tags import TagLayout, find_tags, load_layout, locate
from tests.calibration.made_poses import T_of

ROOT = Path(__file__).resolve().parents[2]
BOARD = ROOT / "calibration" / "boards" / "charuco_8x6_30mm.yaml"


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Camera, np.ndarray]:
    """A folder of 16 images with blur and noise, the camera's truth, and the board's poses."""
    folder = tmp_path_factory.mktemp("shots")
    rng = np.random.default_rng(0)
    board = load_board(BOARD)
    with BoardCamera(board) as eye:
        views = random_views(board, eye.camera, rng, 16, 0.6)
        for i, T in enumerate(views):
            image = eye.image(T, rng, blur_px=0.8, noise=5.0)
            assert cv2.imwrite(str(folder / f"{i:02d}.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        return folder, eye.camera, views


def test_corners_are_found_where_the_camera_sees_them(shots: tuple[Path, Camera, np.ndarray]) -> None:
    folder, camera, views = shots
    board, off = load_board(BOARD), []
    for i, T in enumerate(views):
        corners, numbers = board.find(cv2.imread(str(folder / f"{i:02d}.png")))
        off.append(corners - camera.project(rigid.apply(T, board.points[numbers])))
    whole = np.concatenate(off)
    assert len(whole) > 0.7 * len(views) * len(board.points)
    assert np.abs(whole.mean(axis=0)).max() < 0.03 and whole.std() < 0.1


def test_intrinsics_from_images(
    shots: tuple[Path, Camera, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, camera, _ = shots
    bad = tmp_path / "shots"
    bad.mkdir()
    for path in folder.iterdir():
        (bad / path.name).write_bytes(path.read_bytes())
    (bad / "broken.png").write_bytes(b"no image")
    grey = np.full((480, 640), 128, np.uint8)
    cv2.imwrite(str(bad / "empty.png"), grey)
    # a print that was bent: the right half of an image moved
    bent = cv2.imread(str(folder / "03.png"))
    bent[:, 330:] = np.roll(bent[:, 330:], 9, axis=0)
    cv2.imwrite(str(bad / "bent.png"), bent)
    out = tmp_path / "intrinsics_front.yaml"
    words = ["calibrate", "intrinsics", "--images", str(bad), "--board", str(BOARD), "--json", "--out", str(out)]
    with pytest.raises(SystemExit) as end:
        cli.main([*words, "--camera", "front", "--serial", "42", "--report", str(tmp_path / "report")])
    found = json.loads(capsys.readouterr().out)
    assert end.value.code == 0
    K = np.array(found["K"])
    assert K[0, 0] == pytest.approx(camera.K[0, 0], rel=0.005) and K[1, 1] == pytest.approx(camera.K[1, 1], rel=0.005)
    assert np.abs(K[:2, 2] - camera.K[:2, 2]).max() < 3.0
    assert set(found["rejected"]) == {"broken.png", "empty.png", "bent.png"}
    assert found["held_out_px"] < 0.2
    stored = read_stored(out)
    assert stored.intrinsics is not None and stored.intrinsics.K[0][0] == K[0, 0]
    assert stored.camera is not None and stored.camera.serial == "42" and stored.board == "charuco_8x6_30mm"
    assert (tmp_path / "report" / "corners.png").stat().st_size > 1000


def test_hand_eye_from_images(shots: tuple[Path, Camera, np.ndarray]) -> None:
    from inril_core.calibration.hand_eye import calibrate
    from inril_core.calibration.hand_eye_data import HandEyeData

    folder, camera, views = shots
    board = load_board(BOARD)
    X, Y = T_of([0.1, -0.2, 1.6], [0.05, -0.03, 0.06]), T_of([0.05, 0.1, 0.7], [0.5, 0.1, 0.02])
    poses, corners, everywhere = [], [], set(range(len(board.points)))
    seen = [board.find(cv2.imread(str(folder / f"{i:02d}.png"))) for i in range(len(views))]
    for _, numbers in seen:
        if len(numbers) > 0.7 * len(board.points):
            everywhere &= set(numbers.tolist())
    common = np.array(sorted(everywhere))
    for T, (found, numbers) in zip(views, seen, strict=True):
        if len(numbers) > 0.7 * len(board.points):
            corners.append(found[[int(np.flatnonzero(numbers == k)[0]) for k in common]])
            poses.append(rigid.inverse(X @ T @ rigid.inverse(Y)))
    data = HandEyeData(np.array(poses), np.array(corners), board.points[common], camera, "eye_in_hand")
    distance_m, angle = rigid.difference(calibrate(data).T, X)
    assert distance_m < 1e-3 and math.degrees(angle) < 0.1


def layout_image(layout: TagLayout, camera: Camera, T_camera_body: np.ndarray, body: str = "base") -> np.ndarray:
    """uint8[480, 640]: the tags of a body, drawn by a homography each, four times finer and averaged."""
    fine = 4
    canvas = np.full((480 * fine, 640 * fine), 200, np.uint8)
    dictionary = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_APRILTAG_36h11)
    for number, tag in layout.bodies[body].items():
        side = 200
        marker = np.full((side + 100, side + 100), 255, np.uint8)
        marker[50:-50, 50:-50] = cv2.aruco.generateImageMarker(dictionary, number, side)
        # pixels count from their middles: the black square's edge lies half a pixel outside of its outer pixels
        source = np.array([[49.5, 49.5], [249.5, 49.5], [249.5, 249.5], [49.5, 249.5]], np.float32)
        target = camera.project(rigid.apply(T_camera_body, tag.corners))
        H = cv2.getPerspectiveTransform(source, (fine * target + 0.5 * (fine - 1)).astype(np.float32))
        warped = cv2.warpPerspective(marker, H, (640 * fine, 480 * fine), flags=cv2.INTER_LINEAR)
        mask = cv2.warpPerspective(np.full_like(marker, 255), H, (640 * fine, 480 * fine))
        canvas[mask > 127] = warped[mask > 127]
    return cv2.resize(canvas, (640, 480), interpolation=cv2.INTER_AREA)


K_EYE = Camera(np.array([[580.0, 0.0, 319.5], [0.0, 580.0, 239.5], [0.0, 0.0, 1.0]]), np.zeros(5))
# in front of the robot, 45 cm above the table, looking down and back: optical axes in the base frame
T_BASE_EYE = T_of([0.0, 0.0, 0.0], [0.62, 0.05, 0.40]) @ rigid.compose(
    np.array([[0.0, 0.7071068, -0.7071068], [1.0, 0.0, 0.0], [0.0, -0.7071068, -0.7071068]]), np.zeros(3)
)


def test_the_base_tag_gives_the_camera(tmp_path: Path) -> None:
    layout = load_layout(ROOT / "calibration" / "boards" / "furniture_bench_base.yaml")
    still = {f"{i}.png": layout_image(layout, K_EYE, rigid.inverse(T_BASE_EYE)) for i in range(3)}
    moved = T_BASE_EYE @ T_of([0.0, 0.05, 0.0], [0.02, 0.0, 0.0])
    images = {**still, "moved.png": layout_image(layout, K_EYE, rigid.inverse(moved))}
    images["empty.png"] = np.full((480, 640), 90, np.uint8)
    found = base_tag.calibrate(K_EYE, (640, 480), layout, images)
    distance_m, angle = rigid.difference(found.T, T_BASE_EYE)
    assert distance_m < 3e-3 and math.degrees(angle) < 0.5 and found.tags == (0, 1, 2, 3)
    assert set(found.rejected) == {"moved.png", "empty.png"}


def test_a_tag_is_turned_as_apriltag_draws_it() -> None:
    """The frame of AprilTag 3: for an upright tag x is right and y down; OpenCV's first corner lies at (+, +)."""
    layout = TagLayout.model_validate(
        {"schema_version": 1, "name": "one", "bodies": {"part": {5: {"size_m": 0.1, "position_m": [0, 0, 0]}}}}
    )
    dictionary = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_APRILTAG_36h11)
    image = np.full((480, 640), 255, np.uint8)
    # generateImageMarker draws it upside down
    image[140:340, 220:420] = cv2.aruco.generateImageMarker(dictionary, 5, 200)[::-1, ::-1]
    view = locate(K_EYE, layout.bodies["part"], find_tags(image))
    assert view is not None
    assert rigid.difference(view.T_camera_body, T_of([0, 0, 0], view.T_camera_body[:3, 3]))[1] < 0.01
    assert view.T_camera_body[2, 3] == pytest.approx(0.1 * 580.0 / 200.0, rel=0.01)


def test_images_that_do_not_suffice_name_what_is_missing() -> None:
    board = load_board(BOARD)
    rng = np.random.default_rng(1)
    views = []
    for i in range(12):  # frontal, always in the top left corner
        T = T_of([0.0, 0.0, 0.0], [-0.25, -0.2, 0.6 + 0.01 * i])
        corners = K_EYE.project(rigid.apply(T, board.points)) + 0.2 * rng.standard_normal((len(board.points), 2))
        views.append(intrinsics.View(str(i), corners, np.arange(len(board.points))))
    with pytest.raises(intrinsics.CalibrationRefused) as refused:
        intrinsics.calibrate(intrinsics.Views(board.points, 640, 480, tuple(views)))
    assert refused.value.reason == "not_determined"
    missing = intrinsics.missing_views(640, 480, [view.corners for view in views], np.zeros((12, 2)))
    assert (
        "no corners in the bottom right of the image" in missing
        and "no corners in the top left of the image" not in missing
    )
    assert sum("nearer than the other" in text for text in missing) == 2
