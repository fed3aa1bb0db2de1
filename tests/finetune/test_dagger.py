"""DAgger and HG-DAgger: what becomes a demonstration, and that it helps."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from inril_core.errors import ConfigError
from inril_core.finetune.config import FineTuneConfig, load_config
from inril_core.finetune.learner import Learner, new_policy
from inril_core.finetune.local import fine_tune
from inril_core.finetune.pretrain import pretrain
from tests.finetune.point_task import PointTask, contract, demos, make_episode, small_config, success_rate

QUICK = {"schedule.warmup_steps": 20, "schedule.critic_warmup_updates": 0, "schedule.demo_growth": []}


def make(tmp_path, preset: str, **changes) -> Learner:
    config = small_config(preset, **{**QUICK, **changes})
    return Learner(config, contract(), new_policy(config, contract(), demos()), demos(), tmp_path)


def mixed(success: bool = False, source=(0, 1, 1, 0)):
    """An episode whose actions tell who acted: 0.1 the policy, 0.9 the human."""
    actions = np.repeat(np.where(np.array(source) == 1, 0.9, 0.1)[:, None], 6, 1)
    return make_episode(np.ones((len(source) + 1, 4)), actions, success, source=np.array(source))


def added(learner: Learner, before: int) -> torch.Tensor:
    return learner.buffers.clones.first(10_000).actions[before:, 0]


@pytest.mark.parametrize("clone, expected", [("expert_steps", [0.9, 0.9]), ("all_steps", [0.1, 0.9, 0.9, 0.1])])
@pytest.mark.parametrize("success", [False, True])
def test_hg_dagger_clones_the_experts_steps(tmp_path, clone: str, expected: list[float], success: bool) -> None:
    """Pins: cloning of the policy's own actions, which the published code does and the method does not."""
    learner = make(tmp_path, "hg_dagger", **{"il.clone": clone})
    before = len(learner.buffers.clones)
    learner.ingest(mixed(success))
    torch.testing.assert_close(added(learner, before), torch.tensor(expected))


def test_dagger_relabels_what_the_policy_visited(tmp_path) -> None:
    """Pins: cloning of executed actions, or of answers that nobody gave."""
    learner = make(tmp_path, "dagger")
    before = len(learner.buffers.clones)
    answers = np.full((4, 6), 0.5, np.float32)
    answers[2] = np.nan
    learner.ingest(replace(mixed(), expert_actions=answers))
    assert added(learner, before).tolist() == [0.5, 0.5, 0.5]


def test_dagger_without_an_expert_is_refused_and_nothing_changed(tmp_path) -> None:
    """Pins: a DAgger run that silently clones nothing, or half an ingested episode."""
    learner = make(tmp_path, "dagger")
    with pytest.raises(ConfigError, match="every step.*hg_dagger"):
        learner.ingest(mixed())
    assert learner.ingested_steps == 0 and len(learner.buffers.replay) == 0 and not learner.knows("e0")
    with pytest.raises(ConfigError, match="interventions.kind"):
        load_config("dagger").changed(interventions=None)
    with pytest.raises(ConfigError, match="demo_share"):
        load_config("dagger").changed(**{"rl.demo_share": 0.5})
    with pytest.raises(ConfigError, match=r"set schedule.demo_growth to \[\]"):
        load_config("hg_dagger").changed(**{"schedule.demo_growth": ["successes"]})


def run(tmp_path, preset: str, **changes) -> tuple[float, float]:
    """Success after cloning three demonstrations, and after the method."""
    config: FineTuneConfig = small_config(
        preset,
        **{
            **QUICK,
            "schedule.budget_steps": 400,
            "schedule.utd": 1.0,
            "pretrain.updates": 60,
            "combine.il_lr": 3e-3,
            **changes,
        },
    )
    policy = pretrain(config, contract(), demos(1))
    start = success_rate(policy)
    learner, _ = fine_tune(config, PointTask(), policy, demos(1), tmp_path, 0)
    assert learner.actor_updates > 100
    return start, success_rate(policy)


@pytest.mark.parametrize("preset, intervener", [("dagger", {"kind": "none"}), ("hg_dagger", {"kind": "random"})])
def test_the_expert_helps(tmp_path, preset: str, intervener) -> None:
    """Pins: any broken link between expert, episode, demonstrations and policy."""
    start, end = run(tmp_path, preset, interventions=intervener)
    assert end >= 0.9 > start


def test_one_seed_gives_one_run_with_a_helper(tmp_path) -> None:
    """Pins: an intervener with randomness of its own."""
    outcomes = []
    for name in "ab":
        config = small_config(
            "rlif",
            **{
                **QUICK,
                "schedule.budget_steps": 150,
                "interventions": {"kind": "random", "probability": 0.2, "expert": {"noise": 0.3}},
                "rl.target_range": None,
            },
        )
        policy = new_policy(config, contract(), demos())
        learner, _ = fine_tune(config, PointTask(), policy, demos(), tmp_path / name, 0)
        assert (learner.buffers.replay.first(1000).rewards == -1.0).sum() > 5
        outcomes.append(policy.state_dict())
    assert all(torch.equal(outcomes[0][k], outcomes[1][k]) for k in outcomes[0])
