"""The learner on a GPU against the same learner on the CPU; skipped where torch finds no GPU.

`tools/gpu_check.sh` runs these and the speed table.
"""

from pathlib import Path

import pytest
import torch
from inril_core.finetune.machine import use_one_thread
from torch import Tensor

from inril_core.bench.speed_task import NoiseTask, filled_learner, refill
from inril_core.finetune.config import FineTuneConfig, load_config, preset_names
from inril_core.finetune.learner import Learner

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")

UPDATES = 12
SHORT = {"schedule.replay_capacity": 2000}
RL_SHORT = {"kl_stop": None, "sarsa_updates": 20}  # noise would reach the KL stop at once


@pytest.fixture(autouse=True)
def _deterministic() -> None:
    use_one_thread()


def config_of(preset: str, device: str, **changes: object) -> FineTuneConfig:
    """A preset on a device, with a small memory and little before the first update."""
    config = load_config(preset).changed(**{"compute.device": device, **SHORT, **changes})
    fields = type(config.rl).model_fields
    return config.changed(**{f"rl.{name}": value for name, value in RL_SHORT.items() if name in fields})


def trained(config: FineTuneConfig, folder: Path, updates: int = UPDATES) -> Learner:
    """A learner after so many updates."""
    learner = filled_learner(config, folder)
    go_on(learner, updates)
    return learner


def go_on(learner: Learner, updates: int) -> None:
    """More updates; a rollout is collected where an on-policy method needs one."""
    for _ in range(updates):
        if learner.updates >= learner.updates_due:
            learner.published(learner.updates)
            refill(learner, NoiseTask())
        learner.train_step()


def flat(state: dict[str, Tensor]) -> Tensor:
    """All numbers of a state, in the order of its names."""
    return torch.cat([state[name].double().reshape(-1).cpu() for name in sorted(state)])


@pytest.mark.parametrize("preset", preset_names())
def test_a_gpu_trains_as_the_cpu_does(preset: str, tmp_path: Path) -> None:
    """Pins: tensors left on the other device, kernels that differ by more than rounding."""
    start = flat(filled_learner(config_of(preset, "cpu"), tmp_path / "start").policy_state())
    cpu = flat(trained(config_of(preset, "cpu"), tmp_path / "cpu").policy_state())
    learner = trained(config_of(preset, "cuda"), tmp_path / "cuda")
    assert next(learner.policy.parameters()).device.type == "cuda"
    cuda = flat(learner.policy_state())
    moved = float((cpu - start).norm())
    assert moved > 0.0
    # Adam turns the rounding of a gradient near zero into a step of either sign; a few per cent of all movement
    assert float((cuda - cpu).norm()) < 0.1 * moved


@pytest.mark.parametrize("preset", ["weighted_sum", "interleave", "cair", "idql_interleave", "dppo_interleave"])
def test_a_gpu_run_repeats_and_resumes_to_the_bit(preset: str, tmp_path: Path) -> None:
    """Pins: a kernel without a fixed order of sums, state that a checkpoint leaves out or puts on the wrong device."""
    config = config_of(preset, "cuda")
    whole = trained(config, tmp_path / "whole")
    go_on(whole, UPDATES)
    first = trained(config, tmp_path / "cut")
    first.checkpoint()
    again = filled_learner(config, tmp_path / "cut")
    again.resume()
    go_on(again, UPDATES)
    assert torch.equal(flat(whole.policy_state()), flat(again.policy_state()))


def test_bf16_is_near_float32(tmp_path: Path) -> None:
    """Pins: a setting without effect, or one that leaves the neighbourhood of the exact run."""
    exact = flat(trained(config_of("weighted_sum", "cuda"), tmp_path / "a").policy_state())
    coarse = flat(
        trained(config_of("weighted_sum", "cuda", **{"compute.precision": "bf16"}), tmp_path / "b").policy_state()
    )
    assert 0.0 < float((exact - coarse).abs().max()) < 0.02
