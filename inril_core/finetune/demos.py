"""Demonstrations of an earlier run, read from its folder."""

from pathlib import Path

from inril_core.data import Episode, EpisodeStore, read_episode
from inril_core.data.index import EpisodeIndex
from inril_core.errors import ConfigError
from inril_core.run import RunPaths


def read_demos(run_dir: Path) -> list[Episode]:
    """The demonstrations of a run folder in the order they were recorded, with their newest labels.

    Raises:
        ConfigError: there are none.
    """
    folder = RunPaths(run_dir.expanduser().absolute()).episodes
    index, store = EpisodeIndex(folder), EpisodeStore(folder)
    demos = [
        read_episode(store.path(entry.episode_id), images=False).labelled(*index.label(entry))
        for entry in index.entries
        if entry.purpose == "demo" and entry.steps
    ]
    if not demos:
        raise ConfigError(f"demos = {run_dir}: no demonstrations in {folder}; record some with `inril demos`")
    return demos
