"""Pins: an export that this project alone can read. The readers are lerobot's and robomimic's own, in a venv that
`make readers` makes."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="needs the extra `data`")
pytest.importorskip("h5py", reason="needs the extra `data`")

from inril_core.exchange.columns import reward_and_done  # noqa: E402
from inril_core.exchange.exporting import export_run  # noqa: E402
from tests.exchange.episodes import CONTRACT, make, read_run, record_run  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
PYTHON = Path(os.environ.get("INRIL_READERS", ROOT / ".venv-readers")) / "bin" / "python"
SCRIPT = ROOT / "tools" / "public_readers.py"

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="lerobot and robomimic are not there: `make readers`")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    made = [make(seed, steps=5 + 20 * seed, images=True, success=seed != 1) for seed in range(3)]
    return record_run(tmp_path_factory.mktemp("readers") / "run", made)


@pytest.fixture(scope="module")
def reference(run):
    """What was recorded, for another Python."""
    arrays = {}
    for number, episode in enumerate(read_run(run)):
        facts = {
            "observations": episode.observations,
            "actions": episode.actions,
            "rewards": reward_and_done(episode)[0],
            "source": episode.source,
            "success": np.array(episode.succeeded),
            "task": np.array(CONTRACT.description),
            "fields": np.array(",".join(CONTRACT.slices())),
        }
        facts |= {f"image/{name}": pixels for name, pixels in episode.images.items()}
        arrays |= {f"{number}/{name}": value for name, value in facts.items()}
    path = run.parent / "reference.npz"
    np.savez(path, **arrays)
    return path


def check(reader: str, export: Path, reference: Path) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("LD_", "PYTHON", "_ROS"))}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(reference.parent / "cache")}
    words = [PYTHON, SCRIPT, reader, export, reference]
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=200)


@pytest.mark.parametrize("frames", ["video", "png"])
def test_lerobot_reads_every_field_and_all_statistics(run, reference, frames, tmp_path):
    export_run(run, tmp_path / "out", "lerobot", frames=frames)
    done = check("lerobot", tmp_path / "out", reference)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "3 episodes, 75 frames" in done.stdout


def test_robomimic_reads_every_field(run, reference, tmp_path):
    export_run(run, tmp_path / "out.hdf5", "hdf5")
    done = check("robomimic", tmp_path / "out.hdf5", reference)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "3 demonstrations, 75 steps, 8 observation keys" in done.stdout


def test_the_check_itself_sees_a_difference(run, reference, tmp_path):
    export_run(run, tmp_path / "out", "lerobot", frames="png")
    stats = tmp_path / "out" / "meta" / "stats.json"
    stats.write_text(stats.read_text().replace('"count": [\n            75', '"count": [\n            74'))
    done = check("lerobot", tmp_path / "out", reference)
    assert done.returncode == 1 and "count: differs by 1" in done.stdout
