"""A recorded episode once more in the simulated cell: do the same actions lead to the same poses?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inril_core.contract import contract_from_text
from inril_core.data.episode import Episode
from inril_core.errors import ConfigError, InrilError
from inril_core.tasks.families.cell import CellEnv
from inril_core.transforms import quat_difference


@dataclass(frozen=True)
class Replayed:
    """How far the replay is from the recording."""

    episode_id: str
    steps: int
    """Steps that were replayed; fewer than recorded where the cell ended the episode earlier."""
    recorded_steps: int
    position_m: float
    """Largest distance of the tool, and the observation where it is."""
    position_step: int
    rotation_rad: float
    """Largest angle of the tool, and the observation where it is."""
    rotation_step: int
    success: bool
    """Of the replay."""
    recorded_success: bool | None


def replay(episode: Episode) -> Replayed:
    """Lay the cell out by the episode's seed and purpose, and feed it the executed actions.

    A recording in lockstep comes back to rounding; one in real time, or of a real arm, differs by its delays.

    Raises:
        ConfigError: the episode's task has no simulated cell, or its contract is not one.
    """
    try:
        contract = contract_from_text(episode.contract_text)
        env = CellEnv(contract)
    except InrilError as error:
        raise ConfigError(f"{episode.episode_id}: cannot be replayed in the simulated cell: {error}") from error
    try:
        env.reset(episode.seed, episode.purpose)
        poses = [np.asarray(env.state.tool_pose)]
        success = False
        for action in episode.actions:
            _, outcome = env.step(action)
            poses.append(np.asarray(env.state.tool_pose))
            success = outcome.success
            if outcome.terminated or outcome.truncated:
                break
    finally:
        env.close()
    recorded = episode.tool_pose[: len(poses)]
    apart_m = [float(np.linalg.norm(a[:3] - b[:3])) for a, b in zip(poses, recorded, strict=True)]
    apart_rad = [
        float(np.linalg.norm(quat_difference(a[3:].tolist(), b[3:].tolist())))
        for a, b in zip(poses, recorded, strict=True)
    ]
    return Replayed(
        episode_id=episode.episode_id,
        steps=len(poses) - 1,
        recorded_steps=episode.steps,
        position_m=max(apart_m),
        position_step=int(np.argmax(apart_m)),
        rotation_rad=max(apart_rad),
        rotation_step=int(np.argmax(apart_rad)),
        success=success,
        recorded_success=episode.success,
    )
