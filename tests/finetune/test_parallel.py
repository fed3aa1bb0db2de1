"""Several processes learn what one learns, and none of them hangs when another is gone."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from inril_core.errors import ConfigError
from inril_core.finetune.distributed.parallel import check_distributed
from inril_core.finetune.rl import rlpd
from tests.finetune.parallel_worker import CASES, learn
from tests.finetune.point_task import small_config

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory) -> Path:
    """Results of every case, of two processes under torchrun."""
    folder = tmp_path_factory.mktemp("two")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, "-m", "tests.finetune.parallel_worker", str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("case", CASES)
def test_two_processes_learn_what_one_learns(case: str, two_processes: Path, tmp_path: Path) -> None:
    """Pins: noise drawn twice, a batch statistic of half the rows, a gradient of one process alone."""
    alone, together = learn(case, tmp_path), load_file(two_processes / f"{case}.safetensors")
    assert set(alone) == set(together)
    assert torch.equal(alone.pop("generator"), together.pop("generator"))
    for name, expected in alone.items():
        torch.testing.assert_close(together[name], expected, rtol=2e-3, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_a_lost_process_ends_all_others_with_the_reason(tmp_path: Path) -> None:
    """Pins: a run that hangs for ever because one machine went away."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "PYTHONPATH": str(ROOT)}
    leader = ["tests.finetune.parallel_worker", str(tmp_path), "forever"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", *(leader if rank == 0 else ["inril_core.finetune.distributed.follow"])],
            cwd=ROOT,
            env={**os.environ, **common, "OMP_NUM_THREADS": "1", "RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(3)
    ]
    try:
        out = processes[0].stdout
        assert out is not None and out.readline() == "trained\n"
        processes[2].send_signal(signal.SIGKILL)
        for rank in (0, 1):
            errors = processes[rank].communicate(timeout=60)[1]
            assert processes[rank].returncode == 1
            assert f"process {rank} of 3 has lost another one" in errors and "last checkpoint" in errors
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_what_would_learn_something_else_is_refused() -> None:
    """Pins: a batch that loses rows, or a method nobody made for several processes, in silence."""
    config = small_config()
    check_distributed(config, 2)
    for wrong, words in (
        ({"rl.batch": 63}, "rl.batch = 63"),
        ({"rl.batch": 6, "rl.demo_share": 0.5}, "demo_share = 3"),
        ({"il.batch": 5}, "il.batch = 5"),
    ):
        with pytest.raises(ConfigError, match=words):
            check_distributed(config.changed(**wrong), 2)

    class Alone(rlpd.Config):
        distributed = False

    with pytest.raises(ConfigError, match="rl 'rlpd' under torchrun"):
        check_distributed(config.model_copy(update={"rl": Alone(**config.rl.model_dump())}), 2)
