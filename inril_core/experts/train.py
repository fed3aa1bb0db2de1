"""Train the expert of a Gymnasium task from nothing, by this project's own RL, on one core.

python -m inril_core.experts.train gym:Hopper-v5 [--steps N] [--seed N] [--out FOLDER]

Writes FOLDER/NAME.safetensors, the best version on the way, and NAME-medium.safetensors, the one whose return was
nearest to half of the best's. Versions are compared on starts of their own; the return that a file states is on other
starts. Interrupted by Ctrl-C or SIGTERM, it writes the best so far.
"""

from __future__ import annotations

import argparse
import platform
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from inril_core.errors import ConfigError, InrilError
from inril_core.experts.trained import TIERS, expert_path
from inril_core.files import check_writable
from inril_core.finetune.memory.rollout import RolloutSegment
from inril_core.finetune.rl import ppo
from inril_core.networks.compute import use_one_thread
from inril_core.networks.flat import Adam, FlatParameters
from inril_core.policies import GaussianPolicy, save_policy
from inril_core.policies import gaussian as architecture
from inril_core.policies.squashed import log_density
from inril_core.tasks import make_task
from inril_core.tasks.base import Task
from inril_core.tasks.families.gym import GymnasiumTask

SEEDS_APART = 1_000_000
SELECT_EPISODES, REPORT_EPISODES = 5, 20
STD_FLOOR, LEAST_LR = 0.01, 0.05  # of the observation's moments; share of the actor's learning rate left at the end
STREAMS, ROWS = 8, 256  # copies of the task, and steps of each per iteration
# the exploration does not shrink: where it could, a trial on Hopper stopped at a return of 900
POLICY = architecture.Config(hidden=(64, 64), activation="tanh", log_std="fixed", log_std_init=-0.7)
PPO = ppo.Config(
    method="ppo", gamma=0.99, epochs=10, minibatches=16, hidden=(64, 64), critic_lr=1e-3, grad_clip=0.5, kl_stop=0.05
)


@dataclass(frozen=True)
class Score:
    """Over episodes in which the policy acts deterministically."""

    returns: float
    """Mean, in the task's reward."""
    returns_std: float
    """Of the same."""
    successes: int
    episodes: int


def score(task: Task, policy: GaussianPolicy, seeds: range, purpose: str) -> Score:
    """Run whole episodes, one per seed; the policy acts deterministically."""
    returns, successes, rng = [], 0, np.random.default_rng(0)
    for seed in seeds:
        observation, total, outcome = task.reset(seed, purpose), 0.0, None
        while outcome is None or not (outcome.terminated or outcome.truncated):
            observation, outcome = task.step(policy.act(observation, False, rng).action)
            total += outcome.reward
        returns.append(total)
        successes += outcome.success
    return Score(float(np.mean(returns)), float(np.std(returns)), successes, len(returns))


class Streams:
    """Several copies of a task, each in its own unending row of episodes, for one batched answer a step."""

    def __init__(self, name: str, copies: int, seed: int) -> None:
        self.tasks = [make_task(name) for _ in range(copies)]
        self._seed = seed * SEEDS_APART
        self.observations = np.stack([self._begin(task) for task in self.tasks])

    def _begin(self, task: Task) -> np.ndarray:
        self._seed += 1
        return task.reset(self._seed, "train")

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Act ``[N, A]``: next observations ``[N, D]``, rewards, terminated, over ``[N]``; what is over begins anew."""
        following = np.empty_like(self.observations)
        rewards, terminated, over = np.zeros(len(actions)), np.zeros(len(actions), bool), np.zeros(len(actions), bool)
        for i, task in enumerate(self.tasks):
            following[i], outcome = task.step(actions[i])
            rewards[i], terminated[i], over[i] = (
                outcome.reward,
                outcome.terminated,
                outcome.terminated or outcome.truncated,
            )
        self.observations = following.copy()
        for i in np.flatnonzero(over).tolist():
            self.observations[i] = self._begin(self.tasks[i])
        return following, rewards, terminated, over


class Moments:
    """Running mean and variance of rows (Chan et al. 1979)."""

    def __init__(self, size: int) -> None:
        self.count, self.mean, self._squares = 0, np.zeros(size), np.zeros(size)

    def add(self, rows: np.ndarray) -> None:
        """Take in rows ``[N, size]``."""
        n, mean = len(rows), rows.mean(0)
        apart, total = mean - self.mean, self.count + n
        self._squares += ((rows - mean) ** 2).sum(0) + apart**2 * self.count * n / total
        self.mean += apart * n / total
        self.count = total

    @property
    def std(self) -> np.ndarray:
        """Standard deviation, ``[size]``."""
        return np.sqrt(self._squares / max(self.count, 1))


class Collector:
    """Rolls the exploring policy out on several streams at once.

    Rewards are divided by the running std of their discounted sum, whose scale PPO's settings suit.
    """

    def __init__(self, task_name: str, policy: GaussianPolicy, seed: int) -> None:
        self._policy, self._rng = policy, np.random.default_rng(seed)
        self._streams = Streams(task_name, STREAMS, seed)
        self._sums, self._spread = np.zeros(STREAMS), Moments(1)

    def rollout(self) -> tuple[list[RolloutSegment], np.ndarray]:
        """`ROWS` steps of every stream: segments cut where episodes end, and all observations."""
        policy, shape = self._policy, (ROWS, STREAMS)
        inputs, following = torch.zeros(*shape, policy.input_size), torch.zeros(*shape, policy.input_size)
        raw, log_prob = torch.zeros(*shape, policy.action_size), torch.zeros(shape)
        rewards, terminated, over = np.zeros(shape, np.float32), np.zeros(shape, bool), np.zeros(shape, bool)
        observed = np.zeros((*shape, policy.observation_size))
        for t in range(ROWS):
            observed[t] = self._streams.observations
            with torch.no_grad():
                inputs[t] = policy.normalise(torch.from_numpy(self._streams.observations))
                mean, log_std = policy(inputs[t])
                noise = torch.from_numpy(self._rng.standard_normal(mean.shape).astype(np.float32))
                raw[t] = mean + torch.exp(log_std) * noise
                log_prob[t] = log_density(raw[t], mean, log_std)
            reached, rewards[t], terminated[t], over[t] = self._streams.step(torch.tanh(raw[t]).numpy())
            following[t] = policy.normalise(torch.from_numpy(reached))
            self._sums = PPO.gamma * self._sums + rewards[t]
            self._spread.add(self._sums[:, None])
            self._sums[over[t]] = 0.0
        scaled = torch.from_numpy(rewards / (float(self._spread.std[0]) + 1e-8)).clamp(-10.0, 10.0)
        segments = []
        for i in range(STREAMS):
            for a, b in _pieces(over[:, i]):
                seen = torch.cat((inputs[a:b, i], following[b - 1 : b, i]))
                none, index = torch.zeros(b - a, 0), np.zeros(b - a, np.int32)
                bootstrap = not terminated[b - 1, i]
                segments.append(
                    RolloutSegment(seen, raw[a:b, i], log_prob[a:b, i], none, index, scaled[a:b, i], bootstrap)
                )
        return segments, observed


@dataclass(frozen=True)
class TrainedVersion:
    """The policy on the way."""

    steps: int
    """Environment steps until then."""
    score: Score
    """On the selection starts."""
    state: dict[str, Tensor]
    """Its weights."""


def train(task_name: str, seed: int, steps: int, evaluate_every: int) -> Iterator[TrainedVersion]:
    """PPO from nothing (`inril_core.finetune.rl.ppo`); prints as it goes.

    The observation's moments are followed until the end, as there are no demonstrations to fit them on.
    """
    task = make_task(task_name)
    torch.manual_seed(seed)
    policy = GaussianPolicy(task.interface.observation_size, task.interface.action_size, POLICY)
    flat = FlatParameters(policy.parameters())
    learner = PPO.build(policy, flat, torch.Generator().manual_seed(seed), None)
    adam, collector = Adam(flat.value.numel(), PPO.actor_lr), Collector(task_name, policy, seed)
    seen = Moments(policy.observation_size)
    start_s, taken, due = time.process_time(), 0, evaluate_every
    while taken < steps:
        adam.lr = PPO.actor_lr * max(1.0 - taken / steps, LEAST_LR)
        segments, observed = collector.rollout()
        taken += ROWS * STREAMS
        for _ in range(learner.begin_iteration(segments)):
            batch = learner.next_minibatch()
            learner.critic_step(batch)
            gradient = learner.actor_gradient(batch)[0]
            if not learner.stopped:
                flat.value.sub_(adam.direction(gradient), alpha=adam.lr)
        seen.add(observed.reshape(-1, policy.observation_size))
        policy.observation_mean.copy_(torch.from_numpy(seen.mean))
        policy.observation_std.copy_(torch.from_numpy(seen.std).clamp_min(STD_FLOOR))
        if taken >= due or taken >= steps:
            due += evaluate_every
            result = score(task, policy, range(SELECT_EPISODES), "demo")
            cpu_s = time.process_time() - start_s
            wins = f"{result.successes}/{result.episodes} successes"
            print(f"{taken:9d} steps {cpu_s:6.0f} s of CPU: return {result.returns:7.0f}, {wins}", flush=True)
            yield TrainedVersion(taken, result, {name: value.clone() for name, value in policy.state_dict().items()})


def _pieces(over: np.ndarray) -> list[tuple[int, int]]:
    """(first, end) of the episodes' parts in a column ``bool[T]``."""
    ends = [*(np.flatnonzero(over) + 1).tolist(), len(over)]
    return [(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True) if b > a]


def main() -> int:
    """Entry point. Exit code 1 where an argument is wrong."""
    parser = argparse.ArgumentParser(prog="python -m inril_core.experts.train", description=__doc__.splitlines()[0])
    parser.add_argument("task", help="gym:NAME")
    parser.add_argument("--steps", type=int, default=1_000_000, help="environment steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--evaluate-every", type=int, default=50_000, help="environment steps between versions")
    parser.add_argument("--out", type=Path, default=expert_path("any").parent, help="folder of the policy files")
    options = parser.parse_args()
    try:
        if options.steps < 1 or options.evaluate_every < 1 or options.seed < 0:
            raise ConfigError("--steps and --evaluate-every must be at least 1, --seed at least 0")
        task = make_task(options.task)
        if not isinstance(task, GymnasiumTask):
            raise ConfigError(f"{options.task}: only gym:NAME is trained from nothing; others have scripted experts")
        for tier in TIERS:
            check_writable(options.out / expert_path(task.name, tier).name)
        use_one_thread()
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        versions: list[TrainedVersion] = []
        start_s = time.process_time()
        try:
            for version in train(options.task, options.seed, options.steps, options.evaluate_every):
                versions.append(version)
        except KeyboardInterrupt:
            print("stopped", flush=True)
            if not versions:
                return 1
    except InrilError as error:
        print(error, file=sys.stderr)
        return 1
    run = {
        "method": "ppo", "seed": options.seed, "run_steps": versions[-1].steps,
        "run_cpu_s": round(time.process_time() - start_s), "python": platform.python_version(),
        "torch": torch.__version__,
        "command": f"python -m inril_core.experts.train {shlex.join(_without_out(sys.argv[1:]))}",
    }  # fmt: skip
    write(task, versions, options.out, run)
    return 0


def write(task: GymnasiumTask, versions: list[TrainedVersion], folder: Path, run: dict[str, Any]) -> None:
    """Score the best version and the medium one on fresh starts, and write both. run: facts for their files."""
    best = max(versions, key=lambda version: version.score.returns)
    medium = min(versions, key=lambda version: abs(version.score.returns - 0.5 * best.score.returns))
    policy = GaussianPolicy(task.interface.observation_size, task.interface.action_size, POLICY)
    for tier, version in zip(TIERS, (best, medium), strict=True):
        policy.load_state_dict(version.state)
        result = score(task, policy, range(REPORT_EPISODES), "eval")
        facts = {
            "task": task.interface.task, "environment": task.name, "tier": tier, "steps": version.steps,
            "return_mean": round(result.returns, 1), "return_std": round(result.returns_std, 1),
            "successes": result.successes, "episodes": result.episodes, **run,
        }  # fmt: skip
        path = folder / expert_path(task.name, tier).name
        save_policy(path, policy, facts)
        print(f"{path}: {facts}")


def _without_out(arguments: list[str]) -> list[str]:
    """The arguments without ``--out`` and its folder, which is nobody else's business."""
    kept, skip = [], False
    for argument in arguments:
        if not skip and argument != "--out" and not argument.startswith("--out="):
            kept.append(argument)
        skip = argument == "--out"
    return kept


if __name__ == "__main__":
    sys.exit(main())
