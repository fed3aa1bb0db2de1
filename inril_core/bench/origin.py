"""Where numbers come from: the code and the machine."""

import hashlib
import os
import platform
import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import inril_core

_PACKAGE = Path(inril_core.__file__).parent
_GIT_TIMEOUT_S = 10


def code_version() -> str:
    """The git commit the package lies in, with ``+changes`` if its files differ from it; otherwise the release."""
    commit = _git("rev-parse", "HEAD") if _git("ls-files", "--", "__init__.py") else None
    if commit:
        return commit[:12] + ("+changes" if _git("status", "--porcelain", "--", ".") else "")
    try:
        return f"inril {version('inril')}"
    except PackageNotFoundError:
        return "unknown"


@lru_cache
def code_digest() -> str:
    """SHA-256 (16 hex digits) of the package's own files: equal code, committed or not."""
    whole = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*")):
        if path.suffix in (".py", ".yaml", ".xml") and "bench" not in path.relative_to(_PACKAGE).parts:
            whole.update(str(path.relative_to(_PACKAGE)).encode() + b"\0" + path.read_bytes() + b"\0")
    return whole.hexdigest()[:16]


def machine() -> dict[str, str | int | None]:
    """What the numbers were made on."""
    processor = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                processor = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    packages = {name: version(name) for name in ("torch", "numpy", "mujoco")}
    return {"processor": processor, "cores": os.cpu_count(), "python": platform.python_version(), **packages}


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *words], cwd=_PACKAGE, capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
