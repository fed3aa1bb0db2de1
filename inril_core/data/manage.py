"""A run's episodes from a person's side, without a graph: look at them, leave one out, list a file that was copied."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from inril_core.contract import contract_from_text
from inril_core.data.audit import audit
from inril_core.data.container import read_recording
from inril_core.data.episode import Episode
from inril_core.data.finalise import SUFFIX
from inril_core.data.index import EpisodeIndex, IndexEntry
from inril_core.data.outliers import Outlier, find_outliers, observation_names
from inril_core.data.reader import MAX_EPISODE_BYTES, load_file, parse_episode, read_episode
from inril_core.errors import ConfigError, InrilError
from inril_core.files import write_atomically
from inril_core.run import RunPaths


@dataclass(frozen=True)
class Listed:
    """An episode of a run as it stands."""

    entry: IndexEntry
    success: bool | None
    """By the newest label; None: nobody said."""
    by: str
    dropped: bool
    outliers: tuple[Outlier, ...] = ()
    """Among the readable episodes of the same purpose that were not dropped."""
    problem: str = ""
    """Why its file cannot be used; empty where it can."""


@dataclass
class Listing:
    """All of a run's episodes."""

    episodes: list[Listed] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """Lines of the list that are left out, with file, line and reason."""
    unlisted: list[Path] = field(default_factory=list)
    """Episode files beside the list that it does not name; nothing uses them."""


def list_episodes(run_dir: Path) -> Listing:
    """Read the list and every file of a run folder.

    Raises:
        ConfigError: it is no run folder, or its list cannot be read.
    """
    index = open_run_index(run_dir)
    listing = Listing(problems=list(index.problems), unlisted=index.unlisted_files(SUFFIX))
    groups: dict[tuple[str, str], list[Episode]] = defaultdict(list)
    problems: dict[str, str] = {}
    for entry in index.entries:
        if entry.steps:
            try:
                episode = read_episode(index.path.parent / f"{entry.episode_id}{SUFFIX}", images=False)
            except InrilError as error:
                problems[entry.episode_id] = str(error)
                continue
            if episode.sha256 != entry.sha256:
                problems[entry.episode_id] = "has changed since it was listed"
            elif not index.dropped(entry.episode_id):
                groups[entry.purpose, episode.interface_digest].append(episode)
    outliers: dict[str, list[Outlier]] = defaultdict(list)
    for episodes in groups.values():
        for outlier in find_outliers(episodes, _names(episodes[0])):
            outliers[outlier.episode_id].append(outlier)
    for entry in index.entries:
        success, by = index.label(entry)
        name = entry.episode_id
        listing.episodes.append(
            Listed(entry, success, by, index.dropped(name), tuple(outliers[name]), problems.get(name, ""))
        )
    return listing


def drop_episode(run_dir: Path, episode_id: str, by: str, stamp_ns: int, dropped: bool = True) -> None:
    """Leave an episode out of all training, or take it in again; a running learner follows. Its file stays.

    Raises:
        ConfigError: no such run or episode, or the list cannot be written.
    """
    index = open_run_index(run_dir)
    try:
        index.drop(episode_id, by, stamp_ns, dropped)
    except KeyError as error:
        raise ConfigError(
            f"{run_dir}: has no episode {episode_id!r}; `inril data list {run_dir}` shows them"
        ) from error
    except OSError as error:
        raise ConfigError(f"{index.path}: {error.strerror or error}; nothing was changed") from error


def add_episode(run_dir: Path, file: Path) -> IndexEntry:
    """List an episode file that was recorded elsewhere; it is copied to its place unless it lies there already.

    Raises:
        ConfigError: no such run, the file is no episode, one of this id is listed already, or the disk is full.
    """
    index = open_run_index(run_dir)
    try:
        data = load_file(file)
        episode = parse_episode(data, str(file), images=False)
    except InrilError as error:
        raise ConfigError(f"{error}; only an episode that inril recorded can be listed") from error
    if index.find(episode.episode_id) is not None:
        raise ConfigError(f"{file}: episode {episode.episode_id} is in the list of {run_dir} already")
    place = index.path.parent / f"{episode.episode_id}{SUFFIX}"
    if place.exists() and place.read_bytes() != data:
        raise ConfigError(f"{place}: is there already with other content; move it away to list {file}")
    try:
        if not place.exists():
            write_atomically(place, data)
        return index.add(
            episode_id=episode.episode_id,
            run_id=episode.run_id,
            purpose=episode.purpose,
            steps=episode.steps,
            complete=episode.complete,
            success=episode.success,
            by=episode.outcome_source,
            sha256=episode.sha256,
            size_bytes=len(data),
            problems=audit(read_recording(data, MAX_EPISODE_BYTES)).problems,
        )
    except OSError as error:
        raise ConfigError(f"{place}: {error.strerror or error}; the episode was not listed") from error


def open_run_index(run_dir: Path) -> EpisodeIndex:
    """The list of the episodes of a run's folder.

    Raises:
        ConfigError: as `open_index`.
    """
    return open_index(RunPaths(run_dir.expanduser().absolute()).episodes)


def open_index(folder: Path) -> EpisodeIndex:
    """The list of a run's folder of episodes.

    Raises:
        ConfigError: there is no such folder, or the list cannot be read.
    """
    if not folder.is_dir():
        raise ConfigError(
            f"{folder.parent}: no folder of a run, there is no {folder.name}/ in it; give the folder that was "
            "--run-dir or run_dir:= when the episodes were recorded"
        )
    try:
        return EpisodeIndex(folder)
    except OSError as error:
        raise ConfigError(f"{folder}: its list cannot be read ({error.strerror or error})") from error


def _names(episode: Episode) -> list[str]:
    try:
        return observation_names(contract_from_text(episode.contract_text))
    except InrilError:
        return []
