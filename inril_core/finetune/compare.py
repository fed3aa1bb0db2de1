"""Compare ways to combine RL and IL on the simulated cell: same demonstrations, start, budget and ratio.

    python -m inril_core.finetune.compare

One JSON line per (method, seed) goes to ``docs/results/insert_leg_methods.jsonl`` as soon as it is there; what is there
under the same settings is not run again. At the end the table and the learning curves are written beside it.
"""

import argparse
import hashlib
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inril_core.contract import Contract, load_contract
from inril_core.data.episode import Episode
from inril_core.finetune.checkpoint import append_line, read_lines, write_lines
from inril_core.finetune.comparison_report import machine, write_report
from inril_core.finetune.config import FineTuneConfig, load_config
from inril_core.finetune.local import Curve, collect_demos, evaluate, fine_tune
from inril_core.finetune.machine import use_one_thread
from inril_core.finetune.pretrain import pretrain
from inril_core.policies import Policy, load_policy, save_policy
from inril_core.session.plan import episode_seed
from inril_core.sim.env import CellEnv
from inril_core.sim.expert import ScriptedExpert

PRESETS = ("interleave", "weighted_sum", "rl_only")
CURVE_EPISODES = 25  # per point of the learning curve; the final evaluation has its own, disjoint starts
CURVE_FIRST_SEED = 200_000
CURVE_EVERY_STEPS = 1000


def settings_digest(config: FineTuneConfig, contract: Contract, demos: int, eval_episodes: int) -> str:
    """SHA-256 (hex, 16 digits) of everything that decides a line's numbers, besides the code."""
    facts = [config.model_dump(mode="json"), contract.text, demos, eval_episodes]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


class Comparison:
    """Runs the methods seed by seed.

    Args:
        contract: the task.
        demos: demonstrations per seed; every seed draws its own.
        eval_episodes: of the first and the final evaluation, on the starts the graph's evaluation uses.
        budget_steps: environment steps; None: the presets' own.
    """

    def __init__(self, contract: Contract, demos: int, eval_episodes: int, budget_steps: int | None = None) -> None:
        self.contract, self.demos, self.eval_episodes, self.budget_steps = contract, demos, eval_episodes, budget_steps
        self._env = CellEnv(contract)
        self._eval_seeds = [episode_seed("eval", i, 0) for i in range(eval_episodes)]

    def config(self, method: str, seed: int) -> FineTuneConfig:
        """The preset of a method for a seed."""
        config = load_config(method).changed(seed=seed)
        if self.budget_steps is None:
            return config
        return config.changed(**{"schedule.budget_steps": self.budget_steps})

    def start(self, seed: int, config: FineTuneConfig) -> tuple[list[Episode], Policy]:
        """Demonstrations of a seed and the policy cloned from them, the same for every method.

        Raises:
            ConfigError: no successful demonstration.
        """
        seeds = [episode_seed("demo", i, seed) for i in range(self.demos)]
        demos = collect_demos(self._env, ScriptedExpert(self.contract), seeds)
        return demos, pretrain(config, self.contract, demos)

    def run(self, method: str, demos: Sequence[Episode], initial: Path, bc_successes: int, seed: int) -> dict[str, Any]:
        """Fine-tune from the policy in ``initial``; the line of (method, seed)."""
        config = self.config(method, seed)
        policy, _ = load_policy(initial)
        began_s = time.monotonic()
        curve_seeds = range(CURVE_FIRST_SEED, CURVE_FIRST_SEED + CURVE_EPISODES)
        with tempfile.TemporaryDirectory() as folder:
            first_seed = episode_seed("train", 0, seed)
            learner, curve = fine_tune(
                config, self._env, policy, demos, Path(folder), first_seed, curve_seeds, CURVE_EVERY_STEPS
            )
        wall_s = time.monotonic() - began_s
        return {
            "method": method,
            "seed": seed,
            "settings": settings_digest(config, self.contract, self.demos, self.eval_episodes),
            "demos": self.demos,
            "budget_steps": config.schedule.budget_steps,
            "utd": config.schedule.utd,
            "warmup_steps": config.schedule.warmup_steps,
            "env_steps": learner.ingested_steps,
            "updates": learner.updates,
            "eval_episodes": self.eval_episodes,
            "bc_successes": bc_successes,
            "final_successes": sum(evaluate(self._env, policy, self._eval_seeds)),
            "curve": curve.evaluations,
            "train": [[step, int(success)] for step, success in curve.episodes],
            "cosines": _cosines(curve),
            "wall_s": round(wall_s, 1),
            "machine": machine(),
        }

    def evaluate(self, policy: Policy) -> int:
        """Successes on the final evaluation's starts."""
        return sum(evaluate(self._env, policy, self._eval_seeds))


def _cosines(curve: Curve) -> list[list[float]]:
    """(update, gradient cosine, cosine of the step taken) per group that has them."""
    names = ("gradient_cosine", "step_cosine")
    return [[update, *(m[n] for n in names)] for update, m in curve.metrics if all(n in m for n in names)]


def compare(
    comparison: Comparison, methods: Sequence[str], seeds: Sequence[int], lines_path: Path
) -> list[dict[str, Any]]:
    """Run what is missing in ``lines_path``, seed by seed; returns all lines asked for."""
    lines_path.parent.mkdir(parents=True, exist_ok=True)
    earlier = read_lines(lines_path) if lines_path.exists() else []
    write_lines(lines_path, earlier)  # without a last line that an interruption tore
    known = {_key(line): line for line in earlier}
    wanted = {
        (method, seed): settings_digest(
            comparison.config(method, seed), comparison.contract, comparison.demos, comparison.eval_episodes
        )
        for seed in seeds
        for method in methods
    }
    for seed in seeds:
        missing = [m for m in methods if (m, seed, wanted[m, seed]) not in known]
        if not missing:
            continue
        demos, policy = comparison.start(seed, comparison.config(methods[0], seed))
        bc_successes = comparison.evaluate(policy)
        with tempfile.TemporaryDirectory() as folder:
            initial = Path(folder) / "initial.safetensors"
            save_policy(initial, policy, {})
            for method in missing:
                line = comparison.run(method, demos, initial, bc_successes, seed)
                append_line(lines_path, line)
                known[_key(line)] = line
                rates = f"{line['bc_successes']} -> {line['final_successes']} of {line['eval_episodes']}"
                print(f"{method} seed {seed}: {rates}, {line['wall_s']:.0f} s", flush=True)
    return [known[method, seed, digest] for (method, seed), digest in wanted.items()]


def _key(line: dict[str, Any]) -> tuple[str, int, str]:
    return line["method"], line["seed"], line["settings"]


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--contract", default="insert_leg", help="packaged task or path (default: %(default)s)")
    parser.add_argument("--methods", default=",".join(PRESETS), help="presets (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds, from 0 (default: %(default)s)")
    parser.add_argument("--demos", type=int, default=12, help="demonstrations per seed (default: %(default)s)")
    parser.add_argument("--eval-episodes", type=int, default=100, help="per evaluation (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=None, help="environment steps (default: the preset's budget)")
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="folder (default: %(default)s)")
    arguments = parser.parse_args()
    use_one_thread()
    contract = load_contract(arguments.contract)
    comparison = Comparison(contract, arguments.demos, arguments.eval_episodes, arguments.steps)
    stem = f"{contract.task}_methods"
    methods = arguments.methods.split(",")
    lines = compare(comparison, methods, range(arguments.seeds), arguments.out / f"{stem}.jsonl")
    command = shlex.join(["python", "-m", "inril_core.finetune.compare", *sys.argv[1:]])
    write_report(lines, methods, arguments.out, stem, command)
    print(f"wrote {arguments.out / stem}.md and .png", flush=True)


if __name__ == "__main__":
    main()
