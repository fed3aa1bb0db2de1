"""Kernels in C++ for small networks on a CPU, compiled once on the machine that runs them.

An update of a small network in torch is some hundred calls of a few microseconds each, and its LayerNorm is slower than
its matrix products. What lies in ``kernels`` beside this file does each gradient in one call. It is compiled for this
processor with the machine's own C++ compiler, a few seconds the first time, and kept in the user's cache. Without a
compiler torch's own kernels are used: the same numbers within rounding, slower.
"""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import warnings
import weakref
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_SOURCES = Path(__file__).with_name("kernels")
_SOURCE = _SOURCES / "kernels.cpp"
_COMPILERS = ("c++", "g++", "clang++")
_FLAGS = (
    *("-std=c++17", "-O3", "-march=native", "-fPIC", "-shared", "-pthread", "-ffp-contract=fast"),
    # sums in any order; NaN and infinity are kept
    *("-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math", "-freciprocal-math"),
)
_TIMEOUT_S = 120.0

_F, _D, _I, _L, _P = ctypes.c_float, ctypes.c_double, ctypes.c_int, ctypes.c_long, ctypes.c_void_p
_ROWS = (_P, _L)  # where the first row begins, and numbers from row to row
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "inril_use_threads": (None, _I),
    "inril_ensemble_new": (_P, _I, _I, _P),
    "inril_ensemble_free": (None, _P),
    "inril_gaussian_new": (_P, _I, _P, _P),
    "inril_gaussian_free": (None, _P),
    "inril_product": (None, _I, _I, _I, _P, _L, _L, _P, _L, _L, _P, _P),
    "inril_regression": (None, _P, _P, *_ROWS, *_ROWS, _P, _I, _I, _P, _P),
    "inril_targets": (None, *5 * (_P,), _I, *_ROWS, _P, _I, *_ROWS, *_ROWS, _F, _F, _F, _P),
    "inril_value": (None, *4 * (_P,), *_ROWS, *_ROWS, _P, *4 * (_I,), _F, _F, _P, _P),
    "inril_imitation": (_D, _P, _P, *_ROWS, *_ROWS, _I, _I, _F, _P),
    "inril_products": (None, _L, _P, _P, _P),
    "inril_direction": (None, _L, _P, _P, _P, *4 * (_F,), _P),
    "inril_step": (None, _L, _P, _P, _P, *5 * (_F,), _P, _P, _F),
}


class NoKernels(Exception):
    """They cannot be compiled or loaded here; says why."""


@cache
def library() -> ctypes.CDLL | None:
    """The kernels, compiled if need be; None, with one warning that says why: they cannot be."""
    try:
        return load(cache_folder())
    except NoKernels as error:
        warnings.warn(f"{error}; until then learning runs on torch's own kernels, a few times slower", stacklevel=2)
        return None


def cache_folder() -> Path:
    """Where compiled kernels are kept: the user's cache."""
    given = os.environ.get("XDG_CACHE_HOME")
    return (Path(given) if given else Path.home() / ".cache") / "inril" / "kernels"


def load(folder: Path) -> ctypes.CDLL:
    """The kernels in ``folder``, compiled if they are not there.

    Raises:
        NoKernels: there is no compiler, it fails, or the folder is no safe place for a program.
    """
    compiler = os.environ.get("CXX") or next((found for name in _COMPILERS if (found := shutil.which(name))), None)
    if compiler is None:
        raise NoKernels("no C++ compiler: install one (sudo apt-get install g++)")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        facts = folder.stat()
        if facts.st_uid != os.getuid() or facts.st_mode & 0o022:
            raise NoKernels(f"{folder}: others may write there; run: chmod 700 {shlex.quote(str(folder))}")
        path = folder / f"kernels-{_key(compiler)}.so"
        if not path.exists():
            _compile(compiler, path)
        return _bound(ctypes.CDLL(str(path)))
    except OSError as error:
        raise NoKernels(f"{folder}: {error}; make it writable, or set XDG_CACHE_HOME to a folder that is") from error


def _key(compiler: str) -> str:
    """Changes with whatever the compiled kernels depend on."""
    whole = hashlib.sha256()
    for path in sorted(_SOURCES.iterdir()):
        whole.update(path.read_bytes())
    for text in (compiler, *_FLAGS, platform.machine(), _processor()):
        whole.update(text.encode() + b"\0")
    return whole.hexdigest()[:16]


def _processor() -> str:
    """What this processor can do: kernels for another one may use instructions that it lacks."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def _compile(compiler: str, path: Path) -> None:
    handle, made = tempfile.mkstemp(suffix=".so", dir=path.parent)
    os.close(handle)
    command = [*shlex.split(compiler), *_FLAGS, str(_SOURCE), "-o", made]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        if done.returncode:
            said = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[0]
            raise NoKernels(f"{compiler} cannot compile {_SOURCE.name}: {said}; name another compiler by CXX=")
        os.replace(made, path)  # whole or not at all: other processes may be at it, too
    except subprocess.TimeoutExpired as error:
        raise NoKernels(f"{compiler} did not end within {_TIMEOUT_S:.0f} s; start again on an idle machine") from error
    except OSError as error:
        raise NoKernels(f"{compiler}: {error}; name a C++ compiler by CXX=") from error
    finally:
        Path(made).unlink(missing_ok=True)


def _bound(found: ctypes.CDLL) -> ctypes.CDLL:
    for name, (result, *arguments) in _SIGNATURES.items():
        function = getattr(found, name)
        function.restype, function.argtypes = result, arguments
    return found


class Handle:
    """A network's shape and workspace in the kernels; freed with this object."""

    def __init__(self, found: ctypes.CDLL, kind: str, *arguments: Any) -> None:
        self.address = getattr(found, f"inril_{kind}_new")(*arguments)
        freed = weakref.finalize(self, getattr(found, f"inril_{kind}_free"), self.address)
        freed.atexit = False  # a thread may still train while the process ends


def integers(values: Sequence[int]) -> ctypes.Array[ctypes.c_int]:
    """As a C array."""
    return (ctypes.c_int * len(values))(*values)


def usable(rows: Tensor) -> Tensor:
    """``rows``, copied where the kernels could not read them: float32 on the CPU, each row in one piece."""
    if rows.dtype is not torch.float32 or not rows.is_cpu:
        raise TypeError(f"{rows.dtype} on {rows.device}: the kernels compute in float32 on the CPU")
    return rows if rows.stride(-1) == 1 else rows.contiguous()


def dots(found: ctypes.CDLL, a: Tensor, b: Tensor) -> tuple[float, float, float]:
    """|a|^2, <a, b> and |b|^2 of two vectors, in double precision."""
    a, b, result = usable(a), usable(b), (ctypes.c_double * 3)()
    found.inril_products(a.shape[0], a.data_ptr(), b.data_ptr(), result)
    return result[0], result[1], result[2]


def product(found: ctypes.CDLL, a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """``a [M, K] @ b [K, N] + bias [N]``; both may be of any strides."""
    (m, k), n = a.shape, b.shape[1]
    c = torch.empty(m, n)
    found.inril_product(
        m, n, k, a.data_ptr(), *a.stride(), b.data_ptr(), *b.stride(), None if bias is None else bias.data_ptr(),
        c.data_ptr(),
    )  # fmt: skip
    return c
