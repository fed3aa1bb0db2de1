"""Pins: an export that is half there, that overwrites what it should not, or that says less than the recordings."""

import gc
import json
import os
import signal
import subprocess
import sys
import weakref

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="needs the extra `data`")
pytest.importorskip("h5py", reason="needs the extra `data`")
import pyarrow.parquet as pq  # noqa: E402

from inril_core.contract import contract_from_text, load_contract  # noqa: E402
from inril_core.data.select import Selection  # noqa: E402
from inril_core.errors import ConfigError  # noqa: E402
from inril_core.exchange import exporting  # noqa: E402
from inril_core.exchange.exporting import export_run  # noqa: E402
from inril_core.exchange.tables import TableWriter, column, read_tables  # noqa: E402
from inril_core.exchange.video import VideoWriter, read_frames  # noqa: E402
from tests.exchange.episodes import CONTRACT, make, pictures, record_run  # noqa: E402


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two demonstrations with images and one failed training episode."""
    made = [make(0, images=True), make(1, steps=4, images=True), make(2, purpose="train", success=False)]
    return record_run(tmp_path_factory.mktemp("exports") / "run", made)


def test_the_data_set_says_what_its_columns_are(run, tmp_path):
    done = export_run(run, tmp_path / "out", "lerobot", Selection(purposes=("demo",)))
    assert (done.episodes, done.steps, done.warnings) == (2, 10, ())
    info = json.loads((tmp_path / "out/meta/info.json").read_text())
    assert (info["codebase_version"], info["fps"], info["total_frames"]) == ("v3.0", 10, 10)
    state = info["features"]["observation.state"]
    assert state["shape"] == [CONTRACT.state_size] == [len(state["names"])]
    assert state["names"][:4] == ["tip_in_hole_m_0", "tip_in_hole_m_1", "tip_in_hole_m_2", "leg_in_hole_rot6d_0"]
    assert info["features"]["observation.images.front"]["dtype"] == "video"
    assert pq.read_table(tmp_path / "out/meta/tasks.parquet")["task"].to_pylist() == [CONTRACT.description]
    stats = json.loads((tmp_path / "out/meta/stats.json").read_text())
    assert stats["action"]["count"] == [10] and len(stats["action"]["q99"]) == 6


def test_the_plain_format_describes_itself(run, tmp_path):
    export_run(run, tmp_path / "out", "parquet", Selection(purposes=("demo",)))
    schema = json.loads((tmp_path / "out/schema.json").read_text())
    assert schema["columns"]["observation.tip_in_hole_m"] == {
        "dtype": "float32",
        "shape": [3],
        "unit": "m",
        "frame": "hole",
    }
    assert "quaternion" in schema["columns"]["tool_pose"]["unit"] and schema["contract"]["task"] == "insert_leg"
    steps = [table.num_rows for table in read_tables(tmp_path / "out/steps")]
    assert sum(steps) == 10
    assert sum(table.num_rows for table in read_tables(tmp_path / "out/observations")) == 12


def test_what_is_there_is_not_overwritten_unless_it_was_made_so(run, tmp_path):
    out = tmp_path / "out"
    export_run(run, out, "parquet")
    before = sorted(path.stat().st_mtime_ns for path in out.rglob("*"))
    with pytest.raises(ConfigError, match="is there already.*--force"):
        export_run(run, out, "parquet")
    assert sorted(path.stat().st_mtime_ns for path in out.rglob("*")) == before
    export_run(run, out, "parquet", Selection(purposes=("demo",)), replace=True)
    assert json.loads((out / "inril_export.json").read_text())["episodes"] == 2
    with pytest.raises(ConfigError, match="not made by this command"):
        export_run(run, out, "lerobot", Selection(purposes=("demo",)), replace=True)
    precious = tmp_path / "home"
    precious.mkdir()
    (precious / "thesis.tex").write_text("x")
    (tmp_path / "notes.hdf5").write_text("no HDF5")
    for place, name in ((precious, "parquet"), (tmp_path / "notes.hdf5", "hdf5")):
        with pytest.raises(ConfigError, match="not made by this command"):
            export_run(run, place, name, replace=True)
    assert (precious / "thesis.tex").exists()


@pytest.mark.parametrize("kind", exporting.FORMATS)
def test_a_killed_export_leaves_nothing_that_looks_whole(run, tmp_path, kind):
    out = tmp_path / "out.hdf5"
    script = (
        "import os, signal, sys; from pathlib import Path; from inril_core.exchange.exporting import export_run\n"
        "def kill(done, total, name):\n"
        "    if done == total: os.kill(os.getpid(), signal.SIGKILL)\n"
        "export_run(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], images=False, on_progress=kill)"
    )
    killed = subprocess.run([sys.executable, "-c", script, run, out, kind], timeout=120, env=os.environ)
    assert killed.returncode == -signal.SIGKILL
    assert not out.exists() and (tmp_path / ".out.hdf5.part").exists()
    export_run(run, out, kind, images=False)
    assert out.exists() and [path.name for path in tmp_path.iterdir()] == ["out.hdf5"]


def test_a_failed_export_leaves_nothing(run, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TableWriter, "write", full)
    with pytest.raises(ConfigError, match="No space left.*free some space.*nothing was written"):
        export_run(run, tmp_path / "out", "parquet")
    assert list(tmp_path.iterdir()) == []


def test_one_episode_at_a_time_is_in_memory(run, tmp_path, monkeypatch):
    alive = []
    write = exporting.PlainWriter.write

    def watched(self, episode):
        gc.collect()
        assert sum(ref() is not None for ref in alive) == 0, "an earlier episode is still held"
        write(self, episode)
        alive.append(weakref.ref(episode))

    monkeypatch.setattr(exporting.PlainWriter, "write", watched)
    export_run(run, tmp_path / "out", "parquet")
    assert len(alive) == 3


def test_what_does_not_fit_is_named(run, tmp_path):
    with pytest.raises(ConfigError, match="made-2: observation.images.front differ.*leave images out"):
        export_run(run, tmp_path / "out", "lerobot")
    assert export_run(run, tmp_path / "out", "lerobot", images=False).episodes == 3
    with pytest.raises(ConfigError, match="no episode fits"):
        export_run(run, tmp_path / "none", "lerobot", Selection(ids=("nobody",)))
    with pytest.raises(ConfigError, match="no folder of a run"):
        export_run(tmp_path, tmp_path / "none", "parquet")
    other = record_run(tmp_path / "two", [make(0), make(1, contract=load_contract("one_leg_low"))])
    for kind, message in (("lerobot", "differ from the episodes before"), ("hdf5", "another contract")):
        with pytest.raises(ConfigError, match=f"made-1.*{message}"):
            export_run(other, tmp_path / "none", kind)


def test_a_missing_picture_is_named(tmp_path):
    whole = make(0, images=True)
    lacking = make(1, images=True)
    kept = np.array([0, 1, 3, 4, 5, 6])
    object.__setattr__(lacking, "images", {"front": whole.images["front"][kept]})
    object.__setattr__(lacking, "image_steps", {"front": kept.astype(np.int32)})
    run = record_run(tmp_path / "run", [whole, lacking])
    for kind in ("lerobot", "hdf5"):
        with pytest.raises(ConfigError, match="made-1: camera front has no image at (step|observation) 2"):
            export_run(run, tmp_path / "out", kind)
        with pytest.raises(ConfigError, match="--no-images.*--complete"):
            export_run(run, tmp_path / "out", kind)
        assert export_run(run, tmp_path / f"no_images_{kind}", kind, images=False).episodes == 2
        assert export_run(run, tmp_path / f"complete_{kind}", kind, Selection(complete=True)).episodes == 1


def test_a_rate_that_is_no_whole_number_is_refused_by_lerobot_alone(tmp_path):
    contract = contract_from_text(json.dumps({**CONTRACT.model_dump(mode="json"), "control_rate_hz": 12.5}))
    run = record_run(tmp_path / "run", [make(0, contract=contract)])
    with pytest.raises(ConfigError, match="12.5.*whole number"):
        export_run(run, tmp_path / "out", "lerobot")
    assert export_run(run, tmp_path / "out", "parquet").episodes == 1


def test_a_rate_that_the_stamps_deny_is_told(tmp_path):
    slow = make(0)
    object.__setattr__(slow, "stamps_ns", slow.stamps_ns[0] + 3 * (slow.stamps_ns - slow.stamps_ns[0]))
    run = record_run(tmp_path / "run", [slow])
    (warning,) = export_run(run, tmp_path / "out", "lerobot").warnings
    assert "3.33 Hz, the contract 10 Hz" in warning


def test_full_files_are_followed_by_others(tmp_path):
    with TableWriter(tmp_path, "{chunk_index}/{file_index}.parquet", file_bytes=1000) as writer:
        places = [writer.write({"x": column(np.full(100, n, np.int64), True)}) for n in range(3)]
    assert places == [(0, 0), (0, 1), (0, 2)]
    assert [table["x"][0].as_py() for table in read_tables(tmp_path)] == [0, 1, 2]
    video = VideoWriter(tmp_path, "{chunk_index}/{file_index}.mp4", 10, file_bytes=1)
    placed = [video.write(pictures(5, seed, size)) for seed, size in ((0, 84), (1, 84))]
    video.close()
    assert [place[:2] for place in placed] == [(0, 0), (0, 1)] and placed[1][2:] == (0.0, 0.5)


@pytest.mark.parametrize("size", [84, 63])
def test_frames_of_one_episode_are_found_among_others(tmp_path, size):
    video = VideoWriter(tmp_path, "v.mp4", 10)
    frames = [pictures(4 + seed, seed, size) for seed in range(3)]
    begins = [video.write(pixels)[2] for pixels in frames]
    video.close()
    for begin_s, wanted in zip(begins, frames, strict=True):
        found = read_frames(tmp_path / "v.mp4", begin_s, len(wanted), 10.0)
        assert np.abs(found.astype(int) - wanted).mean() < 4.0
    with pytest.raises(ConfigError, match="has no frame at"):
        read_frames(tmp_path / "v.mp4", begins[2], 20, 10.0)
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ConfigError, match="not a readable video"):
        read_frames(tmp_path / "text.mp4", 0.0, 1, 10.0)
