"""The learner: what it takes in, how much it trains, and that a run can be stopped, resumed and repeated."""

import dataclasses

import pytest
import torch

from inril_core.errors import ConfigError
from inril_core.finetune.ingest_log import read_ingest_log, replay_run
from inril_core.finetune.learner import Learner, new_policy
from inril_core.policies.client import RemoteError
from tests.finetune.point_task import contract, demos, policy_roll, small_config

QUICK = {"schedule.warmup_steps": 40, "schedule.critic_warmup_updates": 10, "metrics_every_updates": 7}


def make(tmp_path, method="interleave", **changes) -> Learner:
    config = small_config(method, **{**QUICK, **changes})
    return Learner(config, contract(), new_policy(config, contract(), demos()), demos(), tmp_path)


def numbers(learner: Learner) -> torch.Tensor:
    """Everything that training changes, in one vector."""
    parts = [*learner.parts.rl.state().items(), *learner.parts.combine.state().items(), *learner.policy_state().items()]
    return torch.cat([tensor.reshape(-1).double() for _, tensor in sorted(parts)])


def feed(learner: Learner, first: int, count: int) -> None:
    """Collect with the learner's policy and train what is due."""
    for seed in range(first, first + count):
        learner.ingest(policy_roll(learner.policy, seed))
        while learner.updates < learner.updates_due:
            learner.train_step()


def test_an_episode_counts_once_and_cannot_change(tmp_path) -> None:
    """Pins: a second announcement that doubles data, or replaces it."""
    learner = make(tmp_path)
    episode = policy_roll(learner.policy, 0)
    assert learner.ingest(episode).steps == len(episode.actions)
    assert learner.ingest(episode).steps == 0 and learner.ingested_episodes == 1
    with pytest.raises(ConfigError, match="cannot change"):
        learner.ingest(dataclasses.replace(episode, sha256="0" * 64))


@pytest.mark.parametrize("call", [0, 1])
def test_an_episode_that_a_base_could_not_answer_for_leaves_nothing_and_may_come_again(tmp_path, call: int) -> None:
    """Pins: half an episode in memory after a server's silence, and then the whole of it once more."""
    learner = make(tmp_path, **{"schedule.demo_growth": ("successes",)})
    episode = dataclasses.replace(policy_roll(learner.policy, 0), success=True)
    before, whole, calls = [len(m) for m in learner.buffers.all()], learner.buffers._cut, []

    def silent(*arguments):
        calls.append(arguments)
        if len(calls) == call + 1:
            raise RemoteError("silence", "no answer")
        return whole(*arguments)

    learner.buffers._cut = silent
    with pytest.raises(RemoteError):
        learner.ingest(episode)
    assert [len(m) for m in learner.buffers.all()] == before and not learner.knows(episode.episode_id)
    assert learner.ingest(episode).steps == len(episode.actions)
    assert [len(m) - n for m, n in zip(learner.buffers.all(), before, strict=True)] == [len(episode.actions)] * 2


@pytest.mark.parametrize("method", ["interleave", "weighted_sum", "rl_only", "il_only"])
def test_without_a_reward_the_actor_waits(tmp_path, method: str) -> None:
    """Pins: an actor that follows critics which never saw a success, and forgets what it was shown."""
    learner = make(tmp_path, method, **{"schedule.rewards_before_actor": 2})

    def take_in(seeds, success: bool) -> None:
        for seed in seeds:
            learner.ingest(dataclasses.replace(policy_roll(learner.policy, seed), success=success))
        while learner.updates < learner.updates_due:
            learner.train_step()

    take_in(range(12), success=False)
    assert learner.updates > 40
    if method == "il_only":
        assert learner.actor_updates > 0 and not learner.waits_for_reward
        return
    assert learner.actor_updates == 0 and learner.waits_for_reward and learner.informative_steps == 0
    take_in([12], success=True)
    assert learner.actor_updates == 0 and learner.informative_steps == 1
    take_in([13], success=True)
    assert learner.actor_updates > 0 and not learner.waits_for_reward


def test_evaluation_never_enters_replay(tmp_path) -> None:
    """Pins: training on the episodes that measure the training."""
    learner = make(tmp_path)
    given = learner.ingest(policy_roll(learner.policy, 0, purpose="eval"))
    assert given.steps == 0 and "eval" in given.reason
    assert len(learner.buffers.replay) == 0 and learner.ingested_steps == 0


def test_another_interface_is_refused(tmp_path) -> None:
    """Pins: observations of another layout."""
    learner = make(tmp_path)
    other = dataclasses.replace(policy_roll(learner.policy, 0), interface_digest="f" * 64)
    with pytest.raises(ConfigError, match="interface"):
        learner.ingest(other)
    with pytest.raises(ConfigError, match="none successful"):
        Learner(learner.config, contract(), learner.policy, [], tmp_path)


def test_updates_follow_the_data_at_the_ratio(tmp_path) -> None:
    """Pins: an update-to-data ratio that depends on the machine."""
    learner = make(tmp_path, **{"schedule.utd": 0.5})
    while learner.ingested_steps < 40:
        assert learner.updates_due == 0
        learner.ingest(policy_roll(learner.policy, learner.ingested_episodes))
    for seed in range(100, 120):
        assert learner.updates_due == 10 + (learner.ingested_steps - 40) // 2
        learner.ingest(policy_roll(learner.policy, seed))


def test_the_critic_warm_up_leaves_the_policy_alone(tmp_path) -> None:
    """Pins: an actor that follows an untrained critic."""
    learner = make(tmp_path)
    feed_steps = 0
    while feed_steps < 60:
        feed_steps += learner.ingest(policy_roll(learner.policy, feed_steps)).steps
    before = learner.policy_state()
    for _ in range(10):
        learner.train_step()
    assert learner.actor_updates == 0
    assert all(torch.equal(before[name], tensor) for name, tensor in learner.policy_state().items())
    learner.train_step()
    after = learner.policy_state()
    assert learner.actor_updates == 1 and not torch.equal(before["head.weight"], after["head.weight"])
    assert torch.equal(before["observation_mean"], after["observation_mean"]), "the normaliser is never refitted"


@pytest.mark.parametrize("method", ["interleave", "weighted_sum", "rl_only", "il_only"])
def test_metrics_of_a_group_have_both_losses(tmp_path, method: str) -> None:
    """Pins: a curve that is missing for one of the methods compared."""
    learner = make(tmp_path, method)
    feed(learner, 0, 12)
    wanted = {"il_loss", "data_age_updates", "temperature"}
    if method != "il_only":
        wanted |= {"rl_loss", "critic_loss", "q_mean", "entropy"}
    if method in ("interleave", "weighted_sum"):
        wanted |= {"gradient_cosine", "step_cosine"}
    assert wanted <= set(learner.last_metrics)


@pytest.mark.parametrize("changes", [{}, {"rl.demo_share": 0.5, "rl.learn_temperature": True, "rl.temperature": 0.1}])
def test_stop_and_resume_equals_never_having_stopped(tmp_path, changes) -> None:
    """Pins: a part of the state (generator, moments, replay, half a group of metrics) lost in the checkpoint."""
    straight = make(tmp_path / "a", **changes)
    feed(straight, 0, 12)
    assert straight.actor_updates > 0
    feed(straight, 12, 8)
    first = make(tmp_path / "b", **changes)
    feed(first, 0, 11)
    first.ingest(policy_roll(first.policy, 11))
    for _ in range((first.updates_due - first.updates) // 2):
        first.train_step()
    first.checkpoint({"note": 1})
    resumed = make(tmp_path / "b", **changes)
    assert resumed.resume() == {"note": 1}
    while resumed.updates < resumed.updates_due:
        resumed.train_step()
    feed(resumed, 12, 8)
    assert resumed.updates == straight.updates
    assert torch.equal(numbers(resumed), numbers(straight))
    assert resumed.last_metrics == straight.last_metrics
    assert read_ingest_log(tmp_path / "b") != [] and resumed.ingested_steps == straight.ingested_steps


def test_a_run_can_be_replayed_from_its_log(tmp_path) -> None:
    """Pins: an ingestion that is not logged with the update it came before."""
    learner, seen = make(tmp_path / "a"), []
    for seed in range(12):
        episode = policy_roll(learner.policy, seed)
        seen.append(episode)
        learner.ingest(episode)
        for _ in range(max(0, learner.updates_due - learner.updates - seed % 3)):  # sometimes behind
            learner.train_step()
    again = make(tmp_path / "b")
    replay_run(again, read_ingest_log(tmp_path / "a"), seen, learner.updates)
    assert torch.equal(numbers(again), numbers(learner))
    del seen[3]
    with pytest.raises(ConfigError, match="train-3"):
        replay_run(make(tmp_path / "c"), read_ingest_log(tmp_path / "a"), seen, learner.updates)


def test_what_came_after_the_checkpoint_is_asked_for_again(tmp_path) -> None:
    """Pins: an episode that a crashed learner believes to have."""
    learner = make(tmp_path)
    feed(learner, 0, 4)
    learner.checkpoint()
    lost = policy_roll(learner.policy, 50)
    learner.ingest(lost)
    resumed = make(tmp_path)
    resumed.resume()
    assert not resumed.knows(lost.episode_id) and len(read_ingest_log(tmp_path)) == 4
    assert resumed.ingest(lost).steps > 0


def test_other_settings_or_a_damaged_file_are_refused(tmp_path) -> None:
    """Pins: a run that goes on under other settings than it began with."""
    learner = make(tmp_path)
    path = learner.checkpoint()
    with pytest.raises(ConfigError, match="another config"):
        make(tmp_path, **{"rl.gamma": 0.8}).resume()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ConfigError, match="no readable checkpoint"):
        make(tmp_path).resume()


def test_a_crash_while_writing_leaves_the_old_checkpoint(tmp_path, monkeypatch) -> None:
    """Pins: a checkpoint written in place."""
    learner = make(tmp_path)
    feed(learner, 0, 3)
    learner.checkpoint()
    steps = learner.ingested_steps
    feed(learner, 3, 2)
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("crash")))
    with pytest.raises(OSError, match="crash"):
        learner.checkpoint()
    monkeypatch.undo()
    resumed = make(tmp_path)
    resumed.resume()
    assert resumed.ingested_steps == steps


def test_growth_of_the_demonstrations(tmp_path) -> None:
    """Pins: corrections that are not imitated, or successes that are without being asked for."""
    import numpy as np

    from tests.finetune.point_task import make_episode

    rows, actions = np.zeros((6, 4)), np.full((5, 6), 0.5)
    human = make_episode(rows, actions, False, episode_id="corrected", source=np.array([0, 0, 1, 1, 0]))
    success = make_episode(rows, actions, True, episode_id="won")
    for growth, gained in ((("corrections",), (2, 0)), (("successes",), (0, 5)), ((), (0, 0))):
        learner = make(tmp_path, **{"schedule.demo_growth": list(growth)})
        for episode, rows_gained in zip((human, success), gained, strict=True):
            before = len(learner.buffers.demos)
            learner.ingest(episode)
            assert len(learner.buffers.demos) - before == rows_gained


def test_demonstrations_that_do_not_fit_are_refused(tmp_path) -> None:
    """Pins: the oldest demonstrations forgotten before the first update, because the replay is small."""
    with pytest.raises(ConfigError, match="schedule.replay_capacity = 3: the demonstrations alone"):
        make(tmp_path, **{"schedule.replay_capacity": 3})
