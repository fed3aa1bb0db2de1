"""What a hand-eye calibration is made from, read from a file and checked."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from inril_core.calibration import rigid
from inril_core.calibration.camera import Camera
from inril_core.calibration.refused import CalibrationRefused

Mode = Literal["eye_in_hand", "eye_to_hand"]
MODES = ("eye_in_hand", "eye_to_hand")
KEYS = ("T_base_gripper", "corners", "board_points", "K", "distortion", "mode")
POSES_MIN = 5
"""Three determine the unknowns; the others show whether one of them is wrong."""
POSES_MAX, POINTS_MAX = 10_000, 10_000
FILE_MAX_BYTES = 256 << 20
_RIGID_TOLERANCE = 2e-3
"""Largest error of RᵀR that rounding to three decimals leaves; beyond, the matrix is no pose."""
_BOARD_MAX_M = 5.0


@dataclass(frozen=True)
class HandEyeData:
    """N views of one board and the arm's pose at each.

    ``eye_in_hand``: the camera is on the gripper, the board does not move. ``eye_to_hand``: the camera does not move,
    the board is in the gripper.

    Raises:
        CalibrationRefused: an array has another shape, is not finite, or is not what its name says.
    """

    T_base_gripper: np.ndarray
    """float64[N, 4, 4]: gripper (flange) in the base frame, metres."""
    corners: np.ndarray
    """float64[N, K, 2]: pixels, in the order of ``board_points``."""
    board_points: np.ndarray
    """float64[K, 3]: metres, in the board's frame."""
    camera: Camera
    mode: Mode

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise CalibrationRefused("bad_mode", f"mode = {self.mode!r}; give one of {', '.join(MODES)}")
        check_poses(self.T_base_gripper, self.corners, self.board_points, self.camera.K)

    @property
    def A(self) -> np.ndarray:
        """float64[N, 4, 4] of the equation ``A Y = X C`` that both modes obey.

        X: the camera in the frame that it is fixed to (gripper or base); Y: the board in the other one's; C: the board
        in the camera. Eye in hand: A = T_gripper_base; eye to hand: A = T_base_gripper.
        """
        return rigid.inverse(self.T_base_gripper) if self.mode == "eye_in_hand" else self.T_base_gripper

    @property
    def name_X(self) -> str:
        """What the calibration gives."""
        return "T_gripper_camera" if self.mode == "eye_in_hand" else "T_base_camera"

    @property
    def name_Y(self) -> str:
        """The pose of the board that comes with it."""
        return "T_base_board" if self.mode == "eye_in_hand" else "T_gripper_board"


def check_poses(
    poses: np.ndarray, corners: np.ndarray, points: np.ndarray, K: np.ndarray, least: int = POSES_MIN
) -> None:
    """Shapes, finite numbers, rigid poses, a board, and corners in K's image.

    Raises:
        CalibrationRefused: the first that is not so.
    """
    if poses.ndim != 3 or poses.shape[1:] != (4, 4):
        raise CalibrationRefused("bad_shape", f"T_base_gripper has shape {poses.shape}; it must be (N, 4, 4)")
    if corners.ndim != 3 or corners.shape[2] != 2:
        raise CalibrationRefused("bad_shape", f"corners has shape {corners.shape}; it must be (N, K, 2)")
    if points.ndim != 2 or points.shape[1] != 3:
        raise CalibrationRefused("bad_shape", f"board_points has shape {points.shape}; it must be (K, 3)")
    if len(poses) != len(corners):
        raise CalibrationRefused(
            "bad_shape", f"{len(poses)} poses in T_base_gripper and {len(corners)} in corners; give one each"
        )
    if corners.shape[1] != len(points):
        raise CalibrationRefused(
            "bad_shape", f"{corners.shape[1]} corners a pose and {len(points)} board_points; give one each"
        )
    if len(poses) < least:
        raise CalibrationRefused("too_few_poses", f"too few poses: {len(poses)}; give {least} or more, better 15")
    if len(poses) > POSES_MAX or len(points) > POINTS_MAX:
        raise CalibrationRefused("too_many", f"more than {POSES_MAX} poses or {POINTS_MAX} points; give fewer")
    for name, array in (("T_base_gripper", poses), ("corners", corners), ("board_points", points)):
        bad = np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))
        if len(bad):
            raise CalibrationRefused("not_finite", f"{name} holds NaN or infinity at {_some(bad)}; leave it out")
    _check_rigid(poses)
    _check_board(points)
    _check_inside(corners, K)


def _some(indices: np.ndarray) -> str:
    shown = ", ".join(str(i) for i in indices[:8])
    return f"index {shown}" + (f" and {len(indices) - 8} more" if len(indices) > 8 else "")


def _check_rigid(poses: np.ndarray) -> None:
    last_row = np.abs(poses[:, 3] - [0.0, 0.0, 0.0, 1.0]).max(axis=1) > 1e-6
    transposed = np.abs(poses[:, :3, 3]).max(axis=1) < 1e-9
    if last_row.any():
        hint = " (the translation stands in it: transposed matrices)" if (last_row & transposed).any() else ""
        raise CalibrationRefused(
            "not_rigid",
            f"T_base_gripper: the last row is not 0 0 0 1 at {_some(np.flatnonzero(last_row))}{hint}; give rigid "
            "transforms",
        )
    R = poses[:, :3, :3]
    off = np.abs(np.swapaxes(R, 1, 2) @ R - np.eye(3)).max(axis=(1, 2))
    bad = np.flatnonzero(off > _RIGID_TOLERANCE)
    if len(bad):
        raise CalibrationRefused(
            "not_rigid",
            f"T_base_gripper is not rigid at {_some(bad)}: RᵀR differs from 1 by up to {off.max():.3g}; give rotation "
            "matrices without scale or shear",
        )
    mirrored = np.flatnonzero(np.linalg.det(R) < 0.0)
    if len(mirrored):
        raise CalibrationRefused(
            "not_rigid",
            f"T_base_gripper mirrors space at {_some(mirrored)} (determinant -1); a frame there is left-handed",
        )


def _check_board(points: np.ndarray) -> None:
    spread = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    if len(points) < 4 or spread[1] <= 1e-3 * max(spread[0], 1e-12):
        raise CalibrationRefused(
            "bad_board", f"board_points: {len(points)} points on one line or fewer than 4 give no pose; give a board"
        )
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1) if len(points) <= 500 else np.eye(1) + 1.0
    np.fill_diagonal(distances, 1.0)
    if distances.min() < 1e-6 * spread[0]:
        raise CalibrationRefused("bad_board", "board_points: two points are the same; give each corner once")
    extent = float(np.linalg.norm(np.ptp(points, axis=0)))
    if extent > _BOARD_MAX_M:
        raise CalibrationRefused(
            "wrong_board_size",
            f"board_points: a board of {extent:.4g} m; give metres (they look like millimetres: divide by 1000)",
        )
    if runs_backwards(points):
        raise CalibrationRefused(
            "mirrored_board",
            "board_points is a mirrored board: along the rows and columns in which its corners are numbered one "
            "coordinate grows and the other falls; check that corners and board_points are numbered alike, then change "
            "the sign of one coordinate (the result is the same, the board's z axis turns round)",
        )


def runs_backwards(points: np.ndarray) -> bool:
    """Whether a regular grid, numbered row by row, has one coordinate that grows and one that falls.

    Boards of OpenCV, ROS, Kalibr and MATLAB let both grow with the number, so this one is a mirror image of them. A
    planar mirrored board fits every image as well as the right one (it is the same board seen from behind), so it has
    to be told by its numbering. False where the points are no such grid.
    """
    if len(points) < 6 or np.ptp(points[:, 2]) > 1e-9 * np.ptp(points[:, :2]):
        return False
    flat = points[:, :2]
    steps = np.diff(flat, axis=0)
    breaks = np.flatnonzero(np.linalg.norm(steps - steps[0], axis=1) > 1e-3 * np.linalg.norm(steps[0]))
    if not len(breaks):
        return False
    columns = int(breaks[0]) + 1
    if columns < 2 or len(flat) % columns:
        return False
    grid = flat.reshape(-1, columns, 2)
    along, down = grid[0, 1] - grid[0, 0], grid[1, 0] - grid[0, 0]
    made = grid[0, 0] + np.arange(len(grid))[:, None, None] * down + np.arange(columns)[None, :, None] * along
    size = np.linalg.norm(along)
    axis = int(np.argmax(np.abs(along)))
    if np.abs(made - grid).max() > 1e-3 * size or abs(along[1 - axis]) > 1e-3 * size or abs(down[axis]) > 1e-3 * size:
        return False
    return bool(along[axis] * down[1 - axis] < 0.0)


def _check_inside(corners: np.ndarray, K: np.ndarray) -> None:
    """The principal point lies near the middle, so an image ends at about twice its coordinates."""
    centre = K[:2, 2]
    outside = ((corners < -centre) | (corners > 3.0 * centre)).any(axis=(1, 2))
    if outside.mean() > 0.5:
        middle = np.median(corners.reshape(-1, 2), axis=0)
        raise CalibrationRefused(
            "corners_do_not_fit_K",
            f"corners do not fit K: around ({middle[0]:.0f}, {middle[1]:.0f}) px, while its principal point "
            f"({centre[0]:.0f}, {centre[1]:.0f}) means an image of about {2 * centre[0]:.0f} x {2 * centre[1]:.0f} px; "
            "K is of another resolution or camera, or the corners are not in pixels",
        )
    span = np.ptp(corners, axis=1).max(axis=1)
    if np.median(span) < 10.0:
        raise CalibrationRefused(
            "corners_do_not_fit_K",
            f"corners do not fit K: the board is {np.median(span):.3g} px large in the median pose; give corners in "
            "pixels, and hold the board nearer",
        )
    if (corners.reshape(-1, 2).max(axis=0) < 1.02 * centre).all():
        raise CalibrationRefused(
            "corners_do_not_fit_K",
            f"corners do not fit K: all lie left of and above its principal point ({centre[0]:.0f}, {centre[1]:.0f}), "
            f"so "
            "K is of a larger image than the corners; scale K to the image's resolution",
        )


def read_hand_eye(path: Path) -> HandEyeData:
    """Read an ``.npz`` file with the arrays of `KEYS`; other arrays in it are left alone.

    Raises:
        CalibrationRefused: as `read_raw` and `HandEyeData`.
    """
    arrays, mode = read_raw(path)
    camera = Camera(arrays["K"], arrays["distortion"].reshape(-1))
    poses = arrays["T_base_gripper"]
    data = HandEyeData(poses, arrays["corners"], arrays["board_points"], camera, mode)
    poses[:, :3, :3] = rigid.nearest_rotation(poses[:, :3, :3])
    return data


def read_raw(path: Path) -> tuple[dict[str, np.ndarray], Mode]:
    """The arrays of a file, as numbers, and its mode; not yet checked.

    Raises:
        CalibrationRefused: as `read_arrays`; or an array holds no numbers, or mode is none.
    """
    arrays = read_arrays(path, KEYS)
    try:
        mode = str(np.asarray(arrays["mode"]).reshape(()).astype(str))
    except (ValueError, TypeError, UnicodeError) as error:
        raise CalibrationRefused("bad_mode", f"{path}: mode is no text; give one of {', '.join(MODES)}") from error
    if mode not in MODES:
        raise CalibrationRefused("bad_mode", f"{path}: mode = {mode[:40]!r}; give one of {', '.join(MODES)}")
    numbers = {name: numeric(arrays[name], name, path) for name in KEYS if name != "mode"}
    return numbers, "eye_in_hand" if mode == MODES[0] else "eye_to_hand"


def numeric(array: Any, name: str, path: Path) -> np.ndarray:
    """As float64.

    Raises:
        CalibrationRefused: it holds no real numbers.
    """
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise CalibrationRefused("bad_type", f"{path}: {name} holds {kind}; give real numbers")
    return np.array(array, dtype=np.float64)


def read_arrays(path: Path, keys: tuple[str, ...]) -> Mapping[str, Any]:
    """The named arrays of an ``.npz``, without running anything that is in it.

    Raises:
        CalibrationRefused: no such file, too large, not an ``.npz``, an array is missing or holds Python objects.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            large = [entry.filename for entry in archive.infolist() if entry.file_size > FILE_MAX_BYTES]
            there = sorted(entry.filename.removesuffix(".npy") for entry in archive.infolist())
        if large:
            raise CalibrationRefused("too_large", f"{path}: {large[0]} is larger than {FILE_MAX_BYTES >> 20} MiB")
        missing = [key for key in keys if key not in there]
        if missing:
            raise CalibrationRefused(
                "missing_keys",
                f"{path}: {', '.join(missing)} missing; there are {', '.join(there)[:200] or 'no arrays'}",
            )
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in keys}
    except OSError as error:
        raise CalibrationRefused("unreadable", f"{path}: cannot be read ({error.strerror or error})") from error
    except zipfile.BadZipFile as error:
        raise CalibrationRefused(
            "unreadable", f"{path}: not an .npz file ({error}); write it with numpy.savez"
        ) from error
    except (
        ValueError,
        EOFError,
        KeyError,
        zlib.error,
        MemoryError,
        NotImplementedError,
        RuntimeError,
        SyntaxError,
    ) as error:
        if "pickle" in str(error).lower():
            raise CalibrationRefused(
                "pickled", f"{path}: holds pickled Python objects, which are not read; give arrays of numbers"
            ) from error
        raise CalibrationRefused("unreadable", f"{path}: an array cannot be read ({str(error)[:120]})") from error
