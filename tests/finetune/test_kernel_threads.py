"""Several threads of the C++ kernels: the numbers of one, and threads that are there only while they are wanted."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from inril_core.networks.compute import use_kernel_threads
from inril_core.networks.native import library
from tests.finetune.kernel_threads_worker import UPDATES, filled, train

ROOT = Path(__file__).resolve().parents[2]
SIZES: dict[str, dict[str, Any]] = {
    "preset": {},
    "odd": {
        "rl.critics": 5, "rl.hidden": [70, 37], "rl.batch": 37, "rl.actor_q": "min", "il.batch": 23,
        "policy.hidden": [50, 33], "policy.activation": "tanh",
    },
    "entropy": {
        "rl.critics": 3, "rl.temperature": 0.1, "rl.learn_temperature": True, "rl.entropy_in_target": True,
        "rl.target_range": None, "rl.target_subset": 3, "il.loss": "nll",
    },
    # more than can be handed out at a time, of members and of an optimizer's vector
    "many": {"rl.critics": 70, "rl.hidden": [100, 90], "rl.batch": 9, "il.batch": 9},
}  # fmt: skip


@pytest.fixture(autouse=True)
def _kernels() -> Iterator[None]:
    if library() is None:
        pytest.skip("no C++ compiler")
    yield
    use_kernel_threads(1)


def ended(what: str, folder: Path, threads: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.finetune.kernel_threads_worker", what, str(folder), str(threads)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, cwd=ROOT)


def said(what: str, folder: Path, threads: int) -> dict[str, Any]:
    done = ended(what, folder, threads)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@cache
def by_one_thread() -> str:
    """What `UPDATES` of the worker's learner come to, in this process."""
    use_kernel_threads(1)
    with TemporaryDirectory() as folder:
        return train(filled(Path(folder)), UPDATES)


@pytest.mark.parametrize("preset", ["weighted_sum", "interleave"])
@pytest.mark.parametrize("sizes", SIZES)
def test_the_numbers_do_not_depend_on_the_threads(tmp_path: Path, preset: str, sizes: str) -> None:
    """Pins: a sum in the order in which threads end, a workspace of two, a task that nobody or somebody twice does."""
    found = {}
    for threads in (1, 2, 3):
        use_kernel_threads(threads)
        found[threads] = train(
            filled(tmp_path / str(threads), preset, **SIZES[sizes]), 300 if sizes == "preset" else 60
        )
    assert found[1] == found[2] == found[3]


def test_helpers_sleep_when_idle_hear_no_signals_and_go(tmp_path: Path) -> None:
    """Pins: a core that burns while the learner waits; a SIGTERM that a helper takes; a thread that nobody wanted."""
    one = said("trained", tmp_path / "one", 1)
    assert (one["helpers"], one["sha256"]) == (0, by_one_thread())
    three = said("trained", tmp_path / "three", 3)
    assert (three["helpers"], three["left"], three["sha256"]) == (2, 0, by_one_thread())
    assert three["asleep"] == [True, True]
    for mask in three["blocked"]:
        assert all(
            mask >> (number - 1) & 1 for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
        )


def test_a_forked_process_trains_on_with_helpers_of_its_own(tmp_path: Path) -> None:
    """Pins: a child that waits for ever for threads that it does not have."""
    found = said("forked", tmp_path, 2)
    assert found["child"] == {"sha256": by_one_thread(), "helpers": [0, 1]}
    assert (found["code"], found["helpers"], found["sha256"]) == (0, 1, by_one_thread())


def test_a_killed_process_goes_on_from_its_checkpoint_to_the_same_numbers(tmp_path: Path) -> None:
    """Whatever the threads were before, and are then."""
    for before, then in ((2, 2), (2, 1), (1, 3)):
        folder = tmp_path / f"{before}-{then}"
        assert ended("killed", folder, before).returncode == -signal.SIGKILL
        assert said("resumed", folder, then) == {"from": UPDATES // 2, "sha256": by_one_thread()}


def test_two_threads_of_a_program_may_train_at_once(tmp_path: Path) -> None:
    """Pins: helpers that do one's work in the other's memory."""
    assert said("at_once", tmp_path, 2)["sha256"] == [by_one_thread()] * 2


def test_a_process_ends_while_its_learner_trains(tmp_path: Path) -> None:
    """Pins: a helper that outlives what it waits on, or an end that waits for one."""
    assert said("in_training", tmp_path, 3) == {"helpers": 2}
