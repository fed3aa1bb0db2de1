"""A run folder with recorded demonstrations of random numbers."""

from pathlib import Path

import numpy as np

from inril_core.data.finalise import finalise
from inril_core.data.index import EpisodeIndex
from inril_core.run import RunPaths
from tests.data.synthetic import Synthetic


def record_demos(run_dir: Path, count: int = 4, spoil: int | None = None, steps: int = 6) -> list[str]:
    """Record episodes ``demo-0``, ...; of number ``spoil`` one frame has six fields of 1e4. Returns their ids."""
    paths = RunPaths(run_dir)
    for folder in (paths.raw, paths.episodes):
        folder.mkdir(parents=True, exist_ok=True)
    names = []
    for number in range(count):
        made = Synthetic(
            steps=steps, episode_id=f"demo-{number}", purpose="demo", seed=number, human_from=0, images=True
        )
        made.arrays["observations"] = np.clip(made.arrays["observations"], -2.0, 2.0)
        if number == spoil:
            made.arrays["observations"][min(3, steps), 11:17] = 1e4
        finalise(made.record(paths.raw), paths.episodes, EpisodeIndex(paths.episodes))
        names.append(made.episode_id)
    return names
