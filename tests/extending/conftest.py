"""The example of docs/extending.md, installed as a lab installs it."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "peg_lab"
OUTSIDE = {
    "after_success": "peg_lab.after_success:Config",
    "step_price": "peg_lab.step_price:Config",
    "hold_above": "peg_lab.hold_above:DEFINITION",
    "udp": "peg_lab.udp:Config",
    "snapshot": "peg_lab.snapshot:Config",
    "rehearsal": "peg_lab.rehearsal:Config",
}
"""Entry point to MODULE:ATTRIBUTE."""


@dataclass(frozen=True)
class Lab:
    """Where the package is installed, and a lab's folder with its YAML files alone."""

    site: Path
    folder: Path


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that pip has installed the package into, without network."""
    root = tmp_path_factory.mktemp("peg_lab")
    source, site = root / "source", root / "site"
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*command, "--target", site, source], check=True, timeout=200)
    return site


@pytest.fixture
def lab(installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """The lab's folder is the current one, and Python finds the package here and in child processes."""
    for path in EXAMPLE.glob("*.yaml"):
        shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(installed)
    before = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(installed), *([before] if before else [])]))
    importlib.invalidate_caches()
    return Lab(installed, tmp_path)
