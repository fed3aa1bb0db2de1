"""`python -m tests.evaluation.guard_study`: what the peak guard finds, what it misses, and what it costs.

Simulated runs whose versions have known rates say how often a healthy run is disturbed, and what a check costs. Real
runs on the point task, with learning rates that ruin the policy after its peak and with healthy ones, say what acts at
the end. Prints two Markdown tables.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from inril_core.evaluation.guard import GuardConfig, GuardVerdict, PeakGuard
from inril_core.evaluation.statistics.proportions import clopper_pearson
from inril_core.finetune.config import FineTuneConfig
from inril_core.finetune.local import evaluate, fine_tune
from inril_core.finetune.pretrain import pretrain
from tests.finetune.point_task import PointTask, demos, small_config

CHECKS_N = 40
"""Of a simulated run: 2,000 episodes at the usual setting."""
RATES: dict[str, Sequence[float]] = {
    "50 % throughout": [0.5] * CHECKS_N,
    "90 % throughout": [0.9] * CHECKS_N,
    "100 % throughout": [1.0] * CHECKS_N,
    "rising from 50 to 95 %": [*np.linspace(0.5, 0.95, CHECKS_N // 2), *[0.95] * (CHECKS_N // 2)],
}
FALLS = {"95 to 0 %": 0.0, "95 to 50 %": 0.5, "95 to 70 %": 0.7, "95 to 85 %": 0.85}
GUARD = {"every_episodes": 10, "screen_trials": 5, "record_trials": 20, "confirm_pairs": 40}
RUINOUS_RATES = (0.02, 0.1, 0.5)
STARTS = range(50_000, 50_060)


@dataclass(frozen=True)
class Run:
    """A real run: success rates of what acts at the end and of the best version that was evaluated."""

    end: float
    best: float
    fell: bool
    outdone: bool
    """The best version came back at the end only."""
    guard_trials: int
    episodes: int


def simulated(rates: Sequence[float], seed: int) -> tuple[PeakGuard[float], int | None]:
    """A run whose versions have these rates; and the check that said `fallen`, after which it ends."""
    rng, guard = np.random.default_rng(seed), PeakGuard[float](GuardConfig())
    for n, rate in enumerate(rates):
        check = guard.check(float(rate), n, lambda version, start: bool(rng.random() < version))
        if check.verdict is GuardVerdict.FALLEN:
            return guard, n
    return guard, None


def healthy_table(runs_n: int) -> None:
    print(f"| simulated runs, {CHECKS_N} checks each | false alarms | trials of a check, mean |\n|---|---|---|")
    for name, rates in RATES.items():
        found = [simulated(rates, seed) for seed in range(runs_n)]
        alarms = sum(fell is not None for _, fell in found)
        low, high = clopper_pearson(alarms, runs_n)
        cost = sum(guard.trials_run for guard, _ in found) / sum(len(guard.checks) for guard, _ in found)
        share = f"{100 * alarms / runs_n:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
        print(f"| {name} | {alarms} of {runs_n}: {share} | {cost:.1f} |")


def falls_table(runs_n: int) -> None:
    print("\n| simulated fall | found at the first check | within 5 checks | never in 20 |\n|---|---|---|---|")
    for name, rate in FALLS.items():
        when = [simulated([0.95] * 5 + [rate] * 20, seed)[1] for seed in range(runs_n)]
        after = np.array([99 if n is None or n < 5 else n - 5 for n in when])
        shares = [np.mean(after == 0), np.mean(after < 5), np.mean(after == 99)]
        print(f"| {name} | " + " | ".join(f"{100 * share:.0f} %" for share in shares) + " |")


def config(actor_lr: float, seed: int, guarded: bool) -> FineTuneConfig:
    """A run on the point that begins with a good clone."""
    changes: dict[str, object] = {"rl.actor_lr": actor_lr, "pretrain.updates": 600, "schedule.budget_steps": 1200}
    if actor_lr in RUINOUS_RATES:
        changes["rl.critic_lr"] = 0.1
    values = small_config("rl_only", **changes, seed=seed).model_dump(mode="json")
    return FineTuneConfig.model_validate(values | ({"guard": GUARD} if guarded else {}))


def real(actor_lr: float, seed: int, guarded: bool) -> Run:
    """One real run."""
    torch.manual_seed(seed)
    task, settings, given = PointTask(), config(actor_lr, seed, guarded), demos(20)
    policy = pretrain(settings, task.interface, given)
    before = np.mean(evaluate(task, policy, STARTS))
    with tempfile.TemporaryDirectory() as folder:
        _, curve = fine_tune(
            settings, task, policy, given, Path(folder), 2_000_000 + 10_000 * seed, STARTS, eval_every_steps=200
        )
    rates = [float(before), *(wins / count for _, wins, count in curve.evaluations)]
    fell = any(check.verdict is GuardVerdict.FALLEN for check in curve.guard)
    cost = sum(check.trials_run for check in curve.guard)
    outdone = any(check.verdict is GuardVerdict.OUTDONE for check in curve.guard)
    return Run(float(np.mean(evaluate(task, policy, STARTS))), max(rates), fell, outdone, cost, len(curve.episodes))


def real_table(seeds_n: int) -> None:
    print(
        "\n| real runs on the point task | runs | best, % | acts at the end, % | within 10 points of the best | "
        "said to have fallen | outdone at the end | guard's trials for 100 episodes |\n" + "|---" * 8 + "|"
    )
    for name, rates, guarded in (
        ("ruinous learning rates, guard", RUINOUS_RATES, True),
        ("the same without", RUINOUS_RATES, False),
        ("healthy learning rate, guard", (1e-4,), True),
    ):
        repeats = seeds_n if len(rates) > 1 else 2 * seeds_n
        runs = [real(rate, seed, guarded) for rate in rates for seed in range(repeats)]
        near = sum(run.end >= run.best - 0.1 for run in runs)
        cost = 100 * sum(run.guard_trials for run in runs) / sum(run.episodes for run in runs)
        best, end = (100 * np.mean([getattr(run, which) for run in runs]) for which in ("best", "end"))
        fell, outdone = sum(run.fell for run in runs), sum(run.outdone for run in runs)
        print(
            f"| {name} | {len(runs)} | {best:.0f} | {end:.0f} | {near} of {len(runs)} | {fell} | {outdone} | "
            f"{cost:.0f} |",
            flush=True,
        )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulated-runs", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3, help="real runs of each learning rate (default: %(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.simulated_runs:
        healthy_table(arguments.simulated_runs)
        falls_table(arguments.simulated_runs // 4)
    if arguments.seeds:
        real_table(arguments.seeds)


if __name__ == "__main__":
    main()
