"""An update reads no number of a tensor: on a GPU each read waits for all that was asked of it before."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from inril_core.bench.speed_task import filled_learner
from inril_core.finetune.config import load_config

ALLOWED = {
    **dict.fromkeys(("csil", "csilpp", "il_only", "weighted_sum", "interleave"), 0),
    "cair": 2,  # its solution is found on the CPU; both checks for what is not finite
    "residual_ppo": 1,  # the KL stop decides what comes next
    "dppo": 2,  # the same, and the policy's own flag says that it is fine-tuned
    "idql": 2,  # that flag, in each loss
}


class _Reads(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default and args[0].numel() == 1
        return func(*args, **(kwargs or {}))


@contextmanager
def counted() -> Iterator[_Reads]:
    with _Reads() as mode:
        yield mode


@pytest.mark.parametrize("preset", ALLOWED)
def test_an_update_reads_no_number(preset: str, tmp_path) -> None:
    config = load_config(preset).changed(**{"schedule.replay_capacity": 2000, "metrics_every_updates": 1000})
    config = config.changed(**{"compute.native": False})
    for name, value in {"kl_stop": 1e9, "sarsa_updates": 2}.items():
        if name in type(config.rl).model_fields:
            config = config.changed(**{f"rl.{name}": value})
    learner = filled_learner(config, tmp_path)
    learner.train_step()
    for _ in range(4):  # an insertion among them
        with counted() as reads:
            learner.train_step()
        assert reads.count <= ALLOWED[preset]
