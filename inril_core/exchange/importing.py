"""Episodes of other projects, and of exports, as a run of this one."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import yaml

from inril_core.contract import load_contract
from inril_core.data.episode import Episode, InvalidEpisode
from inril_core.data.index import EpisodeIndex
from inril_core.errors import ConfigError
from inril_core.exchange.columns import Rows, episode_of
from inril_core.exchange.convert import convert
from inril_core.exchange.foreign import Foreign
from inril_core.exchange.furniture_read import furniture_files, read_furniture
from inril_core.exchange.lerobot_read import is_lerobot, read_lerobot, read_own_lerobot
from inril_core.exchange.mapping import ImportMap, contract_for, read_map, template
from inril_core.exchange.plain import read_plain
from inril_core.exchange.record import record_episode
from inril_core.exchange.robomimic_read import read_own_robomimic, read_robomimic_file
from inril_core.exchange.rosbag_read import described, is_rosbag, read_rosbag
from inril_core.exchange.rosetta import read_rosetta
from inril_core.output import Output, is_marked, mark
from inril_core.run import new_run_id, open_run

Format = Literal["lerobot", "hdf5", "parquet", "furniture", "rosbag"]
FORMATS = ("lerobot", "hdf5", "parquet", "furniture", "rosbag")
OnProgress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Imported:
    """What was read."""

    path: Path
    format: str
    episodes: int
    steps: int
    warnings: tuple[str, ...]
    left_out: tuple[str, ...]
    """Why each episode that does not fit was left out."""


def detect(source: Path) -> Format:
    """Which format a file or folder has.

    Raises:
        ConfigError: none that is known, or it is not there.
    """
    if not source.exists():
        raise ConfigError(f"{source}: there is no such file or folder")
    if source.is_dir():
        if is_lerobot(source):
            return "lerobot"
        if is_marked(source, "parquet"):
            return "parquet"
        if any(source.rglob("*.pkl")):
            return "furniture"
    elif source.suffix == ".pkl":
        return "furniture"
    elif source.suffix in (".hdf5", ".h5"):
        return "hdf5"
    if is_rosbag(source):
        return "rosbag"
    raise ConfigError(f"{source}: of no format that is known; say which with --format, one of {', '.join(FORMATS)}")


def write_map(
    source: Path, out: Path, contract_name: str, format: Format | None = None, rosetta: Path | None = None
) -> None:
    """Write a mapping to fill in for a file of another project.

    rosetta: the contract that a bag was recorded by; it says the mapping's topics and clock.

    Raises:
        ConfigError: the file cannot be read, ``out`` is there already, no such contract, or the bag lacks a topic.
    """
    kind, contract = format or detect(source), load_contract(contract_name)
    if out.exists():
        raise ConfigError(f"{out}: is there already; give another place")
    example, tail = None, ""
    if rosetta is not None:
        if kind != "rosbag":
            raise ConfigError(f"{source}: rosetta records rosbag2, and this is {kind}")
        example, tail = _by_rosetta(source, rosetta)
    elif kind == "rosbag":
        tail = "topics: {}  # column: /TOPIC:FIELD.FIELD\nclock: ???  # the topic whose messages are the steps\n"
        tail += "".join(f"#   {part}\n" for part in described(source).split("), "))
    elif kind == "parquet":
        raise ConfigError(f"{source}: was exported by inril and needs no mapping")
    else:
        example = next(_foreign(source, kind, None), None)
    try:
        out.write_text(template(contract_name, contract, example) + tail)
    except OSError as error:
        raise ConfigError(f"{out}: {error.strerror or error}; give a place that you may write to") from error


def _by_rosetta(source: Path, path: Path) -> tuple[Foreign, str]:
    """A bag read as its contract says, and the lines of a mapping that say so again."""
    said = read_rosetta(path)
    if not said.topics:
        raise ConfigError(f"{path}: holds images alone")
    example = read_rosbag(source, said.topics, said.rate_hz)
    example.skipped = list(said.images.values())
    values = {"topics": said.topics, "clock": said.rate_hz}
    shown = [f"#   {topic}: image {key}\n" for key, topic in said.images.items()]
    return example, f"# From {path.name}, of rosetta:\n{yaml.safe_dump(values, sort_keys=False)}" + "".join(shown)


def import_episodes(
    source: Path,
    out: Path,
    map_path: Path | None = None,
    format: Format | None = None,
    leave_out_bad: bool = False,
    replace: bool = False,
    on_progress: OnProgress = lambda done, total, name: None,
) -> Imported:
    """Make a run folder ``out`` of a file or folder, one episode at a time; it is whole or absent.

    map_path: what its columns mean; exports of this project need none. leave_out_bad: an episode that does not fit is
    left out and told, instead of ending the import.

    Raises:
        ConfigError: unknown format, no mapping, an episode that does not fit, nothing left, or ``out`` is there.
    """
    kind = format or detect(source)
    warnings: list[str] = []
    left_out: list[str] = []
    with Output(out, replace, partial(is_marked, kind="run")) as output:
        run_id = new_run_id(output.path.name)
        run = open_run(output.part, run_id)
        for folder in (run.paths.raw, run.paths.episodes):
            folder.mkdir(parents=True)
        index = EpisodeIndex(run.paths.episodes)
        origin = {"format": kind, "source": source.name}
        episodes = _episodes(source, kind, map_path, run_id, warnings, left_out, leave_out_bad)
        for number, episode in enumerate(episodes):
            on_progress(number, 0, episode.episode_id)
            if index.find(episode.episode_id) is not None:
                raise ConfigError(f"{source}: holds episode {episode.episode_id} twice; remove one")
            record_episode(episode, run.paths.raw, index, origin, time.time_ns())
        if not index.entries:
            raise ConfigError(f"{source}: no episode was read" + "".join(f"; {text}" for text in left_out[:3]))
        shutil.rmtree(run.paths.raw)
        mark(output.part, "run", origin=origin)
        output.commit()
    steps = sum(entry.steps for entry in index.entries)
    return Imported(output.path, kind, len(index.entries), steps, tuple(warnings), tuple(left_out))


def _episodes(
    source: Path,
    kind: Format,
    map_path: Path | None,
    run_id: str,
    warnings: list[str],
    left_out: list[str],
    leave_out_bad: bool,
) -> Iterator[Episode]:
    own = _own(source, kind)
    if own is not None:
        if map_path is not None:
            raise ConfigError(f"{source}: was exported by inril and knows its contract; leave --map out")
        for rows in own:
            try:
                yield episode_of(rows)
            except InvalidEpisode as error:
                raise ConfigError(f"{source}: {rows.facts.get('episode_id')}: {error}") from error
        return
    if map_path is None:
        raise ConfigError(
            f"{source}: give a mapping with --map; write one with "
            f"`inril data import {source} --write-map FILE --contract NAME`"
        )
    map_ = read_map(map_path)
    contract = contract_for(map_, map_path)
    for number, foreign in enumerate(_foreign(source, kind, map_)):
        try:
            converted = convert(foreign, map_, contract, run_id, source.name, number)
        except (ConfigError, InvalidEpisode) as error:
            if not leave_out_bad:
                raise ConfigError(f"{source}: {error} (--leave-out-bad imports the others)") from error
            left_out.append(str(error))
            continue
        warnings += converted.warnings
        yield converted.episode


def _own(source: Path, kind: Format) -> Iterator[Rows] | None:
    if kind == "parquet":
        return read_plain(source)
    if kind == "lerobot":
        return read_own_lerobot(source)
    return read_own_robomimic(source) if kind == "hdf5" else None


def _foreign(source: Path, kind: Format, map_: ImportMap | None) -> Iterator[Foreign]:
    images = None if map_ is None else tuple(map_.images.values())
    if kind == "lerobot":
        return read_lerobot(source, images)
    if kind == "hdf5":
        return read_robomimic_file(source, None if map_ is None else map_.subset, images)
    if kind == "furniture":
        if not furniture_files(source):
            raise ConfigError(f"{source}: holds no .pkl file")
        return read_furniture(source, images)
    if kind == "rosbag" and map_ is not None:
        return iter([read_rosbag(source, map_.topics, map_.clock, images or ())])
    raise ConfigError(f"{source}: a Parquet folder that inril did not export; import LeRobotDataset instead")
