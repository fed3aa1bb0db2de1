"""Pins: an episode that is not, bit for bit, what it was after a way through another format."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("pyarrow", reason="needs the extra `data`")
pytest.importorskip("h5py", reason="needs the extra `data`")

from inril_core.exchange.exporting import export_run  # noqa: E402
from inril_core.exchange.importing import import_episodes  # noqa: E402
from tests.exchange.episodes import assert_same, make, read_run, record_run  # noqa: E402

KINDS = st.fixed_dictionaries(
    {
        "steps": st.integers(1, 9),
        "purpose": st.sampled_from(("demo", "train", "eval")),
        "success": st.sampled_from((True, False, None)),
        "answered": st.booleans(),
        "aux": st.integers(0, 3),
        "simulated": st.booleans(),
        "marks": st.booleans(),
    }
)


@pytest.mark.timeout(1200)
@settings(max_examples=12, deadline=None)
@given(st.lists(KINDS, min_size=1, max_size=3), st.booleans())
def test_every_format_gives_back_what_it_was_given(kinds, images):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        made = [make(seed, images=images, **kind) for seed, kind in enumerate(kinds)]
        run = record_run(root / "run", made)
        recorded = read_run(run)
        for found, wanted in zip(recorded, made, strict=True):
            assert_same(found, wanted)
        for name, options in (("parquet", {}), ("hdf5", {}), ("lerobot", {"frames": "png"})):
            out = root / (f"{name}.hdf5" if name == "hdf5" else name)
            export_run(run, out, name, **options)
            import_episodes(out, root / f"from_{name}")
            for found, wanted in zip(read_run(root / f"from_{name}"), recorded, strict=True):
                assert_same(found, wanted)


def test_a_video_changes_pictures_a_little_and_nothing_else(tmp_path):
    run = record_run(tmp_path / "run", [make(seed, steps=5 + seed, images=True) for seed in range(3)])
    export_run(run, tmp_path / "out", "lerobot")
    import_episodes(tmp_path / "out", tmp_path / "back")
    for found, wanted in zip(read_run(tmp_path / "back"), read_run(run), strict=True):
        assert_same(found, wanted, pixels=False)
        apart = np.abs(found.images["front"].astype(int) - wanted.images["front"])
        assert apart.mean() < 4.0
        np.testing.assert_array_equal(found.images["front"][-1], wanted.images["front"][-1])  # beside the video


def test_what_somebody_corrected_in_the_data_set_counts(tmp_path):
    """Pins: a corrected export that comes back as it was before."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    run = record_run(tmp_path / "run", [make(0)])
    export_run(run, tmp_path / "out", "lerobot")
    path = tmp_path / "out" / "data" / "chunk-000" / "file-000.parquet"
    table = pq.read_table(path)
    place = table.schema.get_field_index("action")
    actions = np.zeros(table.num_rows * 6, np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(actions), 6)
    pq.write_table(table.set_column(place, table.schema.field(place), column), path)
    import_episodes(tmp_path / "out", tmp_path / "back")
    assert not read_run(tmp_path / "back")[0].actions.any()
