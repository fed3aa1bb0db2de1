"""Pins: on-policy learning that stalls for ever after one refused version, because every later step is of another."""

from dataclasses import replace

import pytest
import torch

from inril_core.finetune.learner import Learner
from inril_core.finetune.weights_loop import PolicyReport, WeightsLoop
from tests.finetune.test_learner import feed
from tests.finetune.test_learner import make as make_off_policy
from tests.finetune.test_on_policy import make_learner, rollout

RUN = "run-1"
REPORT = PolicyReport(RUN, active_n=0, pending_n=-1, highest_n=0, last_rejected_n=-1, last_rejection="")


def iteration(learner: Learner, loop: WeightsLoop, index: int, acting: int, push: int) -> None:
    """Two episodes of a version, the updates they call for, and a push under the next number."""
    for i in range(2):
        learner.ingest(rollout(learner, 10 * index + i, acting))
    assert learner.updates_due > learner.updates, "the rollout is full: its steps were of the version learned from"
    while learner.updates < learner.updates_due:
        learner.train_step()
    learner.published(push)
    loop.pushed(push)


def trained(tmp_path, **changes) -> tuple[Learner, WeightsLoop]:
    learner = make_learner(tmp_path, **{"rl.critic_warmup_iterations": 0, "rl.kl_stop": None, **changes})
    return learner, WeightsLoop(learner, RUN)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def test_after_a_refusal_learning_goes_on_from_the_version_that_acts(tmp_path) -> None:
    learner, loop = trained(tmp_path)
    iteration(learner, loop, 0, acting=0, push=1)
    assert loop.heard(replace(REPORT, pending_n=1, highest_n=1)) == ""
    first = learner.policy_state()
    iteration(learner, loop, 1, acting=1, push=2)
    assert not same(first, learner.policy_state())
    refused = replace(REPORT, active_n=1, highest_n=1, last_rejected_n=2, last_rejection="wild_action: too far")
    news = loop.heard(refused)
    assert "version 2 was refused: wild_action" in news and "goes on from version 1" in news
    assert learner.version == 1 and same(first, learner.policy_state())
    assert learner.parts.combine.adams["rl"].steps == 4, "the optimizer's moments are those of version 1 too"
    iteration(learner, loop, 2, acting=1, push=3)
    assert loop.heard(replace(refused, pending_n=3, highest_n=3)) == "" and loop.problem == "" and loop.refused == [2]
    iteration(learner, loop, 3, acting=3, push=4)
    assert loop.heard(refused) == "", "a status from before the verdict says nothing of the newest push"


def test_a_refusal_that_is_heard_again_changes_nothing(tmp_path) -> None:
    """Pins: half a rollout dropped at every status, twice a second."""
    learner, loop = trained(tmp_path)
    iteration(learner, loop, 0, acting=0, push=1)
    refused = replace(REPORT, last_rejected_n=1, last_rejection="wild_action: too far")
    assert loop.heard(refused) != ""
    learner.ingest(rollout(learner, 77, 0))
    for _ in range(3):
        assert loop.heard(refused) == ""
    assert [len(segment) for segment in learner.loop.rollout] == [3]


def test_a_roll_back_by_a_person_is_followed_also_in_the_middle_of_an_iteration(tmp_path) -> None:
    learner, loop = trained(tmp_path)
    iteration(learner, loop, 0, acting=0, push=1)
    loop.heard(replace(REPORT, active_n=1, highest_n=1))
    for i in range(2):
        learner.ingest(rollout(learner, 20 + i, 1))
    learner.train_step()
    assert learner.updates < learner.updates_due
    assert "goes on from version 0" in loop.heard(replace(REPORT, active_n=1, pending_n=0, highest_n=1))
    assert learner.version == 0 and learner.updates == learner.updates_due
    iteration(learner, loop, 3, acting=0, push=2)


def test_what_was_published_survives_a_restart(tmp_path) -> None:
    """Pins: a restarted learner that cannot go back, because only the refused version is on disk."""
    learner, loop = trained(tmp_path)
    iteration(learner, loop, 0, acting=0, push=1)
    loop.heard(replace(REPORT, active_n=1, highest_n=1))
    first = learner.policy_state()
    iteration(learner, loop, 1, acting=1, push=2)
    learner.checkpoint()
    again, loop = trained(tmp_path)
    again.resume()
    assert loop.heard(replace(REPORT, active_n=1, highest_n=1)) == "", "the push after a restart is still to come"
    again.published(3)
    loop.pushed(3)
    loop.heard(replace(REPORT, active_n=1, highest_n=1, last_rejected_n=3, last_rejection="wild_action: too far"))
    assert again.version == 1 and same(first, again.policy_state())


def test_a_version_that_nobody_here_has_is_named(tmp_path) -> None:
    learner, loop = trained(tmp_path)
    told = loop.heard(replace(REPORT, active_n=41, highest_n=41))
    assert "version 41 acts, which this learner does not have" in told and loop.problem == told
    assert loop.heard(replace(REPORT, active_n=41, highest_n=41)) == "", "said once"


def test_a_learner_with_another_run_folder_is_told_the_cure(tmp_path) -> None:
    """Pins: every push of a learner on another host refused, and nobody says what to do."""
    learner, loop = trained(tmp_path)
    iteration(learner, loop, 0, acting=0, push=1)
    refusal = "unknown_run: run 'run-1' is not 'robot'; start it with run_id:=robot and a new run_dir"
    robot = replace(REPORT, run_id="robot", last_rejected_n=1, last_rejection=refusal)
    assert "run_id:=robot" in loop.heard(robot) and "run_id:=robot" in loop.problem
    learner.published(2)
    loop.pushed(2)
    assert loop.heard(replace(REPORT, active_n=2, highest_n=2)) == "" and loop.problem == ""


def test_off_policy_learning_goes_on_and_the_refusal_is_reported(tmp_path) -> None:
    learner = make_off_policy(tmp_path)
    loop = WeightsLoop(learner, RUN)
    feed(learner, 0, 12)
    learner.published(1)
    loop.pushed(1)
    before = learner.policy_state()
    assert "version 1 was refused" in loop.heard(replace(REPORT, last_rejected_n=1, last_rejection="wild_action: far"))
    assert same(before, learner.policy_state()) and learner.version == 1 and loop.refused == [1]
    updates = learner.updates
    feed(learner, 12, 4)
    assert learner.updates > updates


@pytest.mark.parametrize("kept", [0, 1])
def test_only_the_newest_versions_are_kept(tmp_path, kept: int) -> None:
    """Pins: memory that grows with every push."""
    learner, _ = trained(tmp_path)
    for version in range(1, 9 + kept):
        learner.published(version)
    assert learner.go_on_from(kept) is False and learner.go_on_from(kept + 1) is True
