"""Pins: a run that goes on with other demonstrations or initial weights than it began with, and says nothing."""

import dataclasses

import pytest
import torch

from inril_core.errors import ConfigError
from inril_core.finetune.learner import Learner, new_policy
from inril_core.finetune.pretrain import pretrain
from tests.finetune.point_task import contract, demos, small_config
from tests.finetune.test_learner import QUICK, feed


def make(tmp_path, shown, policy=None) -> Learner:
    config = small_config("interleave", **QUICK)
    return Learner(config, contract(), policy or new_policy(config, contract(), demos(5)), shown, tmp_path)


def begun(tmp_path, count: int = 5) -> Learner:
    learner = make(tmp_path, demos(count))
    feed(learner, 0, 6)
    learner.checkpoint()
    return learner


def test_more_demonstrations_are_taken_in_and_named(tmp_path) -> None:
    learner = begun(tmp_path)
    again = make(tmp_path, demos(12))
    again.resume()
    added = sum(demo.steps for demo in demos(12)[5:] if demo.success)
    assert again.added_demos == [demo.episode_id for demo in demos(12)[5:]]
    assert len(again.buffers.demos) == len(learner.buffers.demos) + added > len(learner.buffers.demos)
    again.checkpoint()
    third = make(tmp_path, demos(12))
    third.resume()
    assert third.added_demos == [] and len(third.buffers.demos) == len(again.buffers.demos)


def test_missing_or_other_demonstrations_are_refused_by_name(tmp_path) -> None:
    begun(tmp_path)
    with pytest.raises(ConfigError, match="began with 5 demonstrations, of which 2 are missing now: demo-10003"):
        make(tmp_path, demos(3)).resume()
    other = demos(5)
    other[2] = dataclasses.replace(other[2], sha256="f" * 64)
    with pytest.raises(ConfigError, match="demo-10002"):
        make(tmp_path, other).resume()


def test_other_initial_weights_are_refused(tmp_path) -> None:
    begun(tmp_path)
    config = small_config("interleave", **QUICK)
    other = new_policy(config, contract(), demos(5))
    with torch.no_grad():
        next(other.parameters()).add_(1e-3)
    with pytest.raises(ConfigError, match="began from initial weights .*, not from those given"):
        make(tmp_path, demos(5), other).resume()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_refused_wherever_training_begins(tmp_path) -> None:
    """Pins: `device: cuda` that trains on the CPU without a word."""
    config = small_config("interleave", **{"compute": {"device": "cuda"}})
    with pytest.raises(ConfigError, match="torch finds no GPU"):
        pretrain(config, contract(), demos())
    with pytest.raises(ConfigError, match="torch finds no GPU"):
        Learner(config, contract(), new_policy(config, contract(), demos()), demos(), tmp_path)
