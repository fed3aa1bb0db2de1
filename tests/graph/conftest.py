"""Demonstrations and a first policy, made once per test session by the shipped commands."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.graph.harness import GraphRun

PRESET = "interleave"


@dataclass(frozen=True)
class Start:
    """What a fine-tuning graph starts from."""

    demos: Path
    weights: Path
    preset: str = PRESET

    def arguments(self) -> dict[str, object]:
        """Arguments of the finetune graph."""
        return {
            "demos": self.demos,
            "initial_weights": self.weights,
            "preset": self.preset,
            "arm_at_start": True,
        }


@pytest.fixture(scope="session")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped preset with a warm-up that a test can afford."""
    path = tmp_path_factory.mktemp("preset") / "short.yaml"
    schedule = {"rewards_before_actor": 0, "warmup_steps": 60, "critic_warmup_updates": 40, "budget_steps": 100_000}
    path.write_text(yaml.safe_dump({"base": "interleave", "name": "short", "schedule": schedule}))
    return path


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Three demonstrations recorded over DDS, and a policy cloned from them."""
    root = tmp_path_factory.mktemp("start")
    with GraphRun("collect_demos", root / "demos", plan="demo:3:episodes", arm_at_start=True) as graph:
        assert graph.finished(timeout_s=600) == 0
    subprocess.run(
        [
            *(sys.executable, "-m", "inril_bringup.cli", "pretrain", "--demos", root / "demos"),
            *("--out", root / "pretrained.inril", "--preset", PRESET, "--run-dir", root / "run"),
        ],
        check=True,
        timeout=150,
    )
    yield Start(root / "demos", root / "pretrained.inril")
