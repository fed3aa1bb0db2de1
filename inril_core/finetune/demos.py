"""Demonstrations of an earlier run, read from its folder."""

from collections.abc import Callable
from pathlib import Path

from inril_core.contract import Contract
from inril_core.data.container import EpisodeUnreadable
from inril_core.data.episode import Episode
from inril_core.data.finalise import SUFFIX
from inril_core.data.manage import open_index
from inril_core.data.outliers import find_outliers, observation_names
from inril_core.data.reader import read_episode
from inril_core.errors import ConfigError
from inril_core.run import RunPaths


def read_demos(run_dir: Path, contract: Contract, on_problem: Callable[[str], None]) -> list[Episode]:
    """The demonstrations of a run folder in the order they were recorded, with their newest labels.

    Left out is what a person dropped, and, each told to ``on_problem``: a line of the list that is not sound, a file
    that cannot be read or has changed since it was listed, a file that the list does not name, and a demonstration
    with an outlier (`find_outliers`), because one far frame can spoil a normaliser.

    Raises:
        ConfigError: it is no run folder, nothing is left, or a demonstration was recorded under another interface.
    """
    folder = RunPaths(run_dir.expanduser().absolute()).episodes
    index = open_index(folder)
    for problem in index.problems:
        on_problem(problem)
    for path in index.unlisted_files(SUFFIX):
        on_problem(f"{path}: is not in the run's list and not used; list it with `inril data add`, or remove it")
    demos = []
    for entry in index.entries:
        if entry.purpose != "demo" or not entry.steps or index.dropped(entry.episode_id):
            continue
        try:
            demo = read_episode(folder / f"{entry.episode_id}{SUFFIX}", images=bool(contract.image_shapes))
        except EpisodeUnreadable as error:
            on_problem(f"{error}; it is left out")
            continue
        if demo.sha256 != entry.sha256:
            on_problem(f"{folder / entry.episode_id}{SUFFIX}: has changed since it was listed; it is left out")
            continue
        demos.append(index.annotated(entry, demo))
    for demo in demos:
        if demo.interface_digest != contract.interface_digest:
            raise ConfigError(
                f"demos = {run_dir}: {demo.episode_id} was recorded under another interface "
                f"({demo.interface_digest[:12]}) than contract {contract.task} ({contract.interface_digest[:12]}); "
                "give the demonstrations' contract, or record them again"
            )
    far = find_outliers(demos, observation_names(contract))
    for episode_id in dict.fromkeys(outlier.episode_id for outlier in far):
        own = [outlier for outlier in far if outlier.episode_id == episode_id]
        more = f" and {len(own) - 1} more" if len(own) > 1 else ""
        on_problem(f"outlier: {own[0]}{more}; the demonstration is left out (`inril data list` shows all)")
    demos = [demo for demo in demos if demo.episode_id not in {outlier.episode_id for outlier in far}]
    if not demos:
        raise ConfigError(f"demos = {run_dir}: no usable demonstrations in {folder}; record some with `inril demos`")
    return demos
