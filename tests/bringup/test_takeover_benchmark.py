"""Pins: a benchmark whose nodes refuse what it gives them, unnoticed until somebody measures again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from tests.domains import own_domain, spawn


@pytest.mark.timeout(600)
def test_it_measures_over_its_own_nodes_and_writes_its_page(tmp_path: Path) -> None:
    page = tmp_path / "takeover.md"
    words = ["-m", "inril_bringup.takeover_benchmark", "--random", "3", "--timed", "1", "--out", str(page)]
    with own_domain() as domain:
        done = spawn([sys.executable, *words], domain, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        said, _ = done.communicate(timeout=500)
    assert done.returncode == 0, said[-4000:]
    assert "3 takeovers at random moments" in page.read_text() and "| p50 | p99 | largest |" in page.read_text()
