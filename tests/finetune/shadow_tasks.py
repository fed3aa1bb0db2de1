"""Tasks of the gate's process that go wrong, and one that waits until it is released."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np

from inril_core.tasks.base import TaskStep
from tests.finetune.point_task import PointTask


class Dying(PointTask):
    """Its process is killed in its first step."""

    def step(self, action: np.ndarray) -> tuple[np.ndarray, TaskStep]:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


class Raising(PointTask):
    """Its simulator has a fault, and prints."""

    def step(self, action: np.ndarray) -> tuple[np.ndarray, TaskStep]:
        print("a simulator that prints")
        raise RuntimeError("the simulator blew up")


class Printing(PointTask):
    """A simulator that prints."""

    def reset(self, seed: int, purpose: str = "train") -> np.ndarray:
        print("simulator ready")
        return super().reset(seed, purpose)


class Waiting(PointTask):
    """Notes the id of its process in the file, and never ends its first step."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, TaskStep]:
        self._path.write_text(str(os.getpid()))
        while True:
            time.sleep(3600.0)


def dying(rest: str) -> Dying:
    return Dying()


def raising(rest: str) -> Raising:
    return Raising()


def printing(rest: str) -> Printing:
    return Printing()


def waiting(rest: str) -> Waiting:
    return Waiting(rest)
