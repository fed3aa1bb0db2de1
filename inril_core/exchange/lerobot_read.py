"""Reads LeRobotDataset v3 folders, those of other projects and those written here."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from inril_core.errors import ConfigError
from inril_core.exchange.columns import Rows
from inril_core.exchange.foreign import Foreign
from inril_core.exchange.lerobot_write import ACTION, IMAGES, SIDE, STATE
from inril_core.exchange.plain import EpisodeStream, pixels_of, read_plain
from inril_core.exchange.tables import numpy_of, read_tables
from inril_core.exchange.video import read_frames

_SUCCESS = ("next.success", "success")
_TEMPLATE = re.compile(r"[A-Za-z0-9_\-./]*(\{(video_key|chunk_index(:0\dd)?|file_index(:0\dd)?)\}[A-Za-z0-9_\-./]*)+")


def is_lerobot(path: Path) -> bool:
    """Whether a folder is a LeRobotDataset, of any version."""
    return (path / "meta" / "info.json").is_file()


def read_lerobot(root: Path, image_keys: tuple[str, ...] | None = None) -> Iterator[Foreign]:
    """Episodes one at a time. image_keys: the cameras to decode; None: all.

    Raises:
        ConfigError: another version, damaged, or a file is missing; says how to convert.
    """
    info = _info(root)
    features, rate_hz = info["features"], float(info["fps"])
    cameras = [k for k, f in features.items() if f.get("dtype") in ("image", "video")]
    wanted = [k for k in cameras if image_keys is None or k in image_keys]
    tables = EpisodeStream(read_tables(root / "data"))
    for facts in _episodes(root):
        number, count = int(facts["episode_index"]), int(facts["length"])
        table = tables.take(number)
        if table is None or len(table) != count:
            found = 0 if table is None else len(table)
            raise ConfigError(
                f"{root}: episode {number} has {found} rows in data/, meta/ says {count}; download it again"
            )
        foreign = Foreign(f"episode-{number:06d}", rate_hz=rate_hz)
        for name in table.schema.names:
            if name not in cameras:
                values = _numbers(root, table, name)
                if values is not None:
                    foreign.columns[name] = values
        foreign.skipped = [key for key in cameras if key not in wanted]
        for key in wanted:
            foreign.images[key] = _frames(root, info, features[key], facts, table, key, count, rate_hz)
        said = next((foreign.columns[name] for name in _SUCCESS if name in foreign.columns), None)
        foreign.success = None if said is None else bool(np.asarray(said).any())
        yield foreign


def read_own_lerobot(root: Path) -> Iterator[Rows] | None:
    """Episodes of a folder that was written here, without loss but that of a video; None: it is another's."""
    if not (root / SIDE / "episodes").is_dir():
        return None
    return _own(root)


def _own(root: Path) -> Iterator[Rows]:
    for rows, foreign in zip(read_plain(root / SIDE), read_lerobot(root), strict=True):
        count = len(foreign.columns[ACTION])
        state = rows.observations["observations"]
        if len(state) != count + 1:
            raise ConfigError(
                f"{root}: {SIDE}/ does not fit data/ in {foreign.name}; remove {SIDE}/ to import without it"
            )
        # what stands in the data set counts, also where somebody has corrected it
        rows.observations["observations"] = np.concatenate([foreign.columns[STATE], state[-1:]])
        rows.steps["actions"] = foreign.columns[ACTION]
        for key, pixels in foreign.images.items():
            name = key.removeprefix(IMAGES)
            steps, closing = rows.images.get(name, (np.zeros(0, np.int32), pixels[:0]))
            rows.images[name] = (
                np.concatenate([np.arange(count, dtype=np.int32), steps]),
                np.concatenate([pixels, closing]) if len(closing) else pixels,
            )
        yield rows


def _info(root: Path) -> dict[str, Any]:
    try:
        info = json.loads((root / "meta" / "info.json").read_text())
        version = str(info["codebase_version"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(
            f"{root}: no readable meta/info.json ({error}); give the folder of a LeRobotDataset"
        ) from error
    if not version.startswith("v3."):
        raise ConfigError(
            f"{root}: codebase_version = {version!r:.20}: version 3 is read; convert it with lerobot's "
            "convert_dataset_v21_to_v30"
        )
    missing = [key for key in ("features", "fps", "data_path") if key not in info]
    if (
        missing
        or not isinstance(info["features"], dict)
        or not isinstance(info["fps"], (int, float))
        or info["fps"] <= 0
    ):
        raise ConfigError(f"{root}: meta/info.json lacks {missing or 'a sound fps and features'}; download it again")
    for key in ("data_path", "video_path"):
        template = info.get(key)
        if template is not None and (not _TEMPLATE.fullmatch(str(template)) or ".." in template or template[0] == "/"):
            raise ConfigError(
                f"{root}: meta/info.json: {key} = {template!r:.80} leads out of the folder, or is no template"
            )
    return info


def _episodes(root: Path) -> Iterator[dict[str, Any]]:
    found = False
    for table in read_tables(root / "meta" / "episodes"):
        names = [name for name in table.schema.names if not name.startswith("stats/")]
        for row in table.select(names).to_pylist():
            if "episode_index" not in row or "length" not in row:
                raise ConfigError(f"{root}: meta/episodes lacks episode_index or length; download it again")
            found = True
            yield row
    if not found:
        raise ConfigError(f"{root}: meta/episodes holds no episode")


def _numbers(root: Path, table: Any, name: str) -> np.ndarray | None:
    try:
        values = numpy_of(table[name])
    except ValueError as error:
        raise ConfigError(f"{root}: column {name}: {error}") from error
    return None if values is None or values.dtype.kind not in "biuf" else values


def _frames(
    root: Path,
    info: dict[str, Any],
    feature: dict[str, Any],
    facts: dict[str, Any],
    table: Any,
    key: str,
    count: int,
    rate_hz: float,
) -> np.ndarray:
    try:
        if feature["dtype"] == "image":
            return np.stack([pixels_of(cell["bytes"]) for cell in table[key].to_pylist()])
        place = {"chunk_index": facts[f"videos/{key}/chunk_index"], "file_index": facts[f"videos/{key}/file_index"]}
        path = root / info["video_path"].format(video_key=key, **place)
        begin_s = float(facts[f"videos/{key}/from_timestamp"])
    except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise ConfigError(f"{root}: camera {key}: {error!r}; download it again") from error
    if not path.resolve().is_relative_to(root.resolve()):
        raise ConfigError(f"{root}: camera {key} leads out of the folder")
    return read_frames(path, begin_s, count, rate_hz)
