"""Pins: ruined weights that are offered; good ones that are not; a gate that fails and lets weights through, that
outlives its learner, or that changes what the learner learns."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from inril_core.errors import ConfigError
from inril_core.evaluation.shadow import GATE_LOG_NAME, GateConfig, Judged
from inril_core.finetune.config import FineTuneConfig, load_config
from inril_core.finetune.learner import Learner, new_policy
from inril_core.finetune.local import evaluate, fine_tune
from inril_core.finetune.pretrain import pretrain
from inril_core.finetune.shadow import GATE_FOLDER, REFERENCE_NAME, ShadowGate
from inril_core.policies import load_policy
from inril_core.policies.files import policy_sha256
from tests.finetune.point_task import PointTask, demos, small_config
from tests.finetune.test_guard import SEEDS, ruin

POINT = "tests.evaluation.session.made:make"
TASKS = "tests.finetune.shadow_tasks"
WAIT_S = 120.0


def gated(config: FineTuneConfig, **gate: Any) -> FineTuneConfig:
    """The settings with a gate."""
    values = config.model_dump(mode="json") | {"gate": {"task": POINT, "trials": 30, "every_updates": 300, **gate}}
    return FineTuneConfig.model_validate(values)


@pytest.fixture(scope="module")
def cloned() -> dict[str, torch.Tensor]:
    config = small_config(**{"pretrain.updates": 1500})
    return pretrain(config, PointTask.interface, demos(20)).state_dict()


@pytest.fixture
def learner(tmp_path: Path, cloned: dict[str, torch.Tensor]) -> Learner:
    """One that acts well and has made one update of its actor."""
    policy = new_policy(small_config(), PointTask.interface, demos(20))
    policy.load_state_dict(cloned)
    made = Learner(small_config(), PointTask.interface, policy, demos(20), tmp_path)
    made.published(7)
    return made


def updated(learner: Learner) -> None:
    """As after some updates of the actor."""
    learner.counts.updates += 400
    learner.counts.actor_updates += 400


def gate_of(learner: Learner, task: str = POINT, clock: Callable[[], float] | None = None, **gate: Any) -> ShadowGate:
    config = GateConfig(**{"trials": 8, "every_updates": 300, **gate})
    return ShadowGate(config, learner, task) if clock is None else ShadowGate(config, learner, task, clock)


def test_ruined_weights_are_held_back_and_good_ones_pass(learner: Learner) -> None:
    """Also of a simulator that prints."""
    gate = gate_of(learner, f"{TASKS}:printing")
    assert not gate.due, "nothing was trained yet"
    updated(learner)
    assert gate.due
    good = gate.wait()
    assert good.passed and gate.cleared and not gate.due and good.candidate_successes == good.reference_successes == 8
    gate.offered()
    assert not gate.cleared
    ruin(learner)
    updated(learner)
    bad = gate.wait()
    assert not bad.passed and not gate.cleared and bad.candidate_successes <= 2 and bad.reference_successes == 8
    assert "HELD BACK: worse than the reference (-" in gate.describe() and gate.held_back_n == 1
    assert bad.first_seed == good.first_seed + 8, "fresh starts"


def test_what_is_shown_better_is_the_next_reference(learner: Learner, cloned: dict[str, torch.Tensor]) -> None:
    ruin(learner)
    gate = gate_of(learner)
    learner.policy.load_state_dict(cloned)
    updated(learner)
    assert gate.wait().better
    kept, facts = load_policy(learner.run_dir / GATE_FOLDER / REFERENCE_NAME)
    assert policy_sha256(kept) == policy_sha256(learner.policy) and facts == {"updates": 400}
    again = gate_of(learner)  # another process of the same run
    ruin(learner)
    updated(learner)
    held = again.wait()
    assert not held.passed and held.reference_updates == 400 and len(again.judged) == 2


@pytest.mark.parametrize(
    ("task", "text"),
    [("dying", "its trials ended by SIGKILL"), ("raising", "with exit code 1: RuntimeError: the simulator blew up")],
)
def test_a_gate_that_fails_holds_back_and_says_why(learner: Learner, task: str, text: str) -> None:
    gate = gate_of(learner, f"{TASKS}:{task}")
    updated(learner)
    judged = gate.wait()
    assert not judged.passed and text in judged.reason and not gate.cleared and not gate.due
    assert text in (learner.run_dir / GATE_LOG_NAME).read_text() and text in gate.describe()
    learner.counts.updates += 300
    assert gate.due, "the next version is judged again"


def test_trials_that_take_too_long_are_ended_and_hold_back(learner: Learner, tmp_path: Path) -> None:
    now_s = 0.0
    gate = gate_of(learner, f"{TASKS}:waiting:{tmp_path / 'pid'}", lambda: now_s, timeout_s=50.0)
    updated(learner)
    gate.begin()
    assert gate.poll() is None and gate.running and "0 of 8 starts" in gate.describe()
    child = gate._process
    assert child is not None
    now_s = 51.0
    judged = gate.poll()
    assert judged is not None and not judged.passed and "gate.timeout_s = 50" in judged.reason
    assert child.returncode == -signal.SIGKILL and not gate.running and not gate.cleared


SPOILED: dict[str, Callable[[list[str]], list[str]]] = {
    "7 of 8 outcomes": lambda lines: lines[:-1],
    "8 of 8 outcomes, or of other starts": lambda lines: [lines[0], *reversed(lines[1:])],
    "nothing readable": lambda lines: [lines[0].replace("reference_sha256", "reference"), *lines[1:]],
    "nothing readable: candidate": lambda lines: [
        *lines[:-1],
        lines[-1].replace('"candidate": true', '"candidate": 1'),
    ],
    "nothing readable: list": lambda lines: [],
    "other weights acted": lambda lines: [
        lines[0].replace('"candidate_sha256": "', '"candidate_sha256": "0'),
        *lines[1:],
    ],
}


def test_outcomes_of_other_weights_or_of_too_few_starts_do_not_count(learner: Learner) -> None:
    gate = gate_of(learner)
    updated(learner)
    gate.begin()
    assert gate._process is not None and gate._process.wait(timeout=WAIT_S) == 0
    path = learner.run_dir / GATE_FOLDER / "trials.jsonl"
    lines = path.read_text().splitlines()
    assert gate._outcomes(0)[1] == "" and len(gate._outcomes(0)[0]) == 8
    for text, spoil in SPOILED.items():
        path.write_text("".join(f"{line}\n" for line in spoil(lines)))
        pairs, problem = gate._outcomes(0)
        assert pairs == [] and text in problem
    judged = gate.poll()  # the last of them
    assert judged is not None and not judged.passed and not gate.cleared


def test_weights_that_changed_while_they_were_judged_are_held_back(learner: Learner) -> None:
    """A person rolled back: what passed is not what would be offered."""
    gate = gate_of(learner)
    updated(learner)
    gate.begin()
    ruin(learner)
    assert gate._process is not None and gate._process.wait(timeout=WAIT_S) == 0
    judged = gate.poll()
    assert judged is not None and not judged.passed and "another version meanwhile" in judged.reason


def test_a_judgement_that_cannot_be_kept_lets_nothing_through(learner: Learner) -> None:
    gate = gate_of(learner)
    updated(learner)
    (learner.run_dir / GATE_LOG_NAME).mkdir()
    judged = gate.wait()
    assert not judged.passed and "cannot be kept" in judged.reason and not gate.cleared


LEARNER_THAT_JUDGES = """
import sys
from pathlib import Path
from tests.finetune.test_shadow import *
folder, task = Path(sys.argv[1]), sys.argv[2]
policy = new_policy(small_config(), PointTask.interface, demos(3))
learner = Learner(small_config(), PointTask.interface, policy, demos(3), folder)
gate = gate_of(learner, task)
updated(learner)
gate.wait()
"""


def test_the_trials_end_with_a_killed_learner_and_are_done_again(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    os.mkfifo(pid)
    command = [sys.executable, "-c", LEARNER_THAT_JUDGES, str(tmp_path), f"{TASKS}:waiting:{pid}"]
    killed = subprocess.Popen(command)
    trials = os.pidfd_open(int(pid.read_text()))  # opening the file waits until they run
    try:
        killed.kill()
        killed.wait(timeout=WAIT_S)
        ended, _, _ = select.select([trials], [], [], WAIT_S)
        assert ended, "the trials outlive their learner"
    finally:
        os.close(trials)
    policy = new_policy(small_config(), PointTask.interface, demos(3))
    learner = Learner(small_config(), PointTask.interface, policy, demos(3), tmp_path)
    again = gate_of(learner)
    assert again.judged == [] and not again.cleared
    updated(learner)
    assert again.wait().passed


def test_a_trained_run_without_its_reference_is_refused(learner: Learner) -> None:
    updated(learner)
    with pytest.raises(ConfigError, match=r"reference\.inril: is missing"):
        gate_of(learner)


@pytest.mark.parametrize(
    ("name", "text"), [(REFERENCE_NAME, "holds no readable policy"), (f"../{GATE_LOG_NAME}", "line 1")]
)
def test_what_is_damaged_on_disk_is_named(learner: Learner, name: str, text: str) -> None:
    gate_of(learner)
    (learner.run_dir / GATE_FOLDER / name).write_bytes(b"nothing\n")
    with pytest.raises(ConfigError, match=text):
        gate_of(learner)


@pytest.mark.parametrize(("task", "text"), [("insert_leg", "another interface"), ("nowhere", "does not allow")])
def test_a_task_that_cannot_judge_is_refused_at_the_start(learner: Learner, task: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        gate_of(learner, task)


def test_guard_and_gate_together_are_refused() -> None:
    with pytest.raises(ConfigError, match="guard with gate"):
        small_config(**{"gate": {}, "guard": {}})


def test_a_config_without_a_gate_does_not_mention_it() -> None:
    """Digests of configurations and of checkpoints stay."""
    assert "gate" not in small_config().model_dump(mode="json")
    assert gated(small_config()).model_dump(mode="json")["gate"]["trials"] == 30


def test_a_gate_that_lets_everything_through_changes_no_number(tmp_path: Path) -> None:
    """Every version is judged and none is shown worse, because what the run began with never succeeds."""
    config, found = small_config(**{"schedule.budget_steps": 245, "schedule.utd": 0.1}), []
    for number, settings in enumerate((config, gated(config, every_updates=1))):
        task = PointTask()
        policy = new_policy(settings, task.interface, demos(3))
        ruin_to_nothing(policy)
        learner, curve = fine_tune(settings, task, policy, demos(3), tmp_path / str(number), 2_000_000)
        assert all(judged.passed for judged in curve.gate) and bool(curve.gate) == bool(number)
        found.append((policy_sha256(policy), curve.episodes, learner.snapshot()))
    assert found[0][:2] == found[1][:2]
    assert all(torch.equal(tensor, found[1][2][name]) for name, tensor in found[0][2].items())


def ruin_to_nothing(policy: Any) -> None:
    """It never succeeds: nothing is shown worse."""
    with torch.no_grad():
        policy.head.bias[:2] = 5.0


RUINOUS = {
    "off-policy": lambda: small_config(
        "rl_only", **{"rl.actor_lr": 0.5, "rl.critic_lr": 0.1, "schedule.budget_steps": 500}
    ),
    "on-policy": lambda: (
        load_config("weighted_sum")
        .changed(schedule={"warmup_steps": 0, "budget_steps": 300, "rewards_before_actor": 0})
        .changed(policy=POLICY, rl=PPO)
    ),
}
POLICY = {"kind": "gaussian", "hidden": [32, 32], "log_std": "fixed", "log_std_init": -0.7}
PPO = {"method": "ppo", "rollout_steps": 100, "epochs": 2, "minibatches": 4, "hidden": [16], "kl_stop": None,
       "critic_warmup_iterations": 0, "actor_lr": 0.5}  # fmt: skip


@pytest.mark.parametrize("kind", RUINOUS)
def test_a_ruinous_run_acts_with_good_weights_to_its_end(
    tmp_path: Path, kind: str, cloned: dict[str, torch.Tensor]
) -> None:
    """Off-policy training goes on from what was held back; on-policy from what acts."""
    config = gated(RUINOUS[kind]())
    task, policy = PointTask(), new_policy(config, PointTask.interface, demos(20))
    policy.load_state_dict(cloned)
    before = sum(evaluate(task, policy, SEEDS))
    learner, curve = fine_tune(config, task, policy, demos(20), tmp_path, 2_000_000)
    held: list[Judged] = [judged for judged in curve.gate if not judged.passed]
    assert held and learner.ingested_steps >= config.schedule.budget_steps
    # 6 losses of 30 are shown worse for certain, and fewer is what the gate may miss
    assert sum(evaluate(task, policy, SEEDS)) >= before - 10, curve.gate


def test_in_one_process_the_task_must_be_named(tmp_path: Path) -> None:
    config = gated(small_config(), task="")
    policy = new_policy(config, PointTask.interface, demos(3))
    with pytest.raises(ConfigError, match="gate.task is empty"):
        fine_tune(config, PointTask(), policy, demos(3), tmp_path, 0)
