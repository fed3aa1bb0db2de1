"""Pins: a demo from pictures that no part of the graph can do: to show, to clone, to act, to learn, to report."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from inril_core.contract import load_contract
from inril_core.data.reader import read_episode
from inril_core.data.store import EpisodeStore
from inril_core.finetune.demos import read_demos
from inril_core.run import RunPaths
from inril_core.sim.render import RenderError
from inril_core.tasks import make_task
from inril_core.vocabulary import Mark
from tests.domains import own_domain, spawn

pytestmark = pytest.mark.timeout(1500)
SCHEDULE = {"rewards_before_actor": 0, "warmup_steps": 20, "critic_warmup_updates": 4, "budget_steps": 1000}


def test_the_whole_path_from_pictures(tmp_path: Path) -> None:
    """Nothing is learned in 60 steps; what each part leaves behind shows that it worked on pictures."""
    try:
        make_task("insert_leg:pixels").reset(0)
    except RenderError as error:
        pytest.skip(f"no OpenGL: {error}")
    preset = tmp_path / "tiny.yaml"
    tiny = {"base": "weighted_sum", "name": "tiny", "schedule": SCHEDULE}
    tiny["pretrain"] = {"updates": 10, "batch": 8, "encoder": {"updates": 5, "batch": 8}}
    preset.write_text(yaml.safe_dump({**tiny, "rl": {"batch": 8}}))
    command = [sys.executable, "-m", "inril_bringup.cli", "demo", "--obs", "pixels", "--run-dir", tmp_path / "run"]
    command += ["--demos", "1", "--steps", "60", "--eval-episodes", "1", "--real-time-seconds", "0", "--preset", preset]
    with own_domain() as domain:
        done = spawn(command, domain, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        out, _ = done.communicate(timeout=1400)
    assert done.returncode == 0, out[-6000:]
    result = json.loads(out.splitlines()[-1])
    assert result["demos"] == 1 and result["eval_episodes"] == 1 and (tmp_path / "run" / "report.html").exists()

    paths = RunPaths(tmp_path / "run")
    shown = EpisodeStore(RunPaths(tmp_path / "run" / "demos").episodes)
    demo = read_episode(shown.path(shown.entries()[0].episode_id))
    assert demo.success, "the scripted human sees the cell, where the policy sees pictures"
    marked = read_demos(tmp_path / "run" / "demos", load_contract("insert_leg_pixels"), print)[0].marks
    assert marked is not None and set(marked[:60]) == {Mark.FAILURE} and not marked[60:].any(), "it looked around first"
    for shape in load_contract("insert_leg_pixels").image_shapes:
        frames = demo.images[shape.name]
        assert frames.shape == (demo.steps + 1, shape.height_px, shape.width_px, 3)
        assert np.abs(frames[0].astype(int) - frames[-2]).max() > 20, "the arm moves in the pictures"
    ingested = (paths.learner / "ingest.jsonl").read_text().splitlines()
    assert sum(json.loads(line)["steps"] for line in ingested) >= 60
