"""Corrections from starts at which the policy fails, against as many ordinary attempts.

A person may drive the arm into a failure and hand it back (`drive_in:=true`), or wait for failures to come. All arms
here get as many attempts and as many updates of HG-DAgger:

* ``induced``: before each attempt the helper drives the arm to where the clone was about to fail, and hands it over;
* ``ordinary``: attempts from the task's own starts;
* ``none``: the same attempts without a helper, so the same updates on the demonstrations alone.

The helper watches, takes over as a person does (`inril_core.experts.watcher`), and drives to the end: as the task's
expert, at half its speed and two steps later. The demonstrations are by the same hand. What was driven in is not
learned.

    python -m inril_core.bench.induced_starts --seeds 10 --out docs/results

Resumable: a line per seed and arm; the same command adds what is missing.
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from inril_core.bench.origin import code_version, machine
from inril_core.contract import Contract, load_contract
from inril_core.data.episode import SOURCE_HUMAN, Episode
from inril_core.errors import ConfigError, InrilError
from inril_core.evaluation.intervals import success_rate
from inril_core.experts.helping_hand import REACTION_STEPS, Hand, Helper
from inril_core.files import append_line, check_writable, read_sound_lines, write_atomically
from inril_core.finetune.config import FineTuneConfig, load_config
from inril_core.finetune.learner import Learner
from inril_core.finetune.local import evaluate, policy_actor, run_episode
from inril_core.finetune.memory.transitions import imitated_steps
from inril_core.finetune.pretrain import pretrain
from inril_core.networks.compute import use_one_thread
from inril_core.policies import Decision, Policy
from inril_core.tasks.base import Task
from inril_core.tasks.registry import make_task
from inril_core.vocabulary import Mark

ARMS = ("none", "ordinary", "induced")
LENGTH_STEPS = 160
"""Of an attempt: the way into the failure takes some of it."""
BEFORE_END_STEPS = 15
"""The clone was about to fail that long before the end of a failed attempt."""
DEMO_SEED, TRIAL_SEED, FAILURE_SEED, EVALUATION_SEED = 1_000_000, 2_000_000, 3_000_000, 500_000
SEEDS_EACH = 10_000


@dataclass
class Line:
    """One arm of one seed."""

    seed: int
    arm: str
    settings: dict[str, int]
    before: int
    after: int
    evaluations: int
    successes: int
    takeovers: int
    human_steps: int
    steps: int
    failures_known: int
    code: str
    machine: dict[str, Any]


PAGE = """# Corrections from induced failures, and from ordinary attempts

`python -m inril_core.bench.induced_starts --seeds {n}`, on {origin}. {n} seeds: each has its own {demos}
demonstrations, clone and starts, the same for all arms. {attempts} attempts an arm, {updates} updates of HG-DAgger
after each.

* `induced`: before each attempt the helper drives the arm to where the clone was about to fail in one of its failures
  in {failures_sought} other attempts ({end} steps before the end), and hands it to the policy. What was driven in is
  not learned.
* `ordinary`: attempts begin at the task's starts.
* `none`: the same without a helper: as many updates on the demonstrations alone.

The helper watches, takes over where nothing gets better or the leg is turned before it sits, and drives to the end. It
does what the task's expert says, at half its speed and {reaction} steps later; the demonstrations are by the same hand.
An attempt may take {length} steps.

| arm | success after, % of {evaluations} a seed | takeovers | steps of help | attempts won | per seed, before → after |
| --- | --- | --- | --- | --- | --- |
{rows}

Differences in pairs of one seed, with Student's t at 95 %. The bounds of single arms are Wilson's, over all trials as
if of one policy.

{compared}
"""


def contract_text() -> str:
    """insert_leg with attempts long enough to be driven into a failure first."""
    shipped = yaml.safe_load((resources.files("inril_core.contract") / "tasks" / "insert_leg.yaml").read_text())
    return yaml.safe_dump(shipped | {"episode_length_steps": LENGTH_STEPS}, sort_keys=False)


def demonstrate(task: Task, hand: Hand, seed: int) -> Episode:
    """A whole attempt."""
    hand.expert.reset(seed)
    hand.begin()
    nan = np.full(len(hand.rest), np.nan, np.float32)

    def act(observation: np.ndarray, step: int) -> Decision:
        return Decision(hand.act(hand.expert.act(observation)), nan, math.nan, chunk_index=-1)

    return run_episode(task, act, seed, "demo")


def demonstrations(task: Task, contract: Contract, first_seed: int, count: int) -> list[Episode]:
    """By the same hand that will help; failed ones are done again, at most as many as were asked for.

    Raises:
        ConfigError: more failed.
    """
    hand, found = Hand(contract), []
    for seed in range(first_seed, first_seed + 2 * count):
        found += [shown] if (shown := demonstrate(task, hand, seed)).success else []
        if len(found) == count:
            return found
    raise ConfigError(f"{2 * count - len(found)} of {2 * count} demonstrations failed")


def failures(task: Task, policy: Policy, seeds: Sequence[int]) -> list[np.ndarray]:
    """Observations float[D] at which the policy was about to fail, one of each failed attempt."""
    found = []
    for seed in seeds:
        episode = run_episode(task, policy_actor(policy, seed, False), seed, "train")
        if not episode.success:
            found.append(episode.observations[max(episode.steps - BEFORE_END_STEPS, 0)])
    return found


def attempt(task: Task, policy: Policy, seed: int, helper: Helper | None) -> Episode:
    """One attempt; what was driven in is marked as failure."""
    acting = policy_actor(policy, seed, True, helper)  # type: ignore[arg-type]
    episode = run_episode(task, acting, seed, "train", True)
    driven_in = 0 if helper is None else helper.drive_steps
    return episode.marked(0, driven_in - 1, Mark.FAILURE) if driven_in else episode


class Start(NamedTuple):
    """What all arms of a seed begin with."""

    demos: list[Episode]
    policy: Policy
    before: int
    """Successes in the evaluations."""


def start(seed: int, task: Task, contract: Contract, config: FineTuneConfig, settings: dict[str, int]) -> Start:
    """Demonstrate and clone."""
    demos = demonstrations(task, contract, DEMO_SEED + SEEDS_EACH * seed, settings["demos"])
    policy = pretrain(config, task.interface, demos)
    return Start(demos, policy, sum(evaluate(task, policy, evaluations(settings))))


def evaluations(settings: dict[str, int]) -> range:
    """Seeds of the starts before and after."""
    return range(EVALUATION_SEED, EVALUATION_SEED + settings["evaluations"])


def one_arm(
    arm: str,
    seed: int,
    begin: Start,
    task: Task,
    contract: Contract,
    config: FineTuneConfig,
    settings: dict[str, int],
    folder: Path,
) -> Line:
    """Help, and measure."""
    policy = copy.deepcopy(begin.policy)
    known = []
    if arm == "induced":
        first = FAILURE_SEED + SEEDS_EACH * seed
        known = failures(task, policy, range(first, first + settings["failures_sought"]))
        if not known:
            raise ConfigError(f"seed {seed}: the clone never failed in {settings['failures_sought']} attempts")
    learner = Learner(config, task.interface, policy, begin.demos, folder)
    line = Line(
        seed=seed,
        arm=arm,
        settings=settings,
        before=begin.before,
        after=0,
        evaluations=settings["evaluations"],
        successes=0,
        takeovers=0,
        human_steps=0,
        steps=0,
        failures_known=len(known),
        code=code_version(),
        machine=machine(),
    )
    for index in range(settings["attempts"]):
        helper = None if arm == "none" else Helper(contract, known[index % len(known)] if known else None)
        episode = attempt(task, policy, TRIAL_SEED + SEEDS_EACH * seed + index, helper)
        learner.ingest(episode)
        shown = imitated_steps(episode) & (episode.source == SOURCE_HUMAN)
        line.successes += bool(episode.success)
        line.takeovers += helper is not None and helper.took_over
        line.human_steps += int(shown.sum())
        line.steps += episode.steps
        for _ in range(settings["updates"]):
            learner.train_step()
    line.after = sum(evaluate(task, policy, evaluations(settings)))
    return line


def run(settings: dict[str, int], seeds: int, path: Path, config: FineTuneConfig) -> list[Line]:
    """Run what is missing in ``path``; returns all lines of these settings."""
    use_one_thread()
    read = read_sound_lines(path, Line)
    for problem in read.problems:
        print(f"induced_starts: left out: {problem}", file=sys.stderr)
    have = [line for line in read.values if line.settings == settings]
    with tempfile.TemporaryDirectory(prefix="inril-induced-") as folder:
        contract_path = Path(folder) / "insert_leg_long.yaml"
        contract_path.write_text(contract_text())
        contract, task = load_contract(contract_path), make_task(str(contract_path))
        for seed in range(seeds):
            missing = [arm for arm in ARMS if not any((line.seed, line.arm) == (seed, arm) for line in have)]
            of_seed = config.model_copy(update={"seed": seed})
            begin = start(seed, task, contract, of_seed, settings) if missing else None
            for arm in missing:
                assert begin is not None
                kept = Path(folder) / f"{arm}-{seed}"
                line = one_arm(arm, seed, begin, task, contract, of_seed, settings, kept)
                append_line(path, asdict(line))
                have.append(line)
                print(
                    f"seed {seed}, {arm}: {line.before} -> {line.after} of {line.evaluations}, "
                    f"{line.takeovers} takeovers, {line.human_steps} steps of help",
                    flush=True,
                )
    return have


def paired(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float]:
    """Mean of a - b and its 95 % interval, by Student's t over seeds; NaN for fewer than two."""
    from scipy import stats

    off = np.subtract(a, b)
    if len(off) < 2:
        return float(off.mean()), math.nan, math.nan
    bounds = stats.ttest_1samp(off, 0.0).confidence_interval(0.95)
    return float(off.mean()), float(bounds.low), float(bounds.high)


def page(lines: Sequence[Line]) -> str:
    """The results as Markdown."""
    by = {arm: {line.seed: line for line in lines if line.arm == arm} for arm in ARMS}
    seeds = sorted(set.intersection(*(set(found) for found in by.values())))
    if not seeds:
        raise ConfigError("no seed has all arms yet")
    s = lines[0].settings
    rows = []
    for arm, found in by.items():
        runs = [found[seed] for seed in seeds]
        won, tried = sum(r.after for r in runs), sum(r.evaluations for r in runs)
        rate = success_rate(won, tried)
        each = ", ".join(f"{r.before} → {r.after}" for r in runs)
        help_steps = sum(r.human_steps for r in runs) / len(runs)
        takeovers = sum(r.takeovers for r in runs) / len(runs)
        succeeded = (
            "–" if arm == "none" else f"{100 * sum(r.successes for r in runs) / (len(runs) * s['attempts']):.0f} %"
        )
        rows.append(
            f"| {arm} | {100 * rate.rate:.0f} [{100 * rate.low:.0f}, {100 * rate.high:.0f}] | {takeovers:.1f} | "
            f"{help_steps:.0f} | {succeeded} | {each} |"
        )

    def difference(a: str, b: str) -> str:
        found = [[100 * by[arm][seed].after / by[arm][seed].evaluations for seed in seeds] for arm in (a, b)]
        mean, low, high = paired(*found)
        told = "cannot tell" if not (low > 0 or high < 0) else f"{a if mean > 0 else b} is better"
        return f"* {a} - {b}: {mean:+.1f} points [{low:+.1f}, {high:+.1f}]: {told}."

    origin = sorted({f"{line.machine['processor']}, {line.machine['cores']} cores" for line in lines})
    compared = "\n".join(difference(*pair) for pair in combinations(reversed(ARMS), 2))
    return PAGE.format(
        n=len(seeds), origin="; ".join(origin), rows="\n".join(rows), compared=compared, end=BEFORE_END_STEPS,
        reaction=REACTION_STEPS, length=LENGTH_STEPS, **s,
    )  # fmt: skip


def main(words: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="default: %(default)s")
    parser.add_argument("--demos", type=int, default=12, help="default: %(default)s")
    parser.add_argument("--attempts", type=int, default=20, help="of an arm (default: %(default)s)")
    parser.add_argument("--updates", type=int, default=200, help="after each attempt (default: %(default)s)")
    parser.add_argument("--evaluations", type=int, default=100, help="before and after (default: %(default)s)")
    parser.add_argument("--failures-sought", type=int, default=60, help="attempts of the clone (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="default: %(default)s")
    o = parser.parse_args(words)
    settings = {name: getattr(o, name) for name in ("demos", "attempts", "updates", "evaluations", "failures_sought")}
    path = o.out / "induced_starts.jsonl"
    try:
        o.out.mkdir(parents=True, exist_ok=True)
        check_writable(path)
        lines = run(settings, o.seeds, path, load_config("hg_dagger"))
        write_atomically(o.out / "induced_starts.md", page(lines).encode())
    except InrilError as error:
        print(f"induced_starts: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    os.nice(5)
    sys.exit(main())
