"""A camera for measurements: it shows pictures that were drawn from the simulated cell before, at a camera's rate."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from inril_core.contract import load_contract
from inril_core.hardware.arms.base import Arm, arm_config
from inril_core.hardware.arms.simulated import SimulatedArm
from inril_core.hardware.cameras.base import CameraConfig, CameraSource, Frame

WIDTH, HEIGHT, RATE_HZ = 640, 480, 30
PICTURES = 20
NOISE = 2.0
"""Standard deviation of a pixel, of 255: a camera indoors; without it a JPEG is smaller than any real one."""


class Config(CameraConfig):
    """A camera that shows stored pictures in turn, each at its time."""

    path: Path
    """.npy, uint8[N, H, W, 3]."""

    def build(self, camera: str, width_px: int, height_px: int, arm: Arm | None) -> Shown:
        """See `CameraConfig.build`."""
        return Shown(np.load(self.path, allow_pickle=False))


class Shown(CameraSource):
    """Image n is due n periods after the beginning of the epoch, and stamped so: a stamp says which image it is."""

    def __init__(self, pictures: np.ndarray) -> None:
        self._pictures, self._n = pictures, 0

    def open(self) -> None:
        """See `CameraSource.open`."""
        self._n = number_of(time.time_ns())

    def read(self) -> Frame:
        """See `CameraSource.read`."""
        self._n = max(self._n + 1, number_of(time.time_ns()))
        stamp_ns = self._n * 1_000_000_000 // RATE_HZ
        time.sleep(max(0.0, (stamp_ns - time.time_ns()) * 1e-9))
        return Frame(self._pictures[self._n % len(self._pictures)], stamp_ns, self._n)


def number_of(stamp_ns: int) -> int:
    """Of the image with this stamp, or the last one before a time."""
    return (stamp_ns * RATE_HZ + 500) // 1_000_000_000


def draw_pictures(folder: Path, cameras: Iterable[str]) -> dict[str, Path]:
    """Write `PICTURES` of each camera while the simulated arm moves, with noise: uint8[PICTURES, HEIGHT, WIDTH, 3]."""
    rng = np.random.default_rng(0)
    arm = arm_config("simulated", "").build(load_contract("insert_leg"))
    assert isinstance(arm, SimulatedArm)
    arm.open()
    arm.reset(0, "train")
    pose = arm.measure().tool_pose.copy()
    shown: dict[str, list[np.ndarray]] = {name: [] for name in cameras}
    for _ in range(PICTURES):
        pose[:3] += rng.uniform(-0.006, 0.006, 3)
        arm.follow(pose, None)
        for name, images in shown.items():
            clean = arm.cell.render(name, WIDTH, HEIGHT).astype(np.float32)
            images.append(np.clip(clean + rng.normal(0.0, NOISE, clean.shape), 0, 255).astype(np.uint8))
    arm.close()
    paths = {name: folder / f"{name}.npy" for name in shown}
    for name, path in paths.items():
        np.save(path, np.stack(shown[name]))
    return paths


def chosen_cameras(pictures: dict[str, Path]) -> str:
    """The argument `cameras` of a graph that shows them."""
    return json.dumps({name: {"source": f"{__name__}:Config", "path": str(path)} for name, path in pictures.items()})
