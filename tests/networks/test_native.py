"""The C++ kernels: their products against torch's, and what happens where they cannot be compiled."""

import os
import stat
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inril_core.networks import native
from inril_core.networks.compute import ComputeConfig, give_kernels
from inril_core.networks.flat import Adam

SIZES = st.integers(1, 70)


@pytest.fixture(scope="module")
def kernels():
    found = native.library()
    if found is None:
        pytest.skip("no C++ compiler")
    return found


def strided(rows: int, columns: int, turned: bool, gap: int, seed: int) -> torch.Tensor:
    """A matrix of normal numbers whose rows (or columns) lie ``gap`` further apart than they must."""
    generator = torch.Generator().manual_seed(seed)
    shape = (columns, rows + gap) if turned else (rows, columns + gap)
    whole = torch.randn(shape, generator=generator)
    return whole[:, :rows].t() if turned else whole[:, :columns]


@settings(max_examples=200, deadline=None)
@given(
    m=SIZES, n=SIZES, k=SIZES, turned=st.tuples(st.booleans(), st.booleans()), gap=st.integers(0, 3), bias=st.booleans()
)
def test_products_are_torchs(kernels, m, n, k, turned, gap, bias) -> None:
    """Pins: the last rows of a block, the last columns of a panel, a stride that is taken for another."""
    a, b = strided(m, k, turned[0], gap, 1), strided(k, n, turned[1], gap, 2)
    added = torch.randn(n, generator=torch.Generator().manual_seed(3)) if bias else None
    expected = a.double() @ b.double() + (0.0 if added is None else added)
    found = native.product(kernels, a, b, added)
    assert found.shape == (m, n)
    assert float((found - expected).abs().max()) <= 1e-5 * (1.0 + k**0.5)


def test_a_product_with_nan_has_it(kernels) -> None:
    a, b = torch.zeros(9, 5), torch.ones(5, 40)
    a[4, 2] = float("nan")
    found = native.product(kernels, a, b)
    assert found[4].isnan().all() and not found[[0, 1, 2, 3, 5, 6, 7, 8]].isnan().any()


@given(st.lists(st.floats(-(2.0**50), 2.0**50, width=32), min_size=1, max_size=100))
def test_dots_are_of_double_precision(kernels, values) -> None:
    a = torch.tensor(values)
    b = a.flip(0)
    expected = (float(a.double() @ a.double()), float(a.double() @ b.double()), float(b.double() @ b.double()))
    assert native.dots(kernels, a, b) == pytest.approx(expected, rel=1e-12, abs=1e-12 * expected[0])


def test_a_tensor_that_they_cannot_read_is_refused() -> None:
    """Pins: memory read as what it is not."""
    with pytest.raises(TypeError, match="float32"):
        native.usable(torch.zeros(3, 2, dtype=torch.float64))
    turned = torch.arange(6.0).reshape(2, 3).t()
    assert native.usable(turned).stride(-1) == 1 and torch.equal(native.usable(turned), turned)


def test_moments_that_fade_become_zero(kernels) -> None:
    """Pins: denormal moments of units that are never active, with which a step is many times slower."""
    adam = Adam(64, 1e-3)
    adam.kernels = kernels
    adam.first.fill_(1.2e-38)
    for _ in range(8):
        adam.direction(torch.zeros(64))
    assert torch.equal(adam.first, torch.zeros(64))


def test_they_are_compiled_once(tmp_path: Path, kernels) -> None:
    native.load(tmp_path / "k")
    (made,) = (tmp_path / "k").iterdir()
    before = made.stat().st_mtime_ns
    native.load(tmp_path / "k")
    assert [made] == list((tmp_path / "k").iterdir()) and made.stat().st_mtime_ns == before


def test_a_compiler_that_fails_is_named_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pins: a half-written library that the next start loads."""
    broken = tmp_path / "broken-c++"
    broken.write_text("#!/bin/sh\nfor last; do :; done\necho half > $last\necho 'cannot find x.h' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    with pytest.raises(native.NoKernels, match="cannot find x.h.*CXX="):
        native.load(tmp_path / "k")
    assert list((tmp_path / "k").iterdir()) == []
    monkeypatch.setenv("CXX", str(tmp_path / "absent"))
    with pytest.raises(native.NoKernels, match="CXX="):
        native.load(tmp_path / "k")


def test_without_a_compiler_the_remedy_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(native.NoKernels, match="install one"):
        native.load(tmp_path / "k")


def test_a_folder_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    """Pins: another user's program run as ours."""
    folder = tmp_path / "k"
    folder.mkdir()
    os.chmod(folder, folder.stat().st_mode | stat.S_IWOTH)
    with pytest.raises(native.NoKernels, match="chmod 700"):
        native.load(folder)
    with pytest.raises(native.NoKernels, match="XDG_CACHE_HOME"):
        native.load(Path("/proc/no-such-folder"))


def test_where_they_cannot_be_torch_is_used_and_one_warning_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    native.library.cache_clear()

    class Method:
        def __init__(self) -> None:
            self.adam = Adam(3, 1e-3)

        def take_kernels(self, found: object) -> None:
            raise AssertionError("there are none")

    method = Method()
    try:
        with pytest.warns(UserWarning, match="no C\\+\\+ compiler.*torch's own kernels"):
            give_kernels(ComputeConfig(), method)
        give_kernels(ComputeConfig(), method)
    finally:
        native.library.cache_clear()
    assert method.adam.kernels is None


def test_settings_decide(kernels) -> None:
    class Method:
        def __init__(self) -> None:
            self.taken, self.adam = 0, Adam(3, 1e-3)

        def take_kernels(self, found: object) -> None:
            self.taken += 1

    for changes, expected in (({}, 1), ({"native": False}, 0), ({"precision": "bf16"}, 0), ({"device": "cuda"}, 0)):
        method = Method()
        give_kernels(ComputeConfig(**changes), method)
        assert method.taken == expected and (method.adam.kernels is not None) == bool(expected), changes
