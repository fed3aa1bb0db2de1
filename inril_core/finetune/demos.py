"""Demonstrations of an earlier run, read from its folder."""

from pathlib import Path

from inril_core.contract import Contract
from inril_core.data import Episode, EpisodeStore, read_episode
from inril_core.data.index import EpisodeIndex
from inril_core.errors import ConfigError
from inril_core.run import RunPaths


def read_demos(run_dir: Path, contract: Contract) -> list[Episode]:
    """The demonstrations of a run folder in the order they were recorded, with their newest labels.

    Raises:
        ConfigError: there are none, or one was recorded under another interface.
    """
    folder = RunPaths(run_dir.expanduser().absolute()).episodes
    index, store = EpisodeIndex(folder), EpisodeStore(folder)
    demos = [
        read_episode(store.path(entry.episode_id), images=bool(contract.image_shapes)).labelled(*index.label(entry))
        for entry in index.entries
        if entry.purpose == "demo" and entry.steps
    ]
    for demo in demos:
        if demo.interface_digest != contract.interface_digest:
            raise ConfigError(
                f"demos = {run_dir}: {demo.episode_id} was recorded under another interface "
                f"({demo.interface_digest[:12]}) than contract {contract.task} ({contract.interface_digest[:12]}); "
                "give the demonstrations' contract, or record them again"
            )
    if not demos:
        raise ConfigError(f"demos = {run_dir}: no demonstrations in {folder}; record some with `inril demos`")
    return demos
