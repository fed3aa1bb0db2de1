"""Pins: starts that are not those at which the policy fails, and a helper who teaches how to fail."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from inril_core.bench import induced_starts as bench
from inril_core.contract import load_contract
from inril_core.data.episode import SOURCE_HUMAN, SOURCE_POLICY
from inril_core.experts.helping_hand import DRIVE_STEPS, REACTION_STEPS, Helper
from inril_core.finetune.config import PretrainConfig, load_config
from inril_core.finetune.local import collect_demos
from inril_core.finetune.memory.transitions import imitated_steps
from inril_core.finetune.pretrain import pretrain
from inril_core.policies import Decision
from inril_core.tasks.base import Task
from inril_core.tasks.registry import make_task

SIZES = {"demos": 2, "attempts": 1, "updates": 2, "evaluations": 2, "failures_sought": 4}
CONFIG = load_config("hg_dagger").model_copy(update={"pretrain": PretrainConfig(updates=20)})


@pytest.fixture(scope="module")
def task() -> Task:
    return make_task("insert_leg")


class StandsStill:
    """Instead of a policy: it does nothing."""

    action_size = 6

    def act(self, observation: np.ndarray, explore: bool, rng: object, memory: object) -> Decision:
        return Decision(np.zeros(6, np.float32), np.zeros(6, np.float32), 0.0)


def test_the_helper_drives_into_the_failure_hands_back_helps_and_teaches_only_the_help(task: Task) -> None:
    contract = load_contract("insert_leg")
    into = collect_demos(task, task.expert(), [7])[0].observations[4]
    helper = Helper(contract, into)
    episode = bench.attempt(task, StandsStill(), 3, helper)  # type: ignore[arg-type]
    tip = contract.slices()["tip_in_hole_m"]
    assert 1 < helper.drive_steps < DRIVE_STEPS
    assert np.abs(episode.observations[helper.drive_steps][tip] - into[tip]).max() < 0.006
    assert np.abs(episode.observations[0][tip] - into[tip]).max() > 0.01  # it was elsewhere
    drives_in, helps = np.arange(episode.steps) < helper.drive_steps, imitated_steps(episode)
    helps &= episode.source == SOURCE_HUMAN
    assert helper.took_over and helps.any() and not (helps & drives_in).any()
    begins = int(np.flatnonzero(helps)[0])
    waited = episode.source[helper.drive_steps : begins - REACTION_STEPS]
    assert (waited == SOURCE_POLICY).all() and len(waited) >= 20  # it watches before it takes over
    assert episode.success


def test_the_failures_are_those_of_the_policy_some_steps_before_their_end(task: Task) -> None:
    policy = pretrain(CONFIG, task.interface, collect_demos(task, task.expert(), [1, 2]))
    found = bench.failures(task, policy, [1, 2])
    assert len(found) == 2 and all(one.shape == (task.interface.observation_size,) for one in found)


def test_what_is_there_is_not_run_again_and_every_arm_has_its_row(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / "induced_starts.jsonl"
    lines = bench.run(SIZES, 1, path, CONFIG)
    assert [line.arm for line in lines] == list(bench.ARMS)
    assert lines[0].takeovers == lines[0].human_steps == 0
    capsys.readouterr()
    assert bench.run(SIZES, 1, path, CONFIG) == lines and not capsys.readouterr().out
    said = bench.page(lines)
    assert all(f"| {arm} | " in said for arm in bench.ARMS) and "cannot tell" in said


def test_a_difference_of_seeds_is_students() -> None:
    mean, low, high = bench.paired([3.0, 5.0, 7.0], [1.0, 1.0, 1.0])
    assert mean == 4.0 and (low, high) == pytest.approx((4 - 4.9683, 4 + 4.9683), abs=1e-3)
