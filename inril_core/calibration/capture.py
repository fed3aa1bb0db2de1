"""Which poses to take for a hand-eye calibration, and which are still missing."""

from __future__ import annotations

import io
import math
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from inril_core.calibration import rigid
from inril_core.calibration.board import Board
from inril_core.calibration.camera import Camera, board_view
from inril_core.calibration.hand_eye_data import Mode, check_poses, read_raw
from inril_core.errors import ConfigError
from inril_core.files import write_atomically

REST_S = 0.5
REST_M, REST_RAD = 3e-4, math.radians(0.05)
"""The arm is at rest when its pose stays within these for `REST_S`: only then pose and image belong together."""
APART_M, APART_RAD = 0.02, math.radians(8.0)
"""A pose nearer than both to one that was taken adds nothing."""
SEEN_MIN = 0.6
"""Least part of the board's corners."""
SPREAD_WANTED_RAD = math.radians(10.0)
"""Root mean square turn wanted about each of two axes."""
STAMP_APART_MAX_S = 0.1
_COMMON_MIN = 8


@dataclass(frozen=True)
class Taken:
    """One pose and what was seen from it."""

    T_base_gripper: np.ndarray
    corners: np.ndarray
    numbers: np.ndarray


class Capture:
    """Takes a pose when the arm rests, the board is well seen, and the pose is a new one. Its owner feeds it."""

    def __init__(self, board: Board, camera: Camera, mode: Mode, wanted: int) -> None:
        self.board, self.camera, self.mode, self.wanted = board, camera, mode, wanted
        self.taken: list[Taken] = []
        self._poses: deque[tuple[float, np.ndarray]] = deque(maxlen=2000)

    def pose(self, stamp_s: float, T_base_gripper: np.ndarray) -> None:
        """A measured pose. One with an older stamp than the last starts anew: the arm's clock was set."""
        if self._poses and stamp_s <= self._poses[-1][0]:
            self._poses.clear()
        self._poses.append((stamp_s, T_base_gripper))

    def image(self, stamp_s: float, pixels: np.ndarray) -> str:
        """An image uint8[H, W, 3]; the answer says whether it was taken, or why not."""
        if not self._poses or abs(self._poses[-1][0] - stamp_s) > STAMP_APART_MAX_S:
            return "no pose of the arm at the image's time"
        if self._poses[-1][0] - self._poses[0][0] < REST_S:
            return "the arm was not yet watched for long enough"
        now = self._poses[-1][1]
        for stamp, pose in reversed(self._poses):
            distance_m, angle = rigid.difference(now, pose)
            if distance_m > REST_M or angle > REST_RAD:
                return "the arm moves; let it rest"
            if self._poses[-1][0] - stamp >= REST_S:
                break
        near = [rigid.difference(now, taken.T_base_gripper) for taken in self.taken]
        if any(distance_m < APART_M and angle < APART_RAD for distance_m, angle in near):
            return f"this pose is taken; {self.missing()}"
        corners, numbers = self.board.find(pixels)
        if len(numbers) < SEEN_MIN * len(self.board.points):
            return f"{len(numbers)} of {len(self.board.points)} corners seen; show the whole board, sharp and lit"
        view = board_view(self.camera, self.board.points[numbers], corners)
        if view is None or view.residual_px > max(3.0, 0.005 * self.camera.focal_px):
            return "the corners do not fit the board; is it flat, and are these the camera's intrinsics?"
        self.taken.append(Taken(now, corners, numbers))
        return f"pose {len(self.taken)} taken; {self.missing()}"

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return self.missing() == "all poses are there"

    def missing(self) -> str:
        """Which poses are missing, for the person at the arm."""
        count = len(self.taken)
        if count < 3:
            return f"{self.wanted - count} more poses are missing; begin with turns about different axes"
        poses = np.array([taken.T_base_gripper for taken in self.taken])
        mean = rigid.nearest_rotation(poses[:, :3, :3].mean(axis=0))
        turns = Rotation.from_matrix(mean.T @ poses[:, :3, :3]).as_rotvec()
        rms = np.sqrt(np.mean(turns**2, axis=0))
        so_far = zip("xyz", np.degrees(rms), strict=True)
        short = [f"{axis} axis (so far {deg:.0f} deg)" for axis, deg in so_far if deg < math.degrees(SPREAD_WANTED_RAD)]
        if rigid.rotation_spread_rad(poses)[1] < SPREAD_WANTED_RAD:
            return f"poses turned by 20 to 40 deg about the gripper's {' or '.join(short) or 'x or y axis'} are missing"
        if count < self.wanted:
            return f"{self.wanted - count} more poses are missing, in other places and turns"
        return "all poses are there"

    def resume(self, path: Path) -> None:
        """Go on with the poses of a file that `save` wrote.

        Raises:
            ConfigError: it is no such file, or of another board, camera or mode.
        """
        arrays, mode = read_raw(path)
        points, K = arrays["board_points"], arrays["K"]
        check_poses(arrays["T_base_gripper"], arrays["corners"], points, K, least=1)
        far = np.linalg.norm(self.board.points[None] - points[:, None], axis=2)
        if mode != self.mode or not np.array_equal(K, self.camera.K) or far.min(axis=1).max() > 1e-6:
            raise ConfigError(f"{path}: holds poses of another board, camera or mode; give another file")
        numbers = far.argmin(axis=1)
        self.taken = [
            Taken(pose, corners, numbers)
            for pose, corners in zip(arrays["T_base_gripper"], arrays["corners"], strict=True)
        ]

    def save(self, path: Path) -> int:
        """Write the file that `inril calibrate hand-eye` reads, with the corners that all its poses have in common.

        Poses that see too little of the board are left out, one after the other. Returns the number of poses.

        Raises:
            ConfigError: it cannot be written, or no corners are seen from all poses.
        """
        kept = list(self.taken)
        while kept:
            common = set(kept[0].numbers.tolist()).intersection(*(taken.numbers.tolist() for taken in kept))
            if len(common) >= min(_COMMON_MIN, len(self.board.points)):
                break
            kept.remove(min(kept, key=lambda taken: len(taken.numbers)))
        if not kept:
            raise ConfigError("no pose was taken; nothing is written")
        numbers = np.array(sorted(common))
        places = [{int(n): i for i, n in enumerate(taken.numbers)} for taken in kept]
        corners = [taken.corners[[place[int(n)] for n in numbers]] for taken, place in zip(kept, places, strict=True)]
        buffer = io.BytesIO()
        np.savez(
            buffer,
            T_base_gripper=np.array([taken.T_base_gripper for taken in kept]),
            corners=np.array(corners),
            board_points=self.board.points[numbers],
            K=self.camera.K,
            distortion=self.camera.distortion,
            mode=np.array(self.mode),
        )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, buffer.getvalue())
        except OSError as error:
            raise ConfigError(f"{path}: cannot be written ({error.strerror or error}); give another path") from error
        return len(kept)
