"""Pins: labels, marks, rewards and droppings that are appended while a learner runs, and reach it only after a restart,
or not then either. With a real store and learner as processes."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file

from inril_core.data import EpisodeIndex
from inril_core.data.manage import drop_episode
from inril_core.data.reader import read_episode
from inril_core.finetune.checkpoint import CHECKPOINT_NAME
from inril_core.finetune.config import load_config
from inril_core.finetune.demos import DemoWatch, read_demos
from inril_core.finetune.learner import Learner
from inril_core.finetune.pretrain import pretrain
from inril_core.policies import load_policy, save_policy
from inril_core.session.offline import mark_offline
from inril_core.vocabulary import Mark
from tests.data.synthetic import CONTRACT, Synthetic
from tests.finetune.test_learner_node import SMALL, LearnerBench, record

LEARNER = "inril_learner.learner_node"
SETTINGS = SMALL.replace("rl: {", "rl: {demo_share: 0.5, target_range: [-1.0, 1.0], ")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[LearnerBench]:
    root = tmp_path
    (root / "small.yaml").write_text(SETTINGS)
    for number in range(3):
        made = Synthetic(steps=8, episode_id=f"demo-{number}", purpose="demo", seed=number, human_from=0)
        record(root / "demos", made)
    policy = pretrain(load_config(root / "small.yaml"), CONTRACT, read_demos(root / "demos", CONTRACT, print))
    facts = {"interface_digest": CONTRACT.interface_digest, "contract_text": CONTRACT.text}
    save_policy(root / "initial.inril", policy, facts)
    with LearnerBench(root) as bench:
        bench.start("inril_session.store_node", label_timeout_s=0.1)
        bench.start_learner()
        yield bench


def corrections(bench: LearnerBench) -> list[str]:
    """Episodes of which something was said, as the learner's log has them."""
    path = bench.paths.learner / "ingest.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [line["episode_id"] for line in lines if line["steps"] == 0]


def memory(path: Path) -> dict[str, object]:
    kept = ("replay/", "demos/", "owners/")
    return {name: tensor.tolist() for name, tensor in load_file(path).items() if name.startswith(kept)}


def fresh(bench: LearnerBench) -> dict[str, object]:
    """The memory of a learner that is given the annotated recordings from the start."""
    config = load_config(bench.root / "small.yaml").changed(seed=0)
    index = EpisodeIndex(bench.paths.episodes)
    policy, _ = load_policy(bench.root / "initial.inril")
    shown = DemoWatch(bench.root / "demos", CONTRACT, print).demos()
    learner = Learner(config, CONTRACT, policy, shown, bench.root / "fresh")
    for entry in index.entries:
        episode = read_episode(bench.paths.episodes / f"{entry.episode_id}.mcap")
        learner.ingest(index.annotated(entry, episode))
    return memory(learner.checkpoint())


def test_what_is_said_later_reaches_a_running_learner_and_one_that_was_killed(bench: LearnerBench) -> None:
    for number in range(3):
        record(bench.run_dir, Synthetic(steps=6, episode_id=f"train-{number}", seed=10 + number, human_from=4))
    bench.caught_up(18)
    mark_offline(bench.run_dir, "train-0", (4, 4), "ada", 1, mark=Mark.FAILURE)
    mark_offline(bench.run_dir, "train-0", (1, 2), "ada", 2, reward=-0.5)
    EpisodeIndex(bench.paths.episodes).annotate("train-1", False, "ada", 3)
    drop_episode(bench.root / "demos", "demo-1", "ada", 4)
    told = {"train-0", "train-1", "demo-1"}
    bench.until(lambda: told <= set(corrections(bench)), "corrections in the learner's log")

    assert bench.end(LEARNER, signal.SIGTERM) == 0
    assert memory(bench.paths.learner / CHECKPOINT_NAME) == fresh(bench)

    # said while no learner runs, and taken back again while one does
    drop_episode(bench.run_dir, "train-2", "ada", 5)
    bench.start_learner()
    bench.until(lambda: "train-2" in corrections(bench), "the dropping of train-2")
    bench.end(LEARNER, signal.SIGKILL)
    drop_episode(bench.root / "demos", "demo-1", "ada", 6, dropped=False)
    bench.start_learner()
    bench.until(
        lambda: corrections(bench).count("demo-1") == 2 and "train-2" in corrections(bench), "demo-1 again, and train-2"
    )
    assert bench.end(LEARNER, signal.SIGTERM) == 0
    assert memory(bench.paths.learner / CHECKPOINT_NAME) == fresh(bench)
