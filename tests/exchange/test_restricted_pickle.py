"""Pins: a pickle that runs something. Every attack leaves a file behind if it succeeds; none may."""

import collections
import contextlib
import copyreg
import datetime
import io
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays, scalar_dtypes

from inril_core.exchange.restricted_pickle import PickleRefused, read_pickle

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=9)
    | st.binary(max_size=9)
    | arrays(st.sampled_from(("f4", "f8", "i2", "u1", ">i4", "?", "<U3", "S4")), st.sampled_from(((), (3,), (2, 3)))),
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=12,
)


def same(found, wanted) -> bool:
    if isinstance(wanted, np.ndarray):
        if not isinstance(found, np.ndarray) or found.dtype != wanted.dtype or found.shape != wanted.shape:
            return False
        return found.tobytes() == wanted.tobytes()  # also where a number is not one
    if isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(same(found[key], wanted[key]) for key in wanted)
    if isinstance(wanted, (list, tuple)):
        return type(found) is type(wanted) and len(found) == len(wanted) and all(map(same, found, wanted))
    return type(found) is type(wanted) and found == wanted


@settings(max_examples=80, deadline=None)
@given(PLAIN, st.integers(0, 5))
def test_plain_values_and_arrays_come_back(tmp_path_factory, value, protocol):
    path = tmp_path_factory.mktemp("pickles") / "value.pkl"
    path.write_bytes(pickle.dumps(value, protocol))
    if protocol < 3 and b"bytearray" in path.read_bytes():
        return
    assert same(read_pickle(path), value)


@given(scalar_dtypes().filter(lambda dtype: dtype.kind in "biuf" and dtype.itemsize <= 8), st.booleans())
@settings(max_examples=30, deadline=None)
def test_numbers_and_orders_of_numpy_come_back(tmp_path_factory, dtype, fortran):
    path = tmp_path_factory.mktemp("pickles") / "value.pkl"
    values = np.asarray(np.arange(6).reshape(2, 3), dtype, order="F" if fortran else "C")
    path.write_bytes(pickle.dumps({"a": values, "one": values[0, 1]}))
    found = read_pickle(path)
    np.testing.assert_array_equal(found["a"], values)
    assert found["a"].dtype == values.dtype and found["one"] == values[0, 1]


class _Reduces:
    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


def _object_array(payload):
    array = np.empty(2, object)
    array[0] = payload
    return array


def attacks(flag: Path) -> dict[str, bytes]:
    """Pickles that make the file `flag` when Python reads them, or that hold what is no plain value."""
    command = f"touch {flag}"
    system = _Reduces(os.system, (command,))
    copyreg.add_extension("posix", "system", 0xBEEF)
    try:
        extension = pickle.dumps(system, 4)
    finally:
        copyreg.remove_extension("posix", "system", 0xBEEF)
    text = repr(command).encode()
    named = {name: pickle.dumps(system, protocol) for name, protocol in (("text", 0), ("old", 2), ("new", 5))}
    return named | {
        "extension code": extension,
        "nested in a list": pickle.dumps({"observations": [1, [system]]}),
        "as a key": b"\x80\x04}(" + pickle.dumps(system, 4)[2:-1] + b"K\x01u.",
        "after a good value": pickle.dumps({"a": 1})[:-1] + b"0" + pickle.dumps(system)[2:],
        "subprocess": pickle.dumps(_Reduces(subprocess.call, (["touch", str(flag)],))),
        "eval": pickle.dumps(_Reduces(eval, (f"__import__('os').system({command!r})",))),
        "reduce with state": pickle.dumps(_Reduces(collections.OrderedDict, (), {"x": system})),
        "list items": pickle.dumps(_Reduces(list, (), None, iter([system]))),
        "object array": pickle.dumps(_object_array(system)),
        "object array, protocol 2": pickle.dumps(_object_array(system), 2),
        "INST": b"(S" + text + b"\nios\nsystem\n.",
        "OBJ": b"(cos\nsystem\nS" + text + b"\no.",
        "NEWOBJ": b"\x80\x02cos\nsystem\nX\x01\x00\x00\x00a\x85\x81.",
        "numpy's own names": b"\x80\x04cnumpy.core.multiarray\n_reconstruct\ncos\nsystem\nK\x00\x85C\x01b\x87R.",
        "a name below numpy": b"\x80\x04cnumpy.testing._private.utils\nrunstring\nX\x01\x00\x00\x00a}\x86R.",
        "dotted name": b"\x80\x04\x8c\x0cnumpy.core\x94\x8c\x11multiarray.os.system\x94\x93.",
        "array with another state": pickle.dumps(_Reduces(np.ndarray, ((2,), np.dtype(object)))),
        "persistent id": b"P../../etc/passwd\n.",
        "buffers": pickle.dumps(np.zeros(9), 5, buffer_callback=lambda buffer: False),
    }


NAMES = sorted(attacks(Path("flag")))


@pytest.mark.parametrize("name", NAMES)
def test_an_attack_is_refused_and_runs_nothing(tmp_path, name):
    flag, path = tmp_path / "flag", tmp_path / "attack.pkl"
    path.write_bytes(attacks(flag)[name])
    with pytest.raises(PickleRefused):
        read_pickle(path)
    assert not flag.exists()


@pytest.mark.parametrize("name", ["text", "old", "new", "nested in a list", "object array", "INST", "eval"])
def test_the_attacks_are_attacks(tmp_path, name):
    """Python's own unpickling, in a process of its own, is taken in by them."""
    flag, path = tmp_path / "flag", tmp_path / "attack.pkl"
    path.write_bytes(attacks(flag)[name])
    code = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))"
    subprocess.run([sys.executable, "-c", code, path], capture_output=True, timeout=60)
    assert flag.exists()


@pytest.mark.parametrize(
    "value", [datetime.date(2020, 1, 1), {1, 2}, Path("x"), np.zeros(2, "datetime64[s]"), np.zeros(2, "i4,f8"), 1j]
)
def test_other_values_are_refused_by_name(tmp_path, value):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(value))
    with pytest.raises(PickleRefused, match="x.pkl: "):
        read_pickle(tmp_path / "x.pkl")


def test_damage_of_any_kind_is_refused(tmp_path):
    good = pickle.dumps({"a": np.arange(50.0), "b": ["text", 1.5]})
    rng = np.random.default_rng(0)
    path = tmp_path / "x.pkl"
    for number in range(300):
        spoilt = bytearray(good)
        for place in rng.integers(0, len(good), 3):
            spoilt[place] = rng.integers(256)
        path.write_bytes(bytes(spoilt[: len(good) if number % 2 else rng.integers(len(good))]))
        with contextlib.suppress(PickleRefused):
            read_pickle(path)
    for text in (b"", b".", b"0.", b"no pickle", b"\x80\xff.", b"]" * 3 + b"."):
        path.write_bytes(text)
        with pytest.raises(PickleRefused):
            read_pickle(path)


def test_what_unfolds_or_nests_without_end_is_refused(tmp_path, monkeypatch):
    from inril_core.exchange import restricted_pickle

    monkeypatch.setattr(restricted_pickle, "MAX_ITEMS", 10_000)
    value: list = []
    for _ in range(60):
        value = [value, value]
    itself: list = []
    itself.append(itself)
    for made in (value, itself):
        out = io.BytesIO()
        pickle.dump(made, out)
        (tmp_path / "x.pkl").write_bytes(out.getvalue())
        with pytest.raises(PickleRefused, match="nested deeper"):
            read_pickle(tmp_path / "x.pkl")
    (tmp_path / "x.pkl").write_bytes(b"\x80\x04\x8e" + (2**62).to_bytes(8, "little") + b"abc.")
    with pytest.raises(PickleRefused):
        read_pickle(tmp_path / "x.pkl")
    with pytest.raises(PickleRefused, match="at most 3 are read"):
        read_pickle(tmp_path / "x.pkl", max_bytes=3)
    with pytest.raises(PickleRefused, match="No such file"):
        read_pickle(tmp_path / "none.pkl")
