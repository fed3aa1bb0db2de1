"""Pins: an episode that was taken half in when something about it failed, and an error that does not name it."""

import copy
import dataclasses

import numpy as np
import pytest

from inril_core.errors import ConfigError
from inril_core.finetune.ingest_log import read_ingest_log
from inril_core.finetune.learner import EpisodeNotTaken, Learner, new_policy
from inril_core.finetune.pretrain import pretrain
from tests.finetune.point_task import contract, demos, make_episode, policy_roll, small_config
from tests.finetune.test_learner import make
from tests.finetune.test_on_policy import make_learner, rollout

HUGE = 3e38  # a float32; normalised or squared it is none


def taken(learner: Learner) -> tuple:
    """All that ingestion changes."""
    rollout_steps = sum(map(len, getattr(learner.loop, "rollout", [])))
    counts = dataclasses.astuple(learner.counts)
    return ([len(b) for b in learner.buffers.all()], counts, rollout_steps, learner.informative_steps, len(learner.log))


def broken(episode, field: str, value: float):
    """The episode with one number replaced."""
    array = getattr(episode, field).copy()
    array.reshape(-1)[5] = value
    made = copy.copy(episode)
    object.__setattr__(made, field, array)  # an Episode refuses it, too: what comes past that must not do harm
    return made


@pytest.mark.parametrize("value", [HUGE, -HUGE])
@pytest.mark.parametrize("field", ["observations", "actions"])
def test_a_number_beyond_float32_refuses_the_whole_episode_by_name(tmp_path, field: str, value: float) -> None:
    learner = make(tmp_path, **{"schedule.demo_growth": ("successes",)})
    learner.ingest(policy_roll(learner.policy, 1))
    good = dataclasses.replace(policy_roll(learner.policy, 0), success=True)
    before = taken(learner)
    with pytest.raises(EpisodeNotTaken, match=r"train-0.*float32"):
        learner.ingest(broken(good, field, value))
    assert taken(learner) == before and not learner.knows("train-0") and len(read_ingest_log(tmp_path)) == 1
    assert learner.ingest(good).steps == good.steps, "and the run goes on"


@pytest.mark.parametrize("field", ["observations", "raw"])
def test_also_on_policy(tmp_path, field: str) -> None:
    """Pins: advantages of NaN from a rollout that nobody checked."""
    learner = make_learner(tmp_path)
    before = taken(learner)
    with pytest.raises(EpisodeNotTaken, match=r"e0.*float32"):
        learner.ingest(broken(rollout(learner, 0, 0), field, HUGE))
    assert taken(learner) == before
    learner.ingest(rollout(learner, 0, 0))
    assert taken(learner) != before


def test_a_reward_method_that_stumbles_refuses_the_episode_by_name(tmp_path, monkeypatch) -> None:
    """Pins: a traceback of somebody's reward that ends the learner in the middle of a run."""
    learner = make(tmp_path)
    before = taken(learner)
    monkeypatch.setattr(type(learner.config.rewards), "informative", lambda *_: 1 / 0)
    with pytest.raises(EpisodeNotTaken, match=r"episode train-0: cannot be learned from \(ZeroDivisionError"):
        learner.ingest(policy_roll(learner.policy, 0))
    assert taken(learner) == before


def test_a_full_disk_leaves_the_episode_to_come_again(tmp_path, monkeypatch) -> None:
    learner = make(tmp_path)
    learner.ingest(policy_roll(learner.policy, 1))
    before, episode = taken(learner), policy_roll(learner.policy, 0)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            learner.ingest(episode)
    assert taken(learner) == before and len(read_ingest_log(tmp_path)) == 1
    assert learner.ingest(episode).steps > 0 and len(read_ingest_log(tmp_path)) == 2


def one_step(complete: bool = True):
    return make_episode(np.zeros((2, 4)), np.full((1, 6), 0.5), True, "demo", "short", complete=complete)


def test_one_step_demonstrations_say_why_they_cannot_be_imitated(tmp_path) -> None:
    """Pins: "replay is empty", told of the learner's own parts instead of the recording."""
    config = small_config("interleave", **{"pretrain.updates": 3})
    pretrain(config, contract(), [one_step()])
    for make_it in (
        lambda shown: pretrain(config, contract(), shown),
        lambda shown: Learner(config, contract(), new_policy(config, contract(), shown), shown, tmp_path),
    ):
        with pytest.raises(ConfigError, match=r"no step of them can be imitated: short \(1 steps\).*record longer"):
            make_it([one_step(complete=False)])


@pytest.mark.parametrize("field", ["observations", "actions"])
def test_a_demonstration_that_overflows_is_named(tmp_path, field: str) -> None:
    config = small_config("interleave", **{"pretrain.updates": 3})
    shown = [*demos(), broken(make_episode(np.zeros((4, 4)), np.zeros((3, 6)), True, "demo", "wild"), field, HUGE)]
    if field == "actions":  # a normaliser is fitted to what it is shown
        with pytest.raises(ConfigError, match="demonstration wild"):
            pretrain(config, contract(), shown)
    with pytest.raises(ConfigError, match="demonstration wild"):
        Learner(config, contract(), new_policy(config, contract(), demos()), shown, tmp_path)
