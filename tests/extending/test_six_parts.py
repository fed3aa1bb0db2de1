"""Pins: a method, a reward, a task, a device, a camera and an arm outside the package are found by entry point and by
MODULE:ATTRIBUTE, run by configuration alone, and are checked like those inside."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from inril_core.contract import load_contract
from inril_core.contract.definitions.base import KIND as DEFINITIONS
from inril_core.contract.definitions.base import find_definition
from inril_core.errors import ConfigError
from inril_core.finetune.config import load_config
from inril_core.finetune.learner import Learner, new_policy
from inril_core.finetune.methods import KINDS
from inril_core.hardware.arms.base import KIND as ARMS
from inril_core.hardware.cameras.base import KIND as CAMERAS
from inril_core.tasks import make_task
from inril_core.teleop.base import KIND as TELEOP
from tests.extending.conftest import OUTSIDE, Lab
from tests.finetune.point_task import contract, demos, policy_roll

FIND: dict[str, Callable[[object], Any]] = {
    "after_success": KINDS["combine"].find,
    "step_price": KINDS["rewards"].find,
    "hold_above": find_definition,
    "udp": TELEOP.find,
    "snapshot": CAMERAS.find,
    "rehearsal": ARMS.find,
}
QUICK: dict[str, Any] = {
    "pretrain": {"updates": 50},
    "schedule": {"warmup_steps": 40, "critic_warmup_updates": 5, "rewards_before_actor": 0, "utd": 0.5},
    "metrics_every_updates": 5,
}


def rename(path: Path, by: str) -> None:
    """Name the lab's parts in a YAML file by entry point, as it is written, or by MODULE:ATTRIBUTE."""
    if by == "module:attribute":
        values = yaml.safe_load(path.read_text())
        for part in ("combine", "rewards"):
            values[part]["method"] = OUTSIDE[values[part]["method"]]
        path.write_text(yaml.safe_dump(values))


@pytest.mark.parametrize("by", ["entry point", "module:attribute"])
def test_method_and_reward_train_by_a_preset(lab: Lab, by: str) -> None:
    rename(lab.folder / "preset.yaml", by)
    (lab.folder / "quick.yaml").write_text(yaml.safe_dump({"base": "preset.yaml", **QUICK}))
    config = load_config("quick.yaml")
    assert type(config.combine).__module__ == "peg_lab.after_success"
    learner = Learner(config, contract(), new_policy(config, contract(), demos()), demos(), lab.folder / "run")
    before = {name: tensor.clone() for name, tensor in learner.policy_state().items()}
    for seed in range(8):
        learner.ingest(policy_roll(learner.policy, seed))
        while learner.updates < learner.updates_due:
            learner.train_step()
    assert learner.actor_updates > 5
    assert any(not torch.equal(before[name], tensor) for name, tensor in learner.policy_state().items())
    rewards, _ = config.rewards.label(policy_roll(learner.policy, 99))
    assert (rewards[:-1] == -rewards.dtype.type(0.005)).all()


def test_the_reward_refuses_a_range_that_clips_its_values(lab: Lab) -> None:
    with pytest.raises(ConfigError, match=r"rewards\.price = 0\.005: give rl\.target_range a low end of -0\.167"):
        load_config("preset.yaml").changed(**{"rl.target_range": [0.0, 1.0]})


@pytest.mark.parametrize("definition", [None, "hold_above", OUTSIDE["hold_above"]])
def test_the_task_runs_by_its_contract(lab: Lab, definition: str | None) -> None:
    path = lab.folder / "hold_above.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"definition": definition}))
    task = make_task("hold_above.yaml")
    expert, observation, step = task.expert(), task.reset(3), None
    expert.reset(3)
    while step is None or not step.ended:
        observation, step = task.step(expert.act(observation))
    assert step.success and step.reason == "above"
    assert not load_contract(path).image_shapes
    task.close()


def test_an_experiment_runs_the_lab_s_task_and_methods(lab: Lab) -> None:
    experiment = yaml.safe_load((lab.folder / "experiment.yaml").read_text()) | {
        "methods": {"after_success": "preset.yaml"},
        **{"demos": 2, "budget_steps": 100, "start_episodes": 1, "final_episodes": 1, "overrides": QUICK},
        "curve": {"episodes": 1, "every_steps": 100},
    }
    (lab.folder / "experiment.yaml").write_text(yaml.safe_dump(experiment))
    words = ["bench", "experiment.yaml", "--workers", "1", "--out", "out", "--starts", "starts"]
    done = subprocess.run([sys.executable, "-m", "inril_bringup.cli", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = (lab.folder / "out" / "hold_above.jsonl").read_text().splitlines()
    assert json.loads(line)["task"] == "hold_above.yaml"


@pytest.mark.parametrize("name", OUTSIDE)
def test_both_names_mean_the_same_part(lab: Lab, name: str) -> None:
    assert FIND[name](name) is FIND[name](OUTSIDE[name])


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_misspelt_name_lists_the_known_ones(lab: Lab, name: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean '{name}'.* must be one of .*{name}"):
        FIND[name](name[:-1])


@pytest.mark.parametrize("name", OUTSIDE)
def test_another_kind_of_part_is_refused_by_name(lab: Lab, name: str) -> None:
    other = OUTSIDE["rehearsal" if name == "udp" else "udp"]
    with pytest.raises(ConfigError, match=f"{other}.* must be a"):
        FIND[name](other)


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_part_that_raises_at_import_names_its_module(lab: Lab, name: str) -> None:
    (lab.folder / "lab_without_driver.py").write_text("raise OSError('libdriver.so is missing')")
    sys.path.insert(0, str(lab.folder))
    try:
        with pytest.raises(ConfigError, match="lab_without_driver:Config cannot be imported.*libdriver.so is missing"):
            FIND[name]("lab_without_driver:Config")
    finally:
        sys.path.remove(str(lab.folder))


@pytest.mark.parametrize("name", ["udp", "snapshot", "rehearsal"])
def test_a_part_that_makes_nothing_is_refused_by_name(lab: Lab, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    part = FIND[name](name)
    base = part.__mro__[1]
    (lab.folder / f"lab_half_{name}.py").write_text(
        f"from {base.__module__} import {base.__name__}\nclass Config({base.__name__}): pass\n"
    )
    monkeypatch.syspath_prepend(lab.folder)
    with pytest.raises(ConfigError, match=f"lab_half_{name}:Config.*Config does not define build; {base.__module__}"):
        FIND[name](f"lab_half_{name}:Config")


def test_the_entry_points_are_known_names(lab: Lab) -> None:
    assert "hold_above" in DEFINITIONS.known() and "rehearsal" in ARMS.known() and "udp" in TELEOP.known()
