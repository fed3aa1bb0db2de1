"""Pins: an episode that is not learned from, or twice; a version number used twice; a learner that forgets."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from blake3 import blake3
from inril_common.qos import LATCHED
from inril_msgs.msg import LearnerStatus, PolicyWeights
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor

from inril_core.blobs import Blob, pull_blob
from inril_core.data import EpisodeIndex, finalise
from inril_core.finetune.config import load_config
from inril_core.finetune.demos import read_demos
from inril_core.finetune.pretrain import pretrain
from inril_core.networks.native import library
from inril_core.policies import policy_from_manifest, save_policy
from inril_core.run import RunPaths, open_run
from inril_core.weights import Offer, load_or_create_key, unpack
from tests.data.synthetic import CONTRACT, Synthetic
from tests.domains import own_domain, spawn

WAIT_S = 90.0
SMALL = """
base: interleave
name: small
policy: {hidden: [16, 16]}
pretrain: {updates: 20}
schedule: {utd: 1.0, rewards_before_actor: 0, warmup_steps: 10, critic_warmup_updates: 5, budget_steps: 100}
rl: {hidden: [16, 16], batch: 16, critics: 2}
push_every_updates: 50
checkpoint_every_updates: 20
metrics_every_updates: 10
"""


def record(run_dir: Path, made: Synthetic) -> None:
    """Put a finished episode into a run, as the recorder does."""
    paths = RunPaths(run_dir)
    for folder in (paths.raw, paths.episodes):
        folder.mkdir(parents=True, exist_ok=True)
    finalise(made.record(paths.raw), paths.episodes, EpisodeIndex(paths.episodes))


class LearnerBench:
    """A store and a learner as processes, and an observer of what the learner says."""

    def __init__(self, root: Path) -> None:
        self.run_dir, self.root = root / "run", root
        self.paths = RunPaths(self.run_dir)
        self.statuses: list[LearnerStatus] = []
        self.packs: list[PolicyWeights] = []
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> LearnerBench:
        self._stack = ExitStack()
        self._domain = self._stack.enter_context(own_domain())
        context = Context()
        rclpy.init(context=context, domain_id=self._domain)
        self._stack.callback(rclpy.shutdown, context=context)
        self.node = rclpy.create_node("bench", context=context)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self.node)
        self.node.create_subscription(LearnerStatus, "/learner_status", self.statuses.append, LATCHED)
        self.node.create_subscription(PolicyWeights, "/policy_weights", self.packs.append, LATCHED)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait(timeout=30)
        self.node.destroy_node()
        self._executor.shutdown()
        self._stack.close()

    def start(self, module: str, **parameters: object) -> None:
        command = [sys.executable, "-m", module, "--ros-args", "-p", f"run_dir:={self.run_dir}"]
        for key, value in parameters.items():
            command += ["-p", f"{key}:={value}"]
        environment = {"INRIL_KEY": str(self.root / "weights.key")}
        self._processes[module] = spawn(command, self._domain, environment)

    def start_learner(self, **parameters: object) -> None:
        self.start(
            "inril_learner.learner_node",
            preset=self.root / "small.yaml",
            demos=self.root / "demos",
            initial_weights=self.root / "initial.inril",
            tensorboard="false",
            **parameters,
        )

    def end(self, module: str, number: int) -> int:
        process = self._processes.pop(module)
        process.send_signal(number)
        code = process.wait(timeout=30)
        self.statuses.clear()
        return code

    def kernel_helpers(self) -> int:
        """Threads that the learner's C++ kernels have beside its own."""
        tasks = Path(f"/proc/{self._processes['inril_learner.learner_node'].pid}/task")
        return sum((task / "comm").read_text() == "inril-kernels\n" for task in tasks.iterdir())

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            self._executor.spin_once(timeout_sec=0.02)
            value = condition()
            if value:
                return value
        raise AssertionError(f"no {what}; newest status {self.statuses[-1:]}")

    def pulled(self, pushed: PolicyWeights) -> tuple[dict[str, Any], dict[str, Any]]:
        """Tensors and manifest of a pack, as a policy gets them."""
        key, memory = load_or_create_key(self.root / "weights.key"), np.empty(pushed.size_bytes, np.uint8)
        blob = Blob(bytes(pushed.digest), pushed.size_bytes, blake3)
        pull_blob(blob, pushed.address, key, self.root / "pulled.pack", memory=memory)
        offer = Offer(pushed.run_id, pushed.n, pushed.size_bytes, bytes(pushed.digest), bytes(pushed.mac))
        assert offer.is_signed(key)
        return unpack(memory)

    def caught_up(self, steps: int) -> LearnerStatus:
        """Wait until the learner has ingested `steps`, done what they call for, and its push was heard."""

        def done() -> LearnerStatus | None:
            newest = self.statuses[-1] if self.statuses else None
            if newest is None or newest.ingested_steps < steps or newest.updates < newest.target_updates:
                return None
            heard = max((pack.n for pack in self.packs), default=-1)
            return newest if heard >= newest.published_n else None

        return self.until(done, f"learner caught up with {steps} steps")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LearnerBench]:
    root = tmp_path_factory.mktemp("learner")
    (root / "small.yaml").write_text(SMALL)
    for number in range(2):
        made = Synthetic(steps=8, episode_id=f"demo-{number}", purpose="demo", seed=number, human_from=0)
        record(root / "demos", made)
    policy = pretrain(load_config(root / "small.yaml"), CONTRACT, read_demos(root / "demos", CONTRACT, print))
    facts = {"interface_digest": CONTRACT.interface_digest, "contract_text": CONTRACT.text}
    save_policy(root / "initial.inril", policy, facts)
    with LearnerBench(root) as bench:
        bench.start("inril_session.store_node", label_timeout_s=0.1)
        bench.start_learner()
        yield bench


def test_the_learner_pulls_trains_pushes_and_goes_on_after_its_death(bench: LearnerBench) -> None:
    """One life of a learner: nothing owed in the warm-up, the ratio held, evaluation ignored, kill -9, clean stop."""
    record(bench.run_dir, Synthetic(steps=6, episode_id="train-0", seed=10))
    status = bench.caught_up(6)
    assert (status.updates, status.published_n, status.state) == (0, -1, "waiting"), "still warming up"

    record(bench.run_dir, Synthetic(steps=30, episode_id="eval-0", purpose="eval", seed=11))
    record(bench.run_dir, Synthetic(steps=24, episode_id="train-1", seed=12))
    status = bench.caught_up(30)
    assert (status.updates, status.target_updates) == (25, 25.0), "5 of the critic, then one per step after 10"
    assert (status.ingested_steps, status.ingested_episodes) == (30, 2)
    first = bench.packs[-1]
    state, manifest = bench.pulled(first)
    assert (manifest["run_id"], manifest["n"]) == (open_run(bench.run_dir).run_id, first.n)
    assert manifest["interface_digest"] == CONTRACT.interface_digest
    policy_from_manifest(manifest["policy"]).load_state_dict(state)

    assert bench.kernel_helpers() == 0, "nobody waits for it"
    bench.end("inril_learner.learner_node", signal.SIGKILL)
    record(bench.run_dir, Synthetic(steps=10, episode_id="train-2", seed=13))
    bench.start_learner(lockstep="true")
    status = bench.caught_up(40)
    assert (status.ingested_steps, status.ingested_episodes, status.updates) == (40, 3, 35)
    assert bench.kernel_helpers() == (min(2, len(os.sched_getaffinity(0))) - 1 if library() else 0)
    assert status.published_n > first.n, "a number is never used twice"

    assert bench.end("inril_learner.learner_node", signal.SIGTERM) == 0
    bench.start_learner()
    again = bench.caught_up(40)
    assert (again.ingested_episodes, again.updates) == (3, 35), "a clean stop keeps every update"
    bench.until(lambda: bench.packs[-1].n > status.published_n, "a push of what may not have arrived")
    lines = (bench.paths.learner / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 3, "groups of ten updates, none doubled"


def test_a_learner_without_demonstrations_says_so(bench: LearnerBench, tmp_path: Path) -> None:
    """Pins: a stack trace, or a wait for ever, where a path is missing."""
    command = [sys.executable, "-m", "inril_learner.learner_node", "--ros-args", "-p", f"run_dir:={tmp_path}"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert ended.returncode == os.EX_CONFIG and "demos is empty" in ended.stderr
