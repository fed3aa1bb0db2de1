"""Pins: a classifier that looks at pictures and sees nothing in them; the documented command."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from inril_core.classifier.examples import View
from inril_core.classifier.training import TrainingSettings, train
from inril_core.contract import Contract, ImageShape, load_contract
from inril_core.data.episode import Episode
from inril_core.finetune.local import collect_demos
from inril_core.networks.compute import use_one_thread
from inril_core.tasks.families.cell import CellEnv

SIDE_PX, LENGTH = 24, 30


class Hover:
    """Stays where it began, or nearly so: a failure that looks like the begin."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)

    def reset(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def act(self, observation: np.ndarray) -> np.ndarray:
        return self._rng.uniform(-0.3, 0.3, 6).astype(np.float32)


@pytest.fixture(scope="module")
def episodes() -> list[Episode]:
    """Insertions and failures in rendered pictures, labelled by a person; every second of each is not trained on."""
    images = [{"name": "close", "camera": "close", "width_px": SIDE_PX, "height_px": SIDE_PX, "required": True}]
    values = {**load_contract("insert_leg_pixels").model_dump(), "images": images, "episode_length_steps": LENGTH}
    task = CellEnv(Contract.model_validate(values))
    try:
        made = collect_demos(task, task.expert(), range(50, 62)) + collect_demos(task, Hover(), range(70, 80))
    finally:
        task.close()
    assert sum(episode.succeeded for episode in made) >= 10 and sum(not episode.succeeded for episode in made) >= 10
    return [dataclasses.replace(e, episode_id=f"e{n}", outcome_source="ada") for n, e in enumerate(made)]


def test_success_is_seen_in_pictures_that_it_was_not_trained_on(episodes: list[Episode]) -> None:
    use_one_thread()
    settings = TrainingSettings(precision=0.15, gap_s=0.3, updates=300, batch=32, hidden=32)
    made = train(episodes, View(False, (ImageShape("close", SIDE_PX, SIDE_PX),)), settings)
    held_out = [e for e in episodes if e.episode_id in made.facts["held_out"]]
    closing = {e.episode_id: float(made.scores(e)[-1]) for e in held_out}
    right = [(closing[e.episode_id] >= 0.5) == e.succeeded for e in held_out]
    assert len(right) >= 6 and np.mean(right) >= 0.8, closing
    assert made.threshold.right_n >= 2 and made.network.pixels.first == 0


def test_the_command_trains_checks_and_refuses(tmp_path, monkeypatch, capsys) -> None:
    pytest.importorskip("rclpy")
    from inril_bringup import cli

    from inril_core.data.index import EpisodeIndex
    from tests.data.synthetic import Synthetic
    from tests.finetune.test_learner_node import record

    run = tmp_path / "run"
    for number in range(24):
        won = number % 2 == 0
        made = Synthetic(steps=6, episode_id=f"e-{number}", purpose="eval", seed=number, label=1 if won else 2)
        made.succeeds = won
        made.arrays["observations"][-1] += 5.0 if won else 0.0
        record(run, made)
        EpisodeIndex(run / "episodes").annotate(f"e-{number}", won, "ada", number)
    out = tmp_path / "c.safetensors"
    words = [
        "classifier",
        "train",
        str(run),
        "--state",
        "--gap-s",
        "0.1",
        "--updates",
        "200",
        "--out",
        str(out),
        "--json",
    ]

    def inril(*given: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(given)
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out + said.err

    code, said = inril(*words)
    assert code == 1 and "no threshold has precision 0.9" in said and not out.exists()
    code, said = inril(*words, "--precision", "0.2")
    assert code == 0 and json.loads(said)["threshold"]["precision_low"] >= 0.2
    code, said = inril("classifier", "check", str(run), "--classifier", str(out), "--json")
    found = json.loads(said)
    assert code == 0 and found["episodes_n"] == 24 and found["drift"] == "" and len(found["episodes"]) == 24
    assert all(e["says_success"] == e["label"] for e in found["episodes"].values())
    code, said = inril(*words[:3], "--images", "side", "--out", str(out))
    assert code == 1 and "--images ['side']: the episodes' contract has ['front']" in said
