"""Pins: corrections that were recorded without a learner, and that no later training uses; or of which it also clones
what the person had to correct."""

import dataclasses

import numpy as np
import pytest
import torch

from inril_core.data.said import Said, SaidStretch
from inril_core.errors import ConfigError
from inril_core.finetune.demos import DemoWatch, read_demos
from inril_core.finetune.learner import Learner, new_policy
from inril_core.finetune.pretrain import pretrain
from inril_core.session.offline import mark_offline
from inril_core.vocabulary import Mark
from tests.data.recorded_run import record_demos
from tests.data.synthetic import CONTRACT, Synthetic
from tests.finetune.point_task import LENGTH, PointExpert, contract, demos, roll, small_config, success_rate
from tests.finetune.test_learner import QUICK
from tests.finetune.test_learner_node import record

TAKEOVER = 3


def corrected(seed: int):
    """A policy that goes the wrong way, until a person takes over."""
    wrong, right = PointExpert(-1.0), PointExpert()
    episode = roll(lambda row, step: (wrong if step < TAKEOVER else right).act(row), seed, "train")
    source = (np.arange(episode.steps) >= TAKEOVER).astype(np.uint8)
    return dataclasses.replace(episode, source=source)


def test_the_task_is_learned_from_corrections_alone() -> None:
    shown = [corrected(seed) for seed in range(60)]
    config = small_config("hg_dagger", **{"pretrain.updates": 600})
    assert success_rate(pretrain(config, contract(), shown)) >= 0.9
    # what a person corrected is not cloned: with all of its steps the policy learns both ways
    both = [dataclasses.replace(e, source=np.ones(e.steps, np.uint8)) for e in shown]
    assert success_rate(pretrain(config, contract(), both)) < 0.9


def test_corrections_are_demonstrations_of_a_learner_whatever_became_of_the_episode(tmp_path) -> None:
    failed = dataclasses.replace(corrected(1), success=False, terminated=False, truncated=True)
    only_policy = roll(lambda row, step: np.zeros(6), 2, "train")
    dropped = dataclasses.replace(corrected(3), left_out=True)
    config = small_config("hil_serl", **QUICK)
    learner = Learner(
        config, contract(), new_policy(config, contract(), [failed]), [failed, only_policy, dropped], tmp_path
    )
    rows = learner.buffers.demos.first(LENGTH)
    assert torch.equal(rows.actions, torch.tensor(failed.actions[TAKEOVER:]))
    with pytest.raises(ConfigError, match="none successful.*corrections"):
        new_policy(config, contract(), [only_policy, dropped])


def test_a_folder_gives_demonstrations_and_corrections_and_what_is_said_of_them_later(tmp_path) -> None:
    record_demos(tmp_path, 2)
    record(tmp_path, Synthetic(steps=6, episode_id="train-0", seed=7, human_from=4))
    record(tmp_path, Synthetic(steps=6, episode_id="train-1", seed=8))
    assert [demo.episode_id for demo in read_demos(tmp_path, CONTRACT, pytest.fail)] == ["demo-0", "demo-1", "train-0"]
    watch = DemoWatch(tmp_path, CONTRACT, pytest.fail)
    assert len(watch.demos()) == 3 and watch.revised() == []
    mark_offline(tmp_path, "train-0", (4, 4), "ada", 1, mark=Mark.FAILURE)
    mark_offline(tmp_path, "train-1", (4, 4), "ada", 2, mark=Mark.FAILURE)
    (revised,) = watch.revised()
    assert revised.episode_id == "train-0" and revised.marks.tolist() == [0, 0, 0, 0, 1, 0]
    assert watch.revised() == []
    watch.again()
    assert [demo.episode_id for demo in watch.revised()] == ["demo-0", "demo-1", "train-0"]
    own = DemoWatch(tmp_path, CONTRACT, pytest.fail, corrections=False)
    assert [demo.episode_id for demo in own.demos()] == ["demo-0", "demo-1"]


def test_what_a_person_drove_before_handing_back_teaches_nothing(tmp_path) -> None:
    """Pins: "drive into the failure, hand back": imitation of the way into the failure, or RL across it."""
    episode = roll(lambda row, step: PointExpert(-1.0).act(row), 5, "train")
    source = np.where(np.arange(episode.steps) < 4, 3, 0).astype(np.uint8)  # reset, then the policy
    driven = dataclasses.replace(episode, source=source)
    config = small_config("hil_serl", **QUICK)
    learner = Learner(config, contract(), new_policy(config, contract(), demos(5)), demos(5), tmp_path)
    shown = len(learner.buffers.demos)
    learner.ingest(driven)
    assert len(learner.buffers.demos) == shown
    inputs = learner.policy.inputs(driven)
    assert torch.equal(learner.buffers.replay.first(99).observations, inputs[4:-1])
    assert learner.ingested_steps == episode.steps
    word = Said(episode.steps, None, "ada", False, (SaidStretch(0, 3, Mark.CORRECTION),))
    learner.revise(word.on(driven))
    assert len(learner.buffers.demos) == shown and torch.equal(
        learner.buffers.replay.first(99).observations, inputs[4:-1]
    )
