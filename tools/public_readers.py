"""Loads exports with the readers that their formats come from, in an environment of their own, and compares.

    python tools/public_readers.py make VENV                    # a venv with lerobot and robomimic (needs the network)
    VENV/bin/python tools/public_readers.py lerobot EXPORT REFERENCE.npz
    VENV/bin/python tools/public_readers.py robomimic EXPORT REFERENCE.npz

REFERENCE.npz holds, for episode number N: ``N/observations [T + 1, D]``, ``N/actions [T, A]``, ``N/rewards [T]``,
``N/source [T]``, ``N/success``, ``N/task`` and ``N/image/NAME [T + 1, H, W, 3]``. Exit code 1 and the first difference
when something is not what it was.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

if sys.argv[1:2] != ["make"]:  # which a bare Python runs
    import numpy as np

# lerobot pins torch below what this project uses: both come without their dependencies, which follow by hand
TORCH = ("torch==2.13.0",)
READERS = (
    "lerobot==0.6.1" if sys.version_info >= (3, 12) else "lerobot==0.4.4",
    "robomimic==0.3.0",
    "torchvision==0.28.*",
)
NEEDED = (
    *(
        "av<16",
        "datasets>=4.8,<5",
        "draccus",
        "einops",
        "gymnasium",
        "h5py",
        "huggingface-hub<2",
        "imageio",
        "imageio-ffmpeg",
    ),
    *(
        "jsonlines",
        "matplotlib",
        "numpy",
        "opencv-python-headless<4.14",
        "packaging<26",
        "pandas<3",
        "Pillow<13",
        "psutil",
    ),
    *("pyarrow<30", "safetensors", "six", "tensorboard", "tensorboardX", "termcolor", "tqdm"),
)
BESIDE = ("blake3", "mcap", "mcap-ros2-support", "pydantic", "pyyaml", "scipy")
"""Of inril, where it serves a policy of lerobot: docs/bring_your_own_base.md names them, too."""
QUANTILE_TOLERANCE = 2.0 / 5000
"""Of a column's range: lerobot takes quantiles from a histogram of 5,000 bins."""
VIDEO_TOLERANCE = 4.0
"""Mean absolute difference of a frame behind lossy H.264, of 255."""


class Difference(Exception):
    """A public reader sees something else than was recorded."""


def make(venv: Path) -> None:
    """Create the environment."""
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    for extra, packages in (((), TORCH), (("--no-deps",), READERS), ((), NEEDED + BESIDE)):
        subprocess.run([venv / "bin" / "python", "-m", "pip", "install", "--quiet", *extra, *packages], check=True)


def same(name: str, found: Any, wanted: Any, tolerance: float = 0.0) -> None:
    """Compare arrays, or scalars."""
    found, wanted = np.asarray(found), np.asarray(wanted)
    if found.shape != wanted.shape:
        raise Difference(f"{name}: shape {found.shape}, recorded {wanted.shape}")
    apart = (
        np.abs(found.astype(np.float64) - wanted.astype(np.float64)) if wanted.dtype.kind in "fiub" else found != wanted
    )
    if (apart > tolerance).any():
        raise Difference(f"{name}: differs by {apart.max()}")


def lerobot(export: Path, reference: dict[str, np.ndarray]) -> str:
    """Every field of every frame, the tasks and all statistics."""
    import torch
    from lerobot.datasets.compute_stats import aggregate_stats, compute_episode_stats
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    dataset = LeRobotDataset("inril/export", root=export, video_backend="pyav")
    episodes = sorted({int(key.split("/")[0]) for key in reference})
    same("total_episodes", dataset.num_episodes, len(episodes))
    frames = {number: [] for number in episodes}
    for index in range(len(dataset)):
        item = dataset[index]
        same("index", int(item["index"]), index)
        frames[int(item["episode_index"])].append(item)
    numeric = {k: v for k, v in dataset.meta.features.items() if v["dtype"] not in ("video", "image")}
    all_stats = []
    for number, items in frames.items():
        wanted = {key.split("/", 1)[1]: value for key, value in reference.items() if key.startswith(f"{number}/")}
        count = len(wanted["actions"])
        same(f"length of {number}", len(items), count)

        def column(name: str, items: list[Any] = items) -> np.ndarray:
            return torch.stack([torch.as_tensor(item[name]) for item in items]).numpy()

        same("observation.state", column("observation.state"), wanted["observations"][:-1])
        same("action", column("action"), wanted["actions"])
        same("next.reward", column("next.reward").ravel(), wanted["rewards"])
        same("control_source", column("control_source").ravel(), wanted["source"])
        same("timestamp", column("timestamp"), (np.arange(count) / dataset.fps).astype(np.float32))
        same("next.done", column("next.done").ravel(), np.arange(count) == count - 1)
        same("next.success", column("next.success").ravel()[-1], bool(wanted["success"]))
        if any(item["task"] != str(wanted["task"]) for item in items):
            raise Difference(f"task: {items[0]['task']!r}, recorded {wanted['task']!s}")
        data, features = {name: column(name) for name in numeric}, dict(numeric)
        data = {
            name: values.reshape(count, -1) if numeric[name]["shape"] != (1,) else values.ravel()
            for name, values in data.items()
        }
        for key in dataset.meta.camera_keys:
            pixels = np.round(column(key).transpose(0, 2, 3, 1) * 255.0)
            recorded = wanted["image/" + key.removeprefix("observation.images.")][:-1]
            exact = dataset.meta.features[key]["dtype"] == "image"
            same(key, pixels, recorded, 0.0 if exact else 255.0)
            if np.abs(pixels - recorded).mean() > VIDEO_TOLERANCE:
                raise Difference(f"{key}: frames differ by {np.abs(pixels - recorded).mean():.1f} of 255 on average")
            _check_image_stats(key, _stored(dataset, number, key), recorded)
        stats = compute_episode_stats(data, features)
        for name in numeric:
            _check_stats(f"episode {number}, {name}", _stored(dataset, number, name), stats[name])
        all_stats.append(stats)
    whole = aggregate_stats(all_stats)
    rows = {
        name: np.concatenate([np.stack([np.asarray(i[name]) for i in items]) for items in frames.values()])
        for name in numeric
    }
    for name in numeric:
        flat = rows[name].reshape(len(dataset), -1).astype(np.float64)
        exact = {
            f"q{round(q * 100):02d}": np.quantile(flat, q, axis=0, method="lower") for q in (0.01, 0.1, 0.5, 0.9, 0.99)
        }
        _check_stats(name, dataset.meta.stats[name], whole[name] | exact)
    return f"{len(episodes)} episodes, {len(dataset)} frames, {len(dataset.meta.features)} features"


def _stored(dataset: Any, episode: int, name: str) -> dict[str, np.ndarray]:
    import pandas

    tables = pandas.concat(
        [pandas.read_parquet(p) for p in sorted((dataset.root / "meta" / "episodes").glob("*/*.parquet"))]
    )
    row, prefix = tables.iloc[episode], f"stats/{name}/"
    return {key.removeprefix(prefix): np.array(_plain(row[key])) for key in tables.columns if key.startswith(prefix)}


def _plain(value: Any) -> Any:
    return [_plain(part) for part in value] if isinstance(value, (list, np.ndarray)) else value


def _check_stats(name: str, found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    if set(found) != set(wanted):
        raise Difference(f"{name}: statistics {sorted(found)}, lerobot has {sorted(wanted)}")
    span = np.max(wanted["max"].astype(np.float64) - wanted["min"].astype(np.float64))
    for key, value in wanted.items():
        scale = float(np.abs(value).max()) + float(span)
        count = int(np.ravel(wanted["count"])[0])
        # between two neighbouring values every number is a quantile of some definition
        tolerance = 0.0 if key == "count" else scale * 1e-5 + 1e-9
        if key == "std":  # lerobot subtracts the squared mean from the mean of squares, in float32
            tolerance += scale * 1e-3
        if key.startswith("q"):
            tolerance += span * (QUANTILE_TOLERANCE + (1.0 if count < 500 else 0.05))
        same(f"{name}, {key}", found[key], value, tolerance)


def _check_image_stats(name: str, found: dict[str, np.ndarray], pixels: np.ndarray) -> None:
    from lerobot.datasets.compute_stats import get_feature_stats

    wanted = get_feature_stats(pixels.transpose(0, 3, 1, 2), axis=(0, 2, 3), keepdims=True)
    for key, value in wanted.items():
        value = value if key == "count" else np.squeeze(value / 255.0, axis=0)
        # a quantile of whole numbers may lie anywhere between two of them
        same(f"{name}, {key}", found[key], value, 4.0 / 255.0 if key.startswith("q") else 1e-3)


def robomimic(export: Path, reference: dict[str, np.ndarray]) -> str:
    """Every field of every demonstration, through `SequenceDataset`."""
    import h5py
    import robomimic.utils.file_utils as file_utils
    import robomimic.utils.obs_utils as obs_utils
    from robomimic.utils.dataset import SequenceDataset

    with h5py.File(export) as file:
        keys = list(file["data/demo_0/obs"])
        count, total = len(file["data"]), int(file["data"].attrs["total"])
    images = [key for key in keys if key.endswith("_image")]
    low = [key for key in keys if key not in images]
    obs_utils.initialize_obs_utils_with_obs_specs({"obs": {"low_dim": low, "rgb": images}})
    if not file_utils.get_env_metadata_from_dataset(str(export))["env_name"]:
        raise Difference("env_args have no env_name")
    dataset = SequenceDataset(
        str(export),
        obs_keys=keys,
        dataset_keys=("actions", "rewards", "dones"),
        load_next_obs=True,
        hdf5_cache_mode=None,
    )
    same("demonstrations", dataset.n_demos, count)
    same("total", len(dataset), total)
    place = 0
    for number in range(count):
        wanted = {key.split("/", 1)[1]: value for key, value in reference.items() if key.startswith(f"{number}/")}
        for step in range(len(wanted["actions"])):
            item = dataset[place]
            place += 1
            same("actions", item["actions"][0], wanted["actions"][step])
            same("rewards", item["rewards"].ravel()[0], wanted["rewards"][step])
            same("dones", item["dones"].ravel()[0], step == len(wanted["actions"]) - 1)
            for group, row in (("obs", step), ("next_obs", step + 1)):
                width = sum(item[group][key].shape[-1] for key in low)
                same(f"{group} width", width, wanted["observations"].shape[1])
                values = np.concatenate([item[group][key][0] for key in str(wanted["fields"]).split(",")])
                same(group, values, wanted["observations"][row])
                for key in images:
                    same(
                        f"{group}/{key}",
                        np.round(item[group][key][0]),
                        wanted["image/" + key.removesuffix("_image")][row],
                    )
    return f"{count} demonstrations, {total} steps, {len(keys)} observation keys"


def main(words: list[str]) -> int:
    """Run a command line."""
    if len(words) == 2 and words[0] == "make":
        make(Path(words[1]))
        return 0
    if len(words) != 3 or words[0] not in ("lerobot", "robomimic"):
        print(__doc__)
        return 2
    with np.load(words[2]) as file:
        reference = dict(file)
    try:
        print((lerobot if words[0] == "lerobot" else robomimic)(Path(words[1]), reference))
    except Difference as difference:
        print(f"{words[1]}: {difference}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
