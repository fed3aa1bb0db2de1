"""Episodes of several runs, or some of one, as a run of their own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from inril_core.contract import contract_from_text
from inril_core.data.index import EpisodeIndex
from inril_core.data.manage import open_run_index
from inril_core.data.reader import read_episode
from inril_core.data.select import Selection, episode_path, listed
from inril_core.errors import ConfigError, InrilError
from inril_core.files import sync_folder
from inril_core.run import new_run_id, open_run

OnProgress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Collected:
    """What was copied."""

    episodes: int
    steps: int
    twice: tuple[str, ...]
    """Episodes that several runs hold, with the same content; copied once."""


def collect(
    runs: Sequence[Path],
    into: Path,
    selection: Selection,
    name: str,
    on_progress: OnProgress = lambda done, total, name: None,
) -> Collected:
    """Copy the selected episodes of ``runs``, with all that was said of them, into the new run folder ``into``.

    Recordings stay as they are, byte by byte. name: of the run, for its id.

    Raises:
        ConfigError: nothing fits, a file cannot be read or has changed, two runs hold other content under one id, or
            their interfaces differ.
        OSError: the disk is full.
    """
    indices = [open_run_index(run_dir) for run_dir in runs]
    run = open_run(into, new_run_id(name))
    run.paths.episodes.mkdir()
    target = EpisodeIndex(run.paths.episodes)
    entries = [(index, entry) for index in indices for entry in listed(index, selection)]
    first: tuple[str, str, str] | None = None
    twice = []
    for done, (index, entry) in enumerate(entries):
        on_progress(done, len(entries), entry.episode_id)
        path = episode_path(index, entry.episode_id)
        there = target.find(entry.episode_id)
        if there is not None:
            if there.sha256 != entry.sha256:
                raise ConfigError(
                    f"{path}: another run holds other content under this id; leave one out with `inril data drop`"
                )
            twice.append(entry.episode_id)
            continue
        try:
            episode = read_episode(path, images=False)
        except InrilError as error:
            raise ConfigError(f"{error}; leave it out with `inril data drop RUN {entry.episode_id}`") from error
        if episode.sha256 != entry.sha256:
            raise ConfigError(f"{path}: has changed since it was listed; `inril data verify` shows what is bad")
        if not selection.takes(episode):
            continue
        if first is None:
            first = (episode.episode_id, episode.interface_digest, episode.contract_text)
        elif episode.interface_digest != first[1]:
            raise ConfigError(
                f"{path}: was recorded under another interface than {first[0]}: "
                f"{_differences(first[2], episode.contract_text)}; collect them into runs of their own"
            )
        shutil.copyfile(path, episode_path(target, entry.episode_id))
        _sync(episode_path(target, entry.episode_id))
        target.take_over(index, entry)
    on_progress(len(entries), len(entries), "")
    if not target.entries:
        raise ConfigError(f"{', '.join(map(str, runs))}: no episode fits; `inril data list` shows what there is")
    sync_folder(run.paths.episodes)
    return Collected(len(target.entries), sum(entry.steps for entry in target.entries), tuple(twice))


def _differences(left: str, right: str) -> str:
    try:
        found = contract_from_text(left).differences(contract_from_text(right))
    except InrilError:
        return "the contracts differ"
    return "; ".join(found[:3])


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
