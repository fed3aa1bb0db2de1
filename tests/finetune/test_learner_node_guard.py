"""Pins: a learner node that ruins its policy and leaves it acting, or forgets the peak when it is killed."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from inril_msgs.msg import LearnerStatus

from inril_core.finetune.config import load_config
from inril_core.policies import save_policy
from tests.data.synthetic import CONTRACT, Synthetic
from tests.finetune.test_learner_node import LearnerBench, record

RUINOUS = """
base: rl_only
name: ruinous
policy: {hidden: [16, 16]}
schedule: {utd: 1.0, rewards_before_actor: 0, warmup_steps: 1, critic_warmup_updates: 1, budget_steps: 1000}
rl:
  {hidden: [16, 16], batch: 16, critics: 2, actor_lr: 1.0, behaviour_regularisation: 0, behaviour_regularisation_end: 0}
guard: {every_episodes: 1, screen_trials: 2, record_trials: 2, confirm_pairs: 5, alpha: 0.9, on_fall: pin}
push_every_updates: 50
checkpoint_every_updates: 20
metrics_every_updates: 10
"""


def easy_contract(path: Path) -> Path:
    """The leg starts above the hole, and succeeds once its tip is in."""
    values: dict[str, Any] = yaml.safe_load(yaml.safe_dump(CONTRACT.model_dump(mode="json", exclude_none=True)))
    values["sim"]["start"] = {"offset_m": 0, "height_min_m": 0.05, "height_max_m": 0.05, "tilt_rad": 0, "yaw_rad": 0}
    values["success"] |= {"depth_m": 0.001, "turn_min_rad": 0.0, "turn_depth_m": 0.0005}
    values["episode_length_steps"] = 10
    path.write_text(yaml.safe_dump(values))
    return path


@contextmanager
def learns(folder: Path, settings: str) -> Iterator[LearnerBench]:
    """A learner node with these settings, whose policy succeeds before it learns."""
    (folder / "small.yaml").write_text(settings)
    record(folder / "demos", Synthetic(steps=8, episode_id="demo-0", purpose="demo", human_from=0))
    config = load_config(folder / "small.yaml")
    policy = config.policy.build(CONTRACT.observation_size, CONTRACT.action_size)
    with torch.no_grad():  # it goes straight down
        policy.head.weight.zero_()
        policy.head.bias.zero_()
        policy.head.bias[2] = -2.0
    facts = {"interface_digest": CONTRACT.interface_digest, "contract_text": CONTRACT.text}
    save_policy(folder / "initial.inril", policy, facts)
    with LearnerBench(folder) as bench:
        bench.start("inril_session.store_node", label_timeout_s=0.1)
        bench.start_learner(contract=easy_contract(folder / "easy.yaml"))
        yield bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[LearnerBench]:
    with learns(tmp_path, RUINOUS) as bench:
        yield bench


def newest(bench: LearnerBench) -> LearnerStatus:
    """What the learner said last; before it has said anything, an empty status."""
    return bench.statuses[-1] if bench.statuses else LearnerStatus()


def test_the_peak_acts_again_is_pinned_and_outlives_a_kill(bench: LearnerBench) -> None:
    bench.until(lambda: "best so far version 0, 2 of 2" in newest(bench).reason, "the first peak")
    record(bench.run_dir, Synthetic(steps=40, episode_id="train-0", seed=1))
    ruined = bench.until(lambda: [p for p in bench.packs if p.n == 1], "the ruined version")[0]
    back = bench.until(lambda: [p for p in bench.packs if p.n == 2], "the best version again")[0]
    pinned = bench.until(lambda: newest(bench).state == "done" and newest(bench), "the pin")
    assert "version 1 had fallen" in pinned.reason and "version 0 acts again, pinned" in pinned.reason
    assert pinned.target_updates == pinned.updates, "nobody waits for training that has ended"
    first = torch.tensor([0.0, 0.0, -2.0, 0.0, 0.0, 0.0])
    assert torch.equal(bench.pulled(back)[0]["head.bias"][:6], first)
    assert not torch.equal(bench.pulled(ruined)[0]["head.bias"][:6], first)

    bench.end("inril_learner.learner_node", signal.SIGKILL)
    bench.packs.clear()
    bench.start_learner(contract=bench.root / "easy.yaml")
    again = bench.until(lambda: [p for p in bench.packs if p.n == 3], "the best version after the kill")[0]
    assert torch.equal(bench.pulled(again)[0]["head.bias"][:6], first)
    record(bench.run_dir, Synthetic(steps=40, episode_id="train-1", seed=2))
    bench.until(lambda: newest(bench).ingested_episodes == 2, "another episode")
    said = bench.until(lambda: newest(bench).state == "done" and newest(bench), "the pin")
    assert said.updates == pinned.updates and "pinned" in said.reason
