"""LeRobotDataset v3: ``meta/``, ``data/`` and ``videos/`` as huggingface/lerobot lays them out.

One row is one executed action with the observation before it. What the format has no place for (the closing
observation, stamps, what the policy sampled, the simulator's state) lies in ``inril/``, which its readers do not open.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np

from inril_core.data.episode import SOURCE_HUMAN, Episode
from inril_core.errors import ConfigError
from inril_core.exchange.columns import action_names, contract_of, reward_and_done
from inril_core.exchange.plain import PlainWriter, png_of
from inril_core.exchange.statistics import PixelStats, RunningStats, Stats, as_json, rows_stats
from inril_core.exchange.tables import FILES_PER_CHUNK, TableWriter, arrow, column, numpy_of, read_tables
from inril_core.exchange.video import VideoWriter
from inril_core.output import mark

CHUNK_FILE = "chunk-{chunk_index:03d}/file-{file_index:03d}"
STATE, ACTION, IMAGES = "observation.state", "action", "observation.images."
SIDE = "inril"
"""The folder of what LeRobot has no place for."""
Frames = Literal["video", "png"]


class LeRobotWriter:
    """Writes one episode after the other. Frames go into videos (H.264, lossy), or as PNG into the data (exact).

    rate_hz: of all episodes.

    Raises:
        ConfigError: the rate is no whole number, which the format demands.
    """

    def __init__(self, root: Path, rate_hz: float, frames: Frames = "video") -> None:
        if rate_hz != round(rate_hz) or rate_hz < 1:
            raise ConfigError(
                f"control_rate_hz = {rate_hz}: LeRobotDataset needs a whole number; export --format parquet"
            )
        self._root, self._rate_hz, self._frames = root, round(rate_hz), frames
        self._data = TableWriter(root, f"data/{CHUNK_FILE}.parquet")
        self._episodes = TableWriter(root, f"meta/episodes/{CHUNK_FILE}.parquet")
        self._side = PlainWriter(root / SIDE, omit=("actions",))
        self._videos: dict[str, VideoWriter] = {}
        self._tasks: dict[str, int] = {}
        self._features: dict[str, dict[str, Any]] = {}
        self._running: dict[str, RunningStats] = {}
        self._pixels: dict[str, PixelStats] = {}
        self._count, self._rows = 0, 0

    def write(self, episode: Episode) -> None:
        """Append an episode.

        Raises:
            ConfigError: it does not have the features of those before.
        """
        features = _features(episode, self._rate_hz, self._frames)
        self._features = self._features or features
        if features != self._features:
            differing = sorted(
                k for k in features.keys() | self._features.keys() if features.get(k) != self._features.get(k)
            )
            raise ConfigError(
                f"{episode.episode_id}: {', '.join(differing)} differ from the episodes before; "
                "export episodes of one contract and one purpose, or leave images out"
            )
        _check_frames(episode)
        values = _values(episode)
        count = episode.steps
        values |= {
            "timestamp": (np.arange(count) / self._rate_hz).astype(np.float32),
            "frame_index": np.arange(count, dtype=np.int64),
            "episode_index": np.full(count, self._count, np.int64),
            "index": np.arange(self._rows, self._rows + count, dtype=np.int64),
            "task_index": np.full(count, self._task(episode), np.int64),
        }
        columns = {name: column(array, fixed=True) for name, array in values.items()}
        stats = {name: rows_stats(array) for name, array in values.items()}
        for name, array in values.items():
            self._running.setdefault(name, RunningStats()).add(array)
        facts = {}
        for name, pixels in episode.images.items():
            key, kept = IMAGES + name, pixels[:count]
            seen = PixelStats()
            seen.add(kept)
            self._pixels.setdefault(key, PixelStats()).join(seen)
            stats[key] = seen.stats()
            if self._frames == "png":
                columns[key] = _png_column(kept)
            else:
                facts.update(self._write_video(key, kept))
        chunk, file = self._data.write({name: columns[name] for name in self._features if name in columns})
        facts |= {"data/chunk_index": chunk, "data/file_index": file}
        facts |= {"dataset_from_index": self._rows, "dataset_to_index": self._rows + count}
        self._write_facts(episode, facts, stats)
        self._side.write(episode, image_steps=(count,))
        self._count, self._rows = self._count + 1, self._rows + count

    def close(self) -> None:
        """End all files and write what concerns all episodes."""
        self._data.close()
        self._episodes.close()
        for writer in self._videos.values():
            writer.close()
        self._side.close("")
        for key, video in self._videos.items():
            self._features[key]["info"]["video.pix_fmt"] = video.pix_fmt
        self._write_tasks()
        info = {
            "codebase_version": "v3.0",
            "robot_type": None,
            "total_episodes": self._count,
            "total_frames": self._rows,
            "total_tasks": len(self._tasks),
            "chunks_size": FILES_PER_CHUNK,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200,
            "fps": self._rate_hz,
            "splits": {"train": f"0:{self._count}"},
            "data_path": f"data/{CHUNK_FILE}.parquet",
            "video_path": f"videos/{{video_key}}/{CHUNK_FILE}.mp4" if self._videos else None,
            "features": self._features,
        }
        (self._root / "meta" / "info.json").write_text(json.dumps(info, indent=4) + "\n")
        stats: dict[str, Stats] = {key: pixels.stats() for key, pixels in self._pixels.items()}
        for name, running in self._running.items():
            stats[name] = running.stats(_again(self._root / "data", name))
        (self._root / "meta" / "stats.json").write_text(json.dumps(as_json(stats), indent=4) + "\n")
        mark(self._root, "lerobot", episodes=self._count)

    def _task(self, episode: Episode) -> int:
        contract = contract_of(episode.contract_text)
        text = contract.description if contract is not None else episode.task
        return self._tasks.setdefault(text, len(self._tasks))

    def _write_video(self, key: str, pixels: np.ndarray) -> dict[str, Any]:
        if key not in self._videos:
            self._videos[key] = VideoWriter(self._root, f"videos/{key}/{CHUNK_FILE}.mp4", self._rate_hz)
        chunk, file, begin_s, end_s = self._videos[key].write(pixels)
        return {
            f"videos/{key}/chunk_index": chunk,
            f"videos/{key}/file_index": file,
            f"videos/{key}/from_timestamp": begin_s,
            f"videos/{key}/to_timestamp": end_s,
        }

    def _write_facts(self, episode: Episode, facts: dict[str, Any], stats: dict[str, Stats]) -> None:
        pa = arrow()
        text = next(text for text, index in self._tasks.items() if index == self._task(episode))
        row = {"episode_index": self._count, "tasks": [text], "length": episode.steps, **facts}
        row |= {
            f"stats/{name}/{key}": value.tolist() for name, values in stats.items() for key, value in values.items()
        }
        chunk, file = self._episodes.place(1 << 14)
        row |= {"meta/episodes/chunk_index": chunk, "meta/episodes/file_index": file}
        self._episodes.write({name: pa.array([value]) for name, value in row.items()}, placed=True)

    def _write_tasks(self) -> None:
        """As pandas writes a frame whose index is the task's text: readers look for that in the schema's metadata."""
        pa = arrow()
        table = pa.table(
            {"task_index": pa.array(self._tasks.values(), pa.int64()), "task": pa.array(self._tasks.keys())}
        )
        described = {
            "index_columns": ["task"],
            "column_indexes": [],
            "columns": [
                {
                    "name": "task_index",
                    "field_name": "task_index",
                    "pandas_type": "int64",
                    "numpy_type": "int64",
                    "metadata": None,
                },
                {
                    "name": "task",
                    "field_name": "task",
                    "pandas_type": "unicode",
                    "numpy_type": "object",
                    "metadata": None,
                },
            ],
            "creator": {"library": "pyarrow", "version": pa.__version__},
            "pandas_version": "2.2.0",
        }
        table = table.replace_schema_metadata({"pandas": json.dumps(described)})
        pa.parquet.write_table(table, self._root / "meta" / "tasks.parquet")


def _features(episode: Episode, rate_hz: int, frames: Frames) -> dict[str, dict[str, Any]]:
    contract = contract_of(episode.contract_text)
    width, size = episode.observations.shape[1], episode.actions.shape[1]
    names = [f"state_{index}" for index in range(width)]
    if contract is not None:
        names = [f"{f.name}_{i}" if f.size > 1 else f.name for f in contract.observation for i in range(f.size)]
    features: dict[str, dict[str, Any]] = {
        STATE: {"dtype": "float32", "shape": [width], "names": names},
        ACTION: {"dtype": "float32", "shape": [size], "names": action_names(episode.contract_text, size)},
        "observation.tool_pose": {"dtype": "float64", "shape": [7], "names": ["x", "y", "z", "qx", "qy", "qz", "qw"]},
        "control_source": _one("int64"),
        "intervention": _one("bool"),
        "next.reward": _one("float32"),
        "next.done": _one("bool"),
        "next.success": _one("bool"),
    }
    for name, pixels in episode.images.items():
        _, height_px, width_px, _ = pixels.shape
        feature: dict[str, Any] = {"dtype": "image" if frames == "png" else "video"}
        feature |= {"shape": [height_px, width_px, 3], "names": ["height", "width", "channels"]}
        if frames == "video":
            feature["info"] = {
                "video.height": height_px,
                "video.width": width_px,
                "video.codec": "h264",
                "video.pix_fmt": "yuv420p",
                "video.fps": rate_hz,
                "video.channels": 3,
                "has_audio": False,
                "is_depth_map": False,
            }
        features[IMAGES + name] = feature
    for name, dtype in (
        ("timestamp", "float32"),
        *((n, "int64") for n in ("frame_index", "episode_index", "index", "task_index")),
    ):
        features[name] = _one(dtype)
    return features


def _one(dtype: str) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [1], "names": None}


def _values(episode: Episode) -> dict[str, np.ndarray]:
    rewards, done = reward_and_done(episode)
    human = episode.source == SOURCE_HUMAN
    return {
        STATE: episode.observations[:-1],
        ACTION: episode.actions,
        "observation.tool_pose": episode.tool_pose[:-1],
        "control_source": episode.source.astype(np.int64),
        # in a demonstration the human does not correct anybody
        "intervention": human & (episode.purpose != "demo"),
        "next.reward": rewards.astype(np.float32),
        "next.done": done,
        "next.success": done & episode.succeeded,
    }


def _check_frames(episode: Episode) -> None:
    for name, steps in episode.image_steps.items():
        lacking = sorted(set(range(episode.steps)) - set(steps.tolist()))
        if lacking or list(steps[: episode.steps]) != list(range(episode.steps)):
            first = lacking[0] if lacking else 0
            raise ConfigError(
                f"{episode.episode_id}: camera {name} has no image at step {first} ({len(lacking)} of {episode.steps} "
                "lack); export with --no-images, or only with --complete what lacks nothing"
            )


def _png_column(pixels: np.ndarray) -> Any:
    pa = arrow()
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.array([{"bytes": png_of(image), "path": None} for image in pixels], kind)


def _again(folder: Path, name: str) -> Any:
    for table in read_tables(folder, columns=[name]):
        values = numpy_of(table[name])
        if values is not None:
            yield values
