"""Pins: a graph that starts late because its nodes load what they do not use."""

from __future__ import annotations

import subprocess
import sys

import pytest

LEARNS = ("torch",)
HEAVY = ("torch", "scipy.stats", "scipy.spatial", "scipy.optimize", "matplotlib")


@pytest.mark.parametrize(
    ("modules", "used"),
    [
        (("inril_core.finetune.config",), LEARNS),
        (("inril_control.arbiter_node", "inril_hardware.sim_cell", "inril_session.session_node"), ()),
    ],
)
def test_what_is_not_used_is_not_loaded(modules: tuple[str, ...], used: tuple[str, ...]) -> None:
    code = f"import sys, {', '.join(modules)}; print(*sorted({set(HEAVY)!r} & sys.modules.keys()))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert tuple(told.stdout.split()) == used
