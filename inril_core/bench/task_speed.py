"""How fast tasks are on this machine, and how well their experts do, as a table.

python -m inril_core.bench.task_speed TASK ... [--episodes N] [--steps N] [--tier medium] [--noise STD] [--json PATH]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from inril_core.errors import ConfigError, InrilError
from inril_core.evaluation.intervals import success_rate
from inril_core.experts import Expert, ExpertConfig, make_expert
from inril_core.experts.trained import expert_path
from inril_core.files import check_writable
from inril_core.tasks import make_task
from inril_core.tasks.base import Task
from inril_core.tasks.families.gym import GymnasiumTask


@dataclass(frozen=True)
class Figures:
    """Of one task; all but the speed are of its expert."""

    task: str
    steps_per_s: float
    """Of CPU time, resets included, with uniform random actions."""
    episodes: int
    successes: int
    rate_low: float
    rate_high: float
    return_mean: float
    return_std: float
    median_steps: float


def steps_per_s(task: Task, steps: int) -> float:
    """Control steps per second of this process's CPU time."""
    rng, seed, over = np.random.default_rng(0), 0, True
    task.reset(0)
    task.step(np.zeros(task.interface.action_size))  # what is compiled at the first step is not counted
    start_s = time.process_time()
    for _ in range(steps):
        if over:
            task.reset(seed)
            seed += 1
        _, outcome = task.step(rng.uniform(-1.0, 1.0, task.interface.action_size))
        over = outcome.terminated or outcome.truncated
    return steps / (time.process_time() - start_s)


def run_expert(task: Task, expert: Expert, seeds: range) -> list[tuple[bool, float, int]]:
    """(success, return, steps) of one episode per seed, from evaluation starts."""
    results = []
    for seed in seeds:
        observation, total, steps, outcome = task.reset(seed, "eval"), 0.0, 0, None
        expert.reset(seed)
        while outcome is None or not (outcome.terminated or outcome.truncated):
            observation, outcome = task.step(expert.act(observation))
            total, steps = total + outcome.reward, steps + 1
        results.append((outcome.success, total, steps))
    return results


def measure(name: str, steps: int, episodes: int, first_seed: int, tier: str, noise: float) -> Figures:
    """All figures of one task.

    Raises:
        ConfigError: no such task, or it has no expert.
    """
    task = make_task(name)
    policy = str(expert_path(task.name, tier)) if isinstance(task, GymnasiumTask) else None
    expert = make_expert(ExpertConfig(policy=policy, noise=noise), task)
    speed = steps_per_s(task, steps)
    results = run_expert(task, expert, range(first_seed, first_seed + episodes))
    task.close()
    wins, returns = sum(result[0] for result in results), [result[1] for result in results]
    rate = success_rate(wins, episodes)
    length = float(np.median([result[2] for result in results]))
    return Figures(
        name, speed, episodes, wins, rate.low, rate.high, float(np.mean(returns)), float(np.std(returns)), length
    )


def main() -> int:
    """Entry point. Exit code 1 where an argument is wrong."""
    parser = argparse.ArgumentParser(prog="python -m inril_core.bench.task_speed", description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="+", metavar="TASK")
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=1000, help="to time")
    parser.add_argument("--tier", default="expert", help="of the expert of a gym task")
    parser.add_argument("--noise", type=float, default=0.0, help="on each component of the expert's actions")
    parser.add_argument("--json", type=Path, help="append one line per task")
    options = parser.parse_args()
    try:
        if options.json is not None:
            check_writable(options.json, "--json")
        print("| task | steps/s | successes | 95 % interval | return | median steps |\n|---|---|---|---|---|---|")
        if options.episodes < 1 or options.steps < 1:
            raise ConfigError("--episodes and --steps must be at least 1")
        for name in options.tasks:
            f = measure(name, options.steps, options.episodes, options.first_seed, options.tier, options.noise)
            rate = f"{f.successes}/{f.episodes} | {f.rate_low:.2f} to {f.rate_high:.2f}"
            reward = f"{f.return_mean:.0f} +- {f.return_std:.0f}"
            print(f"| {f.task} | {f.steps_per_s:.0f} | {rate} | {reward} | {f.median_steps:.0f} |", flush=True)
            if options.json is not None:
                with options.json.open("a") as file:
                    file.write(json.dumps({**asdict(f), "tier": options.tier, "noise": options.noise}) + "\n")
    except InrilError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
