"""Pins: statistics that are those of something else; numpy over all rows at once is the slow twin."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from inril_core.exchange.statistics import BINS, QUANTILES, PixelStats, RunningStats, rows_stats

ROWS = arrays(np.float32, st.tuples(st.integers(1, 30), st.just(2)), elements=st.floats(-100, 100, width=32))


@settings(deadline=None, max_examples=60)
@given(st.lists(ROWS, min_size=1, max_size=4))
def test_pieces_have_the_statistics_of_the_whole(pieces):
    running = RunningStats()
    for piece in pieces:
        running.add(piece)
    whole = np.concatenate(pieces).astype(np.float64)
    found, wanted = running.stats(pieces), rows_stats(whole)
    assert found["count"] == len(whole)
    for name in ("min", "max", "mean", "std"):
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-6, atol=1e-5, err_msg=name)
    bin_width = (whole.max(0) - whole.min(0)) / BINS
    for name, q in QUANTILES.items():
        low, high = (np.quantile(whole, q, axis=0, method=m) for m in ("lower", "higher"))
        assert (found[name] >= low - bin_width - 1e-6).all() and (found[name] <= high + bin_width + 1e-6).all(), name


def test_pictures_are_counted_exactly():
    pixels = np.random.default_rng(0).integers(0, 200, (5, 9, 7, 3), np.uint8)
    first, second = PixelStats(), PixelStats()
    first.add(pixels[:2])
    second.add(pixels[2:])
    first.join(second)
    stats, flat = first.stats(), pixels.reshape(-1, 3) / 255.0
    assert stats["count"].tolist() == [5] and stats["mean"].shape == (3, 1, 1)
    for name, wanted in (("min", flat.min(0)), ("max", flat.max(0)), ("mean", flat.mean(0)), ("std", flat.std(0))):
        np.testing.assert_allclose(stats[name].ravel(), wanted, atol=1e-9)
    np.testing.assert_allclose(stats["q50"].ravel(), np.quantile(flat, 0.5, axis=0), atol=1 / 255)
