"""How fast the simulated cell is on this machine, and how well the scripted expert does.

python -m inril_core.bench.cell_speed [--contract NAME] [--steps N] [--episodes N] [--json PATH]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from inril_core.contract import Contract, load_contract
from inril_core.errors import ConfigError, InrilError
from inril_core.evaluation.intervals import success_rate
from inril_core.experts import ExpertConfig
from inril_core.experts.scripted.base import scripted_expert
from inril_core.files import check_writable, write_atomically
from inril_core.tasks.families.cell import CellEnv


@dataclass(frozen=True)
class Speed:
    """What a control step of the simulated cell costs."""

    control_steps_per_s: float
    """Of CPU time on one core."""
    physics_share: float
    """Of that time; so are the other two."""
    kinematics_share: float
    rest_share: float
    resets_per_s: float


@dataclass(frozen=True)
class ExpertScore:
    """Outcome of the scripted expert over consecutive seeds."""

    episodes: int
    successes: int
    interval: tuple[float, float]
    """95 % Wilson interval of the success rate."""
    median_steps: float
    longest_steps: int
    reasons: dict[str, int]
    """How often each ended an episode."""


class _Stopwatch:
    """Replaces a function by one that adds up its time."""

    def __init__(self, owner: Any, name: str) -> None:
        self.seconds = 0.0
        self._owner, self._name = owner, name
        self._function: Callable[..., Any] = getattr(owner, name)

    def __enter__(self) -> _Stopwatch:
        setattr(self._owner, self._name, self._timed)
        return self

    def __exit__(self, *_: object) -> None:
        setattr(self._owner, self._name, self._function)

    def _timed(self, *args: Any, **kwargs: Any) -> Any:
        start = time.process_time()
        try:
            return self._function(*args, **kwargs)
        finally:
            self.seconds += time.process_time() - start


def measure_speed(contract: Contract, steps: int = 3000) -> Speed:
    """Run the expert with a little noise for `steps` control steps, resets not counted."""
    env = CellEnv(contract)
    expert = scripted_expert(contract).worse(0.1, 0.0, 0.0)
    reset_s = step_s = 0.0
    done, episodes, seed = True, 0, 0
    observation = np.zeros(0)
    with _Stopwatch(mujoco, "mj_step") as physics, _Stopwatch(env.cell.kinematics, "step") as kinematics:
        for _ in range(steps):
            if done:
                before_s = physics.seconds, kinematics.seconds
                start = time.process_time()
                observation = env.reset(seed)
                reset_s += time.process_time() - start
                physics.seconds, kinematics.seconds = before_s
                expert.reset(seed)
                seed, episodes = seed + 1, episodes + 1
            action = expert.act(observation)
            start = time.process_time()
            observation, outcome = env.step(action)
            step_s += time.process_time() - start
            done = outcome.terminated or outcome.truncated
    physics_share, kinematics_share = physics.seconds / step_s, kinematics.seconds / step_s
    rest_share = 1.0 - physics_share - kinematics_share
    return Speed(steps / step_s, physics_share, kinematics_share, rest_share, episodes / reset_s)


def score_expert(contract: Contract, episodes: int, first_seed: int, purpose: str, dials: ExpertConfig) -> ExpertScore:
    """Let the expert run whole episodes. dials: all 0, at its best."""
    env = CellEnv(contract)
    expert = scripted_expert(contract).worse(dials.noise, dials.bias, dials.hesitation)
    successes, lengths, reasons = 0, [], Counter[str]()
    for seed in range(first_seed, first_seed + episodes):
        observation, done = env.reset(seed, purpose), False
        expert.reset(seed)
        while not done:
            observation, outcome = env.step(expert.act(observation))
            done = outcome.terminated or outcome.truncated
        successes += outcome.success
        lengths.append(env.state.step)
        reasons[outcome.reason] += 1
    rate = success_rate(successes, episodes)
    interval = round(rate.low, 3), round(rate.high, 3)
    return ExpertScore(episodes, successes, interval, float(np.median(lengths)), max(lengths), dict(reasons))


def main() -> int:
    """Entry point. Exit code 1 where an argument is wrong."""
    parser = argparse.ArgumentParser(prog="python -m inril_core.bench.cell_speed", description=__doc__.splitlines()[0])
    parser.add_argument("--contract", default="insert_leg", help="packaged task name or path of a contract YAML")
    parser.add_argument("--steps", type=int, default=3000, help="control steps to time; 0: none")
    parser.add_argument("--episodes", type=int, default=0, help="episodes of the scripted expert; 0: none")
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--purpose", choices=("demo", "train", "eval"), default="train", help="start range")
    for dial in ("noise", "bias", "hesitation"):
        parser.add_argument(f"--{dial}", type=float, default=0.0, help="the expert's dial")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    try:
        if options.steps < 0 or options.episodes < 0:
            raise ConfigError("--steps and --episodes must not be negative")
        if options.json is not None:
            check_writable(options.json, "--json")
        contract = load_contract(options.contract)
        figures: dict[str, Any] = {}
        if options.steps:
            figures["speed"] = asdict(measure_speed(contract, options.steps))
        if options.episodes:
            dials = {name: getattr(options, name) for name in ("noise", "bias", "hesitation")}
            score = score_expert(contract, options.episodes, options.first_seed, options.purpose, ExpertConfig(**dials))
            figures["expert"] = asdict(score)
    except InrilError as error:
        print(error, file=sys.stderr)
        return 1
    for part, values in figures.items():
        print(part)
        for name, value in values.items():
            print(f"  {name:22} {value:10.3f}" if isinstance(value, float) else f"  {name:22} {value}")
    print(json.dumps(figures))
    if options.json is not None:
        write_atomically(options.json, json.dumps(figures, indent=1).encode() + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
