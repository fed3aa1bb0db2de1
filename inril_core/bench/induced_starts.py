"""Corrections from starts at which the policy fails, against as many ordinary attempts.

A person may drive the arm into a failure and hand it back (`drive_in:=true`), or wait for failures to come. All arms
here get as many attempts and as many updates of HG-DAgger:

* ``induced``: before each attempt the helper drives the arm to where the clone was about to fail, and hands it over;
* ``ordinary``: attempts from the task's own starts;
* ``none``: the same attempts without a helper, so the same updates on the demonstrations alone.

The helper watches, takes over as a person does (`inril_core.experts.watcher`), two steps later than it saw, and
drives to the end as the task's expert at half its speed. What was driven in is not learned.

    python -m inril_core.bench.induced_starts --seeds 10 --out docs/results

Resumable: a line per seed and arm; the same command adds what is missing.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from inril_core.bench.origin import code_version, machine
from inril_core.contract import Contract, load_contract
from inril_core.data.episode import SOURCE_HUMAN, Episode
from inril_core.errors import ConfigError, InrilError
from inril_core.evaluation.intervals import success_rate
from inril_core.experts.scripted.base import scripted_expert
from inril_core.experts.scripted.insert_leg import HOVER_M, TOOL_TO_TIP_M, InsertLegExpert
from inril_core.experts.watcher import Watcher
from inril_core.files import append_line, check_writable, read_sound_lines, write_atomically
from inril_core.finetune.config import FineTuneConfig, load_config
from inril_core.finetune.learner import Learner
from inril_core.finetune.local import collect_demos, evaluate, policy_actor, run_episode
from inril_core.finetune.memory.transitions import imitated_steps
from inril_core.finetune.pretrain import pretrain
from inril_core.networks.compute import use_one_thread
from inril_core.policies import Policy
from inril_core.tasks.base import Task
from inril_core.tasks.registry import make_task
from inril_core.transforms import cross
from inril_core.vocabulary import Mark

ARMS = ("none", "ordinary", "induced")
LENGTH_STEPS = 160
"""Of an attempt: the way into the failure takes some of it."""
BEFORE_END_STEPS = 15
"""The clone was about to fail that long before the end of a failed attempt."""
DRIVE_STEPS = 50
"""At most, into a failure."""
REACTION_STEPS = 2
SPEED = 0.5
"""Of the expert's motion: at its whole speed and so late, what the helper does swings past the hole."""
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

The helper watches, takes over where nothing gets better or the leg is turned before it sits, {reaction} steps after it
saw that, and drives to the end as the task's expert at half its speed. An attempt may take {length} steps.

| arm | success after, % of {evaluations} a seed | takeovers | steps of help | attempts won | per seed, before → after |
| --- | --- | --- | --- | --- | --- |
{rows}

Differences in pairs of one seed, with Student's t at 95 %. The bounds of single arms are Wilson's, over all trials as
if of one policy.

{compared}
"""


class DrivesIn(InsertLegExpert):
    """Brings leg and tool to where they were at an observation, over the rim and then down."""

    def __init__(self, contract: Contract, to: np.ndarray) -> None:
        super().__init__(contract)
        self._to = self._where(to)

    def _where(self, observation: np.ndarray) -> tuple[np.ndarray, tuple[float, float, float], float]:
        rot6d = observation[self._rotation].tolist()
        return observation[self._tip], cross(rot6d[:3], rot6d[3:]), math.atan2(*observation[self._turn])

    def wanted(self, observation: np.ndarray) -> np.ndarray:
        """See `InsertLegExpert.wanted`."""
        (tip, up, heading_rad), (tip_to, up_to, heading_to_rad) = self._where(observation), self._to
        move = 0.6 * (tip_to - tip)
        if math.hypot(*move[:2]) > 0.002:
            move[2] = 0.6 * (max(HOVER_M, tip_to[2]) - tip[2])
        tilt = cross(up, up_to)
        turn = 0.6 * np.array([tilt[0], tilt[1], math.remainder(heading_to_rad - heading_rad, 2 * math.pi)])
        return np.concatenate([move - cross(turn.tolist(), [-TOOL_TO_TIP_M * part for part in up]), turn])

    def arrived(self, observation: np.ndarray) -> bool:
        """Within 3 mm and 0.1 rad."""
        (tip, up, heading_rad), (tip_to, up_to, heading_to_rad) = self._where(observation), self._to
        turned = abs(math.remainder(heading_to_rad - heading_rad, 2 * math.pi))
        return float(np.abs(tip_to - tip).max()) < 0.003 and math.dist(up, up_to) < 0.1 and turned < 0.1


class Helper:
    """Drives into a failure where there is one to drive to, hands back, watches, takes over, drives to the end.

    An `inril_core.experts.intervener.Intervener` to `policy_actor`.
    """

    def __init__(self, contract: Contract, into: np.ndarray | None) -> None:
        self._expert, self._watcher = scripted_expert(contract), Watcher(contract)
        self._driver = None if into is None else DrivesIn(contract, into)
        self._size = contract.action.size
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Begin an attempt."""
        self._expert.reset(seed)
        self._watcher.reset()
        self._step, self.drive_steps, self.took_over = 0, 0, False
        self._drives_in, self._helps = self._driver is not None, False
        self._asked_for: list[np.ndarray] = []

    @property
    def in_control(self) -> bool:
        """Whether the policy need not be asked."""
        return self._drives_in or self._helps

    def act(self, observation: np.ndarray, proposed: np.ndarray | None) -> np.ndarray | None:
        """The helper's action float[A], or None: the policy's is executed."""
        self._step += 1
        if self._drives_in:
            assert self._driver is not None
            self.drive_steps = self._step
            self._drives_in = not self._driver.arrived(observation) and self._step < DRIVE_STEPS
            return self._driver.act(observation)
        if not self._helps:
            if self.took_over or not self._watcher.would_take_over(observation, self._step):
                return None
            self._helps = self.took_over = True
            self._asked_for = [np.zeros(self._size, np.float32)] * REACTION_STEPS
        action = self._expert.act(observation)
        if self._watcher.calls_it_failed(observation, action):
            self._helps = False  # nothing more can be done
            return np.zeros(self._size, np.float32)
        self._asked_for.append(np.float32(SPEED) * action)
        return self._asked_for.pop(0)


def contract_text() -> str:
    """insert_leg with attempts long enough to be driven into a failure first."""
    shipped = yaml.safe_load((resources.files("inril_core.contract") / "tasks" / "insert_leg.yaml").read_text())
    return yaml.safe_dump(shipped | {"episode_length_steps": LENGTH_STEPS}, sort_keys=False)


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


def one_arm(
    arm: str, seed: int, task: Task, contract: Contract, config: FineTuneConfig, settings: dict[str, int], folder: Path
) -> Line:
    """Clone, help, measure."""
    seeds = [DEMO_SEED + SEEDS_EACH * seed + i for i in range(settings["demos"])]
    demos = collect_demos(task, task.expert(), seeds)
    policy = pretrain(config, task.interface, demos)
    evaluations = range(EVALUATION_SEED, EVALUATION_SEED + settings["evaluations"])
    before = sum(evaluate(task, policy, evaluations))
    known = []
    if arm == "induced":
        first = FAILURE_SEED + SEEDS_EACH * seed
        known = failures(task, policy, range(first, first + settings["failures_sought"]))
        if not known:
            raise ConfigError(f"seed {seed}: the clone never failed in {settings['failures_sought']} attempts")
    learner = Learner(config, task.interface, policy, demos, folder)
    line = Line(
        seed=seed, arm=arm, settings=settings, before=before, after=0, evaluations=len(evaluations), successes=0,
        takeovers=0, human_steps=0, steps=0, failures_known=len(known), code=code_version(), machine=machine(),
    )  # fmt: skip
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
    line.after = sum(evaluate(task, policy, evaluations))
    return line


def run(settings: dict[str, int], seeds: int, path: Path, config: FineTuneConfig) -> list[Line]:
    """Run what is missing in ``path``; returns all lines of these settings."""
    use_one_thread()
    have = [line for line in read_sound_lines(path, Line).values if line.settings == settings] if path.exists() else []
    with tempfile.TemporaryDirectory(prefix="inril-induced-") as folder:
        contract_path = Path(folder) / "insert_leg_long.yaml"
        contract_path.write_text(contract_text())
        contract, task = load_contract(contract_path), make_task(str(contract_path))
        for seed in range(seeds):
            for arm in ARMS:
                if any((line.seed, line.arm) == (seed, arm) for line in have):
                    continue
                of_seed = config.model_copy(update={"seed": seed})
                line = one_arm(arm, seed, task, contract, of_seed, settings, Path(folder) / f"{arm}-{seed}")
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
    half = float(stats.t.ppf(0.975, len(off) - 1) * off.std(ddof=1) / math.sqrt(len(off)))
    return float(off.mean()), float(off.mean()) - half, float(off.mean()) + half


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
