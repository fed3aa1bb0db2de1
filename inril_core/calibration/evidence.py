"""How well the calibrations do on rendered boards with known truth: `python -m inril_core.calibration.evidence`."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from inril_core.calibration import hand_eye, intrinsics, rigid
from inril_core.calibration.board import Board, load_board
from inril_core.calibration.camera import Camera
from inril_core.calibration.hand_eye_data import HandEyeData, Mode
from inril_core.calibration.refused import CalibrationRefused
from inril_core.calibration.rendered import BoardCamera, random_views
from inril_core.errors import ConfigError
from inril_core.files import ResultFile, check_writable

POSES = 15
BLUR_PX, NOISE = 0.8, 5.0
_TILT_RAD = 0.6


def T_of(rotvec: list[float], position_m: list[float]) -> np.ndarray:
    """A transform from a rotation vector (rad) and a position."""
    return rigid.compose(Rotation.from_rotvec(rotvec).as_matrix(), np.array(position_m))


CAMERA_IN: dict[Mode, tuple[np.ndarray, np.ndarray]] = {
    "eye_in_hand": (T_of([0.1, -0.2, 1.6], [0.05, -0.03, 0.06]), T_of([0.05, 0.1, 0.7], [0.5, 0.1, 0.02])),
    "eye_to_hand": (T_of([-1.9, 0.4, 0.3], [1.1, 0.2, 0.5]), T_of([0.3, 0.1, -1.0], [0.02, -0.04, 0.08])),
}
"""Truth of X and Y, see `HandEyeData.A`."""


def interval(values: list[float]) -> str:
    """Median, and the range of the middle 90 % over seeds."""
    low, middle, high = np.percentile(values, [5, 50, 95])
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def hand_eye_data(
    mode: Mode, board: Board, camera: Camera, views: np.ndarray, corners: np.ndarray, points: np.ndarray
) -> HandEyeData:
    """Arm poses that are exact, and corners that were seen."""
    X, Y = CAMERA_IN[mode]
    A = X @ views @ rigid.inverse(Y)
    poses = rigid.inverse(A) if mode == "eye_in_hand" else A
    return HandEyeData(poses, corners, points, camera, mode)


def spoil(data: HandEyeData, count: int, rng: np.random.Generator) -> list[int]:
    """Gross errors in place: corners moved by up to 40 px, an arm pose off by 5 cm and 0.2 rad, corners reversed."""
    chosen = sorted(int(i) for i in rng.choice(len(data.corners), count, replace=False))
    for n, i in enumerate(chosen):
        if n % 3 == 0:
            data.corners[i] += rng.uniform(-40.0, 40.0, data.corners[i].shape)
        elif n % 3 == 1:
            step = T_of(rng.uniform(-0.2, 0.2, 3).tolist(), rng.uniform(-0.05, 0.05, 3).tolist())
            data.T_base_gripper[i] = data.T_base_gripper[i] @ step
        else:
            data.corners[i] = data.corners[i][::-1].copy()
    return chosen


def projected(board: Board, camera: Camera, rng: np.random.Generator, noise_px: float) -> tuple[np.ndarray, np.ndarray]:
    """15 views with all corners in the image, and their pixels with noise."""
    kept: list[np.ndarray] = []
    while len(kept) < POSES:
        for T in random_views(board, camera, rng, POSES, _TILT_RAD):
            pixels = camera.project(rigid.apply(T, board.points))
            if (pixels > 0.0).all() and (pixels < 2.0 * camera.K[:2, 2]).all():
                kept.append(T)
    views = np.array(kept[:POSES])
    corners = camera.project(rigid.apply(views, board.points))
    return views, corners + noise_px * rng.standard_normal(corners.shape)


def rendered_corners(
    eye: BoardCamera, board: Board, rng: np.random.Generator, count: int
) -> tuple[np.ndarray, list[intrinsics.View]]:
    """Poses, and the corners that were found in their images."""
    views: list[np.ndarray] = []
    found: list[intrinsics.View] = []
    while len(found) < count:
        T = random_views(board, eye.camera, rng, 1, _TILT_RAD)[0]
        corners, numbers = board.find(eye.image(T, rng, BLUR_PX, NOISE))
        if len(numbers) >= 8:
            views.append(T)
            found.append(intrinsics.View(str(len(found)), corners, numbers))
    return np.array(views), found


def _row(name: str, errors: list[tuple[float, float]], exact: int, of: int) -> str:
    mm, deg = [1e3 * m for m, _ in errors], [math.degrees(a) for _, a in errors]
    return f"| {name} | {interval(mm)} | {interval(deg)} | {max(mm):.3f} mm, {max(deg):.3f} deg | {exact} of {of} |"


def hand_eye_table(board: Board, camera: Camera, seeds: int, say: Callable[[str], None]) -> list[str]:
    """Corners projected with 0.3 px of noise."""
    lines = [
        "| poses | position error, mm | angle error, deg | worst | outliers named exactly |",
        "|---|---|---|---|---|",
    ]
    for mode in CAMERA_IN:
        for bad in (0, 3, 4):
            errors, exact = [], 0
            for seed in range(seeds):
                rng = np.random.default_rng(seed)
                views, corners = projected(board, camera, rng, 0.3)
                data = hand_eye_data(mode, board, camera, views, corners, board.points)
                wrong = spoil(data, bad, rng)
                found = hand_eye.calibrate(data)
                errors.append(rigid.difference(found.T, CAMERA_IN[mode][0]))
                exact += list(found.rejected) == wrong
            lines.append(_row(f"{mode}, {bad} of {POSES} grossly wrong", errors, exact, seeds))
            say(lines[-1])
    return lines


def rendered_tables(board: Board, seeds: int, say: Callable[[str], None]) -> list[str]:
    """From pixels: intrinsics, then hand-eye with those intrinsics, on images with blur and noise."""
    focal, centre, errors, exact, held = [], [], [], 0, []
    with BoardCamera(board) as eye:
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            _, found = rendered_corners(eye, board, rng, 20)
            size = eye.camera.K[:2, 2] * 2.0 + 1.0
            own = intrinsics.calibrate(intrinsics.Views(board.points, int(size[0]), int(size[1]), tuple(found)))
            focal.append(100.0 * abs(own.camera.focal_px / eye.camera.focal_px - 1.0))
            centre.append(float(np.abs(own.camera.K[:2, 2] - eye.camera.K[:2, 2]).max()))
            held.append(own.held_out_px)
            views, corners = projected(board, eye.camera, rng, 0.0)
            seen = []
            for i, T in enumerate(views):
                pixels, numbers = board.find(eye.image(T, rng, BLUR_PX, NOISE))
                whole = np.full_like(corners[i], np.nan)
                whole[numbers] = pixels
                seen.append(whole)
            common = np.flatnonzero(np.isfinite(np.array(seen)).all(axis=(0, 2)))
            # the camera just calibrated, not the true one
            data = hand_eye_data(
                "eye_in_hand", board, own.camera, views, np.array(seen)[:, common], board.points[common]
            )
            wrong = spoil(data, 3, rng)
            result = hand_eye.calibrate(data)
            errors.append(rigid.difference(result.T, CAMERA_IN["eye_in_hand"][0]))
            exact += list(result.rejected) == wrong
            say(f"rendered seed {seed}: focal {focal[-1]:.3f} %, hand-eye {1e3 * errors[-1][0]:.3f} mm")
    return [
        "| intrinsics from 20 images | median (5 to 95 %) | worst |",
        "|---|---|---|",
        f"| focal length, % off | {interval(focal)} | {max(focal):.3f} |",
        f"| principal point, px off | {interval(centre)} | {max(centre):.3f} |",
        f"| held-out residual, px | {interval(held)} | {max(held):.3f} |",
        "",
        "| hand-eye with these intrinsics | position error, mm | angle error, deg | worst | outliers named exactly |",
        "|---|---|---|---|---|",
        _row(f"eye_in_hand, 3 of {POSES} grossly wrong", errors, exact, seeds),
    ]


def refusals(board: Board, camera: Camera, seeds: int) -> list[str]:
    """What is refused, over seeds and both modes."""
    lines = ["| wrong | refused as | right reason |", "|---|---|---|"]

    def change(name: str, data: HandEyeData) -> HandEyeData:
        poses, corners, points, mode = data.T_base_gripper, data.corners, data.board_points, data.mode
        if name == "inverted poses":
            poses = rigid.inverse(poses)
        elif name == "other mode":
            mode = "eye_to_hand" if mode == "eye_in_hand" else "eye_in_hand"
        elif name == "mirrored image":
            corners = corners * [-1.0, 1.0] + [2.0 * camera.K[0, 2], 0.0]
        elif name == "mirrored board":
            points = points * [-1.0, 1.0, 1.0]
        elif name.startswith("board x"):
            points = points * float(name[7:])
        elif name == "one axis":
            about = [Rotation.from_rotvec([0.0, 0.0, 0.2 * i]).as_matrix() for i in range(len(poses))]
            poses = rigid.compose(np.array(about), poses[:, :3, 3])
        eye = camera.with_focal(float(name[7:])) if name.startswith("focal x") else camera
        return HandEyeData(poses, corners, points, eye, mode)

    cases = {
        "inverted poses": "swapped_convention",
        "other mode": "swapped_convention",
        "mirrored image": "mirrored_board",
        "mirrored board": "mirrored_board",
        "board x1.01": "wrong_board_size",
        "board x1.2": "wrong_board_size",
        "focal x1.02": "corners_do_not_fit_K",
        "focal x0.5": "corners_do_not_fit_K",
        "one axis": "too_little_rotation",
    }
    for name, reason in cases.items():
        right, total, said = 0, 0, set()
        for mode in CAMERA_IN:
            for seed in range(seeds):
                rng = np.random.default_rng(1000 + seed)
                views, corners = projected(board, camera, rng, 0.3)
                data = hand_eye_data(mode, board, camera, views, corners, board.points)
                spoil(data, 3, rng)
                total += 1
                try:
                    hand_eye.calibrate(change(name, data))
                    said.add("not refused")
                except CalibrationRefused as error:
                    said.add(error.reason)
                    right += error.reason == reason
        lines.append(f"| {name} | {', '.join(f'`{s}`' for s in sorted(said))} | {right} of {total} |")
    return lines


def write_example(folder: Path, board: Board) -> None:
    """Rendered images (``shots/``) and hand-eye poses with 3 of 15 wrong (``poses.npz``), to try the commands on."""
    rng = np.random.default_rng(0)
    (folder / "shots").mkdir(parents=True, exist_ok=True)
    with BoardCamera(board) as eye:
        for i, T in enumerate(random_views(board, eye.camera, rng, 20, _TILT_RAD)):
            image = eye.image(T, rng, BLUR_PX, NOISE)
            cv2.imwrite(str(folder / "shots" / f"{i:02d}.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        views, corners = projected(board, eye.camera, rng, 0.0)
        for i, T in enumerate(views):
            pixels, numbers = board.find(eye.image(T, rng, BLUR_PX, NOISE))
            corners[i] = np.nan
            corners[i, numbers] = pixels
        common = np.flatnonzero(np.isfinite(corners).all(axis=(0, 2)))
        data = hand_eye_data("eye_in_hand", board, eye.camera, views, corners[:, common], board.points[common])
        spoil(data, 3, rng)
    np.savez(
        folder / "poses.npz",
        T_base_gripper=data.T_base_gripper,
        corners=data.corners,
        board_points=data.board_points,
        K=data.camera.K,
        distortion=data.camera.distortion,
        mode=np.array(data.mode),
    )


def main() -> None:
    """Write the page, or the example."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/results/calibration.md"))
    parser.add_argument("--board", type=Path, default=Path("calibration/boards/charuco_8x6_30mm.yaml"))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--rendered-seeds", type=int, default=10)
    parser.add_argument(
        "--example", type=Path, default=None, metavar="DIR", help="write images and poses there instead"
    )
    given = parser.parse_args()
    try:
        board = load_board(given.board)
        check_writable(given.out if given.example is None else given.example / "poses.npz")
    except ConfigError as error:
        raise SystemExit(str(error)) from error
    if given.example is not None:
        write_example(given.example, board)
        return
    K = np.array([[579.4, 0.0, 319.5], [0.0, 579.4, 239.5], [0.0, 0.0, 1.0]])
    camera = Camera(K, np.array([0.05, -0.1, 0.001, -0.0005, 0.02]))

    def say(line: str) -> None:
        print(line, flush=True)

    text = [
        "# Calibration on boards with known truth",
        "",
        f"Written by `python -m inril_core.calibration.evidence --seeds {given.seeds} --rendered-seeds "
        f"{given.rendered_seeds}`. Board: {board.name}. Figures: median and range of the middle 90 % over seeds.",
        "No real camera or arm was used: arm poses are exact, images are rendered.",
        "",
        f"## Hand-eye: {POSES} poses, 640 x 480 px, corners with 0.3 px of noise and lens distortion",
        "",
        f"Grossly wrong: each corner moved by up to 40 px, the arm's pose off by up to 5 cm and 0.2 rad, or the "
        f"corners in "
        f"reversed order. {given.seeds} seeds.",
        "",
        *hand_eye_table(board, camera, given.seeds, say),
        "",
        f"## From pixels: boards rendered by MuJoCo, blur {BLUR_PX} px, grey-value noise {NOISE:g} of 255",
        "",
        f"{given.rendered_seeds} seeds.",
        "",
        *rendered_tables(board, given.rendered_seeds, say),
        "",
        f"## What is refused: 3 of {POSES} poses grossly wrong besides, both modes, {max(1, given.seeds // 5)} seeds "
        f"each",
        "",
        *refusals(board, camera, max(1, given.seeds // 5)),
        "",
    ]
    with ResultFile(given.out) as file:
        file.write("\n".join(text).encode())
    print(f"wrote {given.out}")


if __name__ == "__main__":
    main()
