"""Plain Parquet: what an episode holds, one row a step, with a file that says what each column means.

``episodes/``, ``steps/`` (T rows an episode), ``observations/`` (T + 1 rows), ``images/`` (PNG). With ``omit`` the same
writer keeps, beside another format, what that format has no place for.
"""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from inril_core.data.episode import Episode
from inril_core.errors import ConfigError
from inril_core.exchange.columns import (
    OBSERVATION_COLUMNS,
    STEP_COLUMNS,
    UNITS,
    Rows,
    field_units,
    json_facts,
    observation_slices,
    rows_of,
)
from inril_core.exchange.tables import TableWriter, arrow, column, numpy_of, read_tables
from inril_core.output import mark

PATTERN = "{name}/chunk-{{chunk_index:03d}}/file-{{file_index:03d}}.parquet"
NAMES = ("episodes", "steps", "observations", "images")
_WIDE = ("raw", "aux", "expert_actions", "qpos", "link_age_s")
"""Columns of lists whose length may differ between episodes, or that some do not have."""
_OFTEN_ABSENT = {
    "steps": ("chunk_index", "rewards", "aux", "expert_actions", "marks", "given_rewards", "disagreement"),
    "observations": ("qpos",),
}
OBSERVATION = "observation."


class PlainWriter:
    """Writes one episode after the other.

    omit: columns that are not written.
    """

    def __init__(self, root: Path, omit: Collection[str] = ()) -> None:
        self._omit = set(omit)
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self._tables = {name: TableWriter(root, PATTERN.format(name=name)) for name in NAMES}
        self._count = 0
        self._columns: dict[str, dict[str, Any]] = {}
        self._contract = ""

    def write(self, episode: Episode, image_steps: Collection[int] | None = None) -> None:
        """Append an episode. image_steps: the observations whose images are written; None: all."""
        pa = arrow()
        rows = rows_of(episode)
        self._contract = self._contract or episode.contract_text
        self._tables["episodes"].write(
            {
                "episode_index": pa.array([self._count], pa.int64()),
                "steps": pa.array([episode.steps], pa.int64()),
                "episode_id": pa.array([episode.episode_id]),
                "task": pa.array([episode.task]),
                "purpose": pa.array([episode.purpose]),
                "success": pa.array([episode.success], pa.bool_()),
                "facts": pa.array([json_facts(rows.facts)]),
            }
        )
        steps = {name: self._column(name, values) for name, values in rows.steps.items() if name not in self._omit}
        self._write_rows("steps", steps, episode.steps)
        seen: dict[str, Any] = {}
        for name, values in rows.observations.items():
            if name == "observations" and name not in self._omit:
                for field, part in observation_slices(episode.contract_text, values.shape[1]).items():
                    self._describe(OBSERVATION + field, values[:, part])
                    seen[OBSERVATION + field] = column(values[:, part], fixed=True)
            elif name not in self._omit:
                seen[name] = self._column(name, values)
        self._write_rows("observations", seen, episode.steps + 1)
        self._write_images(
            [
                (step, name, png_of(image))
                for name, (indices, pixels) in rows.images.items()
                for step, image in zip(indices.tolist(), pixels, strict=True)
                if image_steps is None or step in image_steps
            ]
        )
        self._count += 1

    def close(self, kind: str) -> None:
        """End all files and write ``schema.json``. kind: of the export, for the marker."""
        for table in self._tables.values():
            table.close()
        units = field_units(self._contract)
        for name, facts in self._columns.items():
            unit, frame = units.get(name.removeprefix(OBSERVATION), (UNITS.get(name, ""), ""))
            facts.update(unit=unit, frame=frame)
        schema = {
            "rows": {"steps": "one for each action", "observations": "one for each observation, one more than actions"},
            "columns": self._columns,
            "contract": json.loads(self._contract) if self._contract.startswith("{") else self._contract,
        }
        (self.root / "schema.json").write_text(json.dumps(schema, indent=1) + "\n")
        if kind:
            mark(self.root, kind, episodes=self._count)

    def _write_rows(self, table: str, columns: dict[str, Any], count: int) -> None:
        pa = arrow()
        if not columns:
            return
        for name in _OFTEN_ABSENT[table]:  # so that the first episode does not decide for the others
            if name not in columns and name not in self._omit:
                kind = pa.from_numpy_dtype((STEP_COLUMNS | OBSERVATION_COLUMNS)[name])
                columns[name] = pa.nulls(count, pa.list_(kind) if name in _WIDE else kind)
        indices = np.full(count, self._count, np.int64)
        self._tables[table].write(
            {"episode_index": pa.array(indices), "step": pa.array(np.arange(count, dtype=np.int64)), **columns}
        )

    def _column(self, name: str, values: np.ndarray) -> Any:
        self._describe(name, values)
        return column(values, fixed=name not in _WIDE)

    def _describe(self, name: str, values: np.ndarray) -> None:
        dtype = "string" if values.dtype == object else values.dtype.name
        self._columns.setdefault(name, {"dtype": dtype, "shape": list(values.shape[1:])})

    def _write_images(self, images: list[tuple[int, str, bytes]]) -> None:
        if not images:
            return
        pa = arrow()
        steps, names, data = zip(*images, strict=True)
        self._tables["images"].write(
            {
                "episode_index": pa.array([self._count] * len(images), pa.int64()),
                "step": pa.array(steps, pa.int64()),
                "name": pa.array(names),
                "png": pa.array(data, pa.binary()),
            }
        )


def read_plain(root: Path) -> Iterator[Rows]:
    """Episodes of a folder that `PlainWriter` wrote, with the columns that are there.

    Raises:
        ConfigError: it is none, or damaged.
    """
    if not (root / "episodes").is_dir():
        raise ConfigError(f"{root}: holds no episodes/ of a Parquet export")
    steps, observations, images = (_by_episode(root / name) for name in ("steps", "observations", "images"))
    try:
        for table in read_tables(root / "episodes"):
            for number, text in zip(table["episode_index"].to_pylist(), table["facts"].to_pylist(), strict=True):
                yield _rows(json.loads(text), steps.take(number), observations.take(number), images.take(number))
    except (KeyError, ValueError, TypeError) as error:
        raise ConfigError(f"{root}: not a whole Parquet export ({error}); export it again") from error


def png_of(pixels: np.ndarray) -> bytes:
    """uint8[H, W, 3] as PNG."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "png", compress_level=3)
    return out.getvalue()


def pixels_of(data: bytes) -> np.ndarray:
    """uint8[H, W, 3] of a PNG or JPEG.

    Raises:
        ValueError: it is neither.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"not a readable image ({error})") from error


class EpisodeStream:
    """Tables that are sorted by episode, handed out episode by episode."""

    def __init__(self, tables: Iterator[Any]) -> None:
        self._tables = tables
        self._kept: Any = None

    def take(self, number: int) -> Any:
        pa = arrow()
        found = []
        while True:
            if self._kept is None or not len(self._kept):
                self._kept = next(self._tables, None)
                if self._kept is None:
                    break
            indices = np.asarray(self._kept["episode_index"])
            begin, end = np.searchsorted(indices, [number, number + 1])
            if end > begin:
                found.append(self._kept.slice(begin, end - begin))
            self._kept = self._kept.slice(end)
            if len(self._kept):
                break
        return pa.concat_tables(found) if found else None


def _by_episode(folder: Path) -> EpisodeStream:
    return EpisodeStream(read_tables(folder) if folder.is_dir() else iter(()))


def _rows(facts: dict[str, Any], steps: Any, observations: Any, images: Any) -> Rows:
    rows = Rows(facts)
    for name in steps.schema.names if steps is not None else ():
        values = numpy_of(steps[name])
        if (name in STEP_COLUMNS or name in ("policy_run_ids", "limits")) and values is not None:
            rows.steps[name] = values
    parts = {}
    for name in observations.schema.names if observations is not None else ():
        values = numpy_of(observations[name])
        if name in OBSERVATION_COLUMNS and values is not None:
            rows.observations[name] = values
        elif name.startswith(OBSERVATION) and values is not None:
            parts[name.removeprefix(OBSERVATION)] = values
    if parts:
        order = observation_slices(facts["contract_text"], sum(part.shape[1] for part in parts.values()))
        rows.observations["observations"] = np.concatenate([parts[name] for name in order], 1)
    if images is not None:
        names = np.array(images["name"].to_pylist(), object)
        indices, data = np.asarray(images["step"]), images["png"].to_pylist()
        for name in dict.fromkeys(names):
            chosen = np.flatnonzero(names == name)
            pixels = np.stack([pixels_of(data[place]) for place in chosen])
            rows.images[str(name)] = (indices[chosen].astype(np.int32), pixels)
    return rows
