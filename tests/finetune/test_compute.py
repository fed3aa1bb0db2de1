"""What the learner computes on: the usual machine is not mentioned, another is asked for in one place."""

import pytest
import torch

from inril_core.errors import ConfigError
from inril_core.finetune.config import config_from_values
from inril_core.finetune.learner import Learner, new_policy
from tests.finetune.point_task import contract, demos, policy_roll, small_config

QUICK = {"schedule.warmup_steps": 10, "schedule.critic_warmup_updates": 2, "metrics_every_updates": 7}


def trained(folder, **changes) -> Learner:
    """A learner after a few updates of critics and actor."""
    config = small_config("interleave", **QUICK, **changes)
    learner = Learner(config, contract(), new_policy(config, contract(), demos()), demos(), folder)
    learner.ingest(policy_roll(learner.policy, 0))
    for _ in range(12):
        learner.train_step()
    return learner


def test_the_usual_machine_leaves_no_trace_in_digests_and_checkpoints() -> None:
    """Pins: results and checkpoints made before that are not recognised any more."""
    config = small_config()
    assert "compute" not in config.model_dump(mode="json")
    other = config.changed(**{"compute.precision": "bf16"})
    values = other.model_dump(mode="json")
    assert values["compute"]["precision"] == "bf16"
    assert config_from_values(values, "again") == other
    assert other.changed(**{"compute.precision": "float32"}) == config


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named(tmp_path) -> None:
    with pytest.raises(ConfigError, match="compute.device = 'cuda'.*no GPU"):
        trained(tmp_path, **{"compute.device": "cuda"})


def test_bf16_is_near_float32_and_keeps_its_state_in_float32(tmp_path) -> None:
    """Pins: a setting without effect, or one that turns parameters or moments into bf16."""
    exact, coarse = trained(tmp_path / "a"), trained(tmp_path / "b", **{"compute.precision": "bf16"})
    assert {t.dtype for t in coarse.policy_state().values()} == {torch.float32}
    assert coarse.parts.combine.adams["rl"].first.dtype == torch.float32
    moved = exact.parts.actor.value - coarse.parts.actor.value
    assert 0.0 < float(moved.abs().max()) < 0.02
    assert exact.last_metrics["critic_loss"] == pytest.approx(coarse.last_metrics["critic_loss"], rel=0.1)


def test_compile_reaches_policy_and_critics(tmp_path, monkeypatch) -> None:
    """Pins: a setting without effect; what is compiled is not run here."""
    asked: list[str] = []
    functions: list[object] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **_: asked.append(type(self).__name__))
    monkeypatch.setattr(torch, "compile", lambda function, **_: functions.append(function) or function)
    learner = trained(tmp_path, **{"compute.compile": True})
    assert sorted(asked) == ["CriticEnsemble", "GaussianPolicy"]
    assert functions == [*learner.parts.rl.direct.values(), *learner.parts.il.direct.values()]
    assert {"regression", "targets", "near", "value"} == set(learner.parts.rl.direct)
