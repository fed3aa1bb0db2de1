"""Sessions on the point task: an expert, an expert that goes wrong, and weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from inril_core.evaluation.session.folder import SessionFolder
from inril_core.evaluation.session.make import Wish, make_session
from inril_core.policies import save_policy
from tests.finetune.point_task import PointExpert, PointTask, contract, small_config

TASK = "tests.evaluation.session.made:make"


class _State:
    """What a trial's way is read from."""

    def __init__(self, position: np.ndarray) -> None:
        self.tool_pose = np.array([*position, 0.1, 0.0, 0.0, 0.0, 1.0])
        self.qpos = np.array(position)


class WatchedPointTask(PointTask):
    """The point, with a place of its tool; starts of demonstrations are another's."""

    def reset(self, seed: int, purpose: str = "train") -> np.ndarray:
        return super().reset(seed + (100 if purpose == "demo" else 0), purpose)

    @property
    def state(self) -> _State:
        return _State(self._position)

    def expert(self) -> PointExpert:
        return PointExpert()


def make(rest: str) -> WatchedPointTask:
    """The family of `TASK`."""
    return WatchedPointTask()


def weights(path: Path, seed: int = 0) -> Path:
    """A policy that was never trained."""
    torch.manual_seed(seed)
    task = contract()
    policy = small_config().policy.build(task.observation_size, task.action_size)
    save_policy(path, policy, {"interface_digest": task.interface_digest, "contract_text": task.text})
    return path


def wish(tmp_path: Path, **changes: object) -> Wish:
    values: dict[str, object] = {
        "task": TASK,
        "subjects": {"scripted": "expert", "raw": str(weights(tmp_path / "raw.inril"))},
        "control": "raw",
        "starts": {"full": 12},
        "difference": 0.2,
        **changes,
    }
    return Wish(**values)  # type: ignore[arg-type]


def session(tmp_path: Path, **changes: object) -> SessionFolder:
    make_session(tmp_path / "session", wish(tmp_path, **changes), np.random.default_rng(5))
    return SessionFolder(tmp_path / "session")
