"""Whether the simulated cell's physics gives what finer and slower physics gives, and how much faster it is.

python -m inril_core.bench.cell_physics [--contract NAME] [--starts N] [--clone PRESET] [--json PATH]

The reference starts its solver from the last step's answer, solves to 1e-8, and has islands and a peg of 48 sides. Both
run the same starts, turn by turn; times are CPU time.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import mujoco
import numpy as np

from inril_core.contract import Contract, load_contract
from inril_core.errors import ConfigError, InrilError
from inril_core.evaluation.intervals import success_rate
from inril_core.evaluation.statistics.comparison import Pairs, compare_paired
from inril_core.experts.scripted.base import scripted_expert
from inril_core.files import check_writable, write_atomically
from inril_core.finetune.config import load_config
from inril_core.finetune.local import collect_demos, policy_actor
from inril_core.finetune.pretrain import pretrain
from inril_core.session.plan import episode_seed
from inril_core.sim import cell as product
from inril_core.sim import square_table
from inril_core.sim.scenes import insert_leg
from inril_core.sim.scenes.base import TIMESTEP_S
from inril_core.tasks.families.cell import CellEnv

FIRST_SEED = 40_000
DEMOS_N = 30
FINE_S = 0.001  # physics step

Act = Callable[[np.ndarray, int], np.ndarray]
"""Action from (observation, step)."""


def reference_env(contract: Contract, timestep_s: float = TIMESTEP_S) -> CellEnv:
    """The task in the reference's physics."""
    with patch.object(insert_leg, "PEG_SIDES", square_table.PEG_SIDES), patch.object(product, "TIMESTEP_S", timestep_s):
        env = CellEnv(contract)
    options = env.cell.model.opt
    options.disableflags &= ~int(mujoco.mjtDisableBit.mjDSBL_WARMSTART | mujoco.mjtDisableBit.mjDSBL_ISLAND)
    options.tolerance = 1e-8
    return env


class Run:
    """Episodes of one physics, and what was measured in them.

    Attributes:
        successes: of each start.
        depths_um: penetration of each contact after each control step, by what touches: ``pads`` or ``peg``.
        force_n: sum of the normal forces on the peg after each control step that has one.
    """

    def __init__(self, env: CellEnv) -> None:
        self.env = env
        self.successes: list[bool] = []
        self.depths_um: dict[str, list[float]] = {"pads": [], "peg": []}
        self.force_n: list[float] = []
        self._names = [env.cell.model.geom(i).name for i in range(env.cell.model.ngeom)]
        self._cpu_s, self._steps = 0.0, 0

    def episode(self, seed: int, act: Act) -> None:
        """One more start."""
        observation, done, step = self.env.reset(seed, "eval"), False, 0
        while not done:
            action = act(observation, step)
            begin = time.process_time()
            observation, outcome = self.env.step(action)
            self._cpu_s += time.process_time() - begin
            self._steps += 1
            step, done = step + 1, outcome.terminated or outcome.truncated
            self._look()
        self.successes.append(outcome.success)

    def cpu_s_per_step(self) -> float:
        """Of a control step since this was last asked."""
        taken, self._cpu_s, self._steps = self._cpu_s / max(self._steps, 1), 0.0, 0
        return taken

    def peg_touches(self) -> bool:
        """Whether anything touches the peg now."""
        pairs = self.env.cell._data.contact.geom
        return any(self._names[geom] == "leg_peg" for geom in pairs.ravel())

    def _look(self) -> None:
        model, data = self.env.cell.model, self.env.cell._data
        force, on_peg_n = np.zeros(6), 0.0
        for i, (pair, distance_m) in enumerate(zip(data.contact.geom, data.contact.dist, strict=True)):
            names = {self._names[geom] for geom in pair}
            if "leg_peg" in names:
                self.depths_um["peg"].append(-1e6 * distance_m)
                mujoco.mj_contactForce(model, data, i, force)
                on_peg_n += force[0]
            elif names & {"finger1_pad", "finger2_pad"}:
                self.depths_um["pads"].append(-1e6 * distance_m)
        if on_peg_n:
            self.force_n.append(on_peg_n)


def compared(now: Run, reference: Run) -> dict[str, Any]:
    """Success rates with their 95 % Wilson intervals, and the difference on the same starts with Tango's."""
    pairs = list(zip(now.successes, reference.successes, strict=True))
    wins, losses = sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)
    difference = compare_paired(Pairs(wins, losses, len(pairs) - wins - losses))
    found: dict[str, Any] = {}
    for name, run in (("reference", reference), ("now", now)):
        rate = success_rate(sum(run.successes), len(pairs))
        found[name] = [rate.successes, rate.episodes, round(rate.low, 3), round(rate.high, 3)]
    interval = difference.interval
    found["difference"] = [round(x, 3) for x in (difference.difference, interval.low, interval.high)]
    found["differing_starts"] = [wins, losses]
    return found


def spread(values: Sequence[float]) -> list[float] | None:
    """Median, 99th and 99.9th percentile, and maximum."""
    return [round(float(x), 3) for x in np.percentile(values, (50, 99, 99.9, 100))] if len(values) else None


def run_both(runs: dict[str, Run], seeds: Sequence[int], actor: Callable[[int], Act]) -> list[float]:
    """The same starts in both, in blocks of ten turn by turn; CPU time per control step, reference over now, by block.

    actor: of the episode with a seed.
    """
    ratios = []
    for block in range(0, len(seeds), 10):
        cpu_s = {}
        for name, run in runs.items():
            for seed in seeds[block : block + 10]:
                run.episode(seed, actor(seed))
            cpu_s[name] = run.cpu_s_per_step()
        ratios.append(cpu_s["reference"] / cpu_s["now"])
    return ratios


def experts(contract: Contract, starts: int, noise: float) -> dict[str, Any]:
    """The scripted expert in both."""
    runs = {"reference": Run(reference_env(contract)), "now": Run(CellEnv(contract))}
    expert = scripted_expert(contract).worse(noise, 0.0, 0.0)

    def actor(seed: int) -> Act:
        expert.reset(seed)
        return lambda observation, _: expert.act(observation)

    ratios = run_both(runs, range(FIRST_SEED, FIRST_SEED + starts), actor)
    found: dict[str, Any] = {
        "success": compared(runs["now"], runs["reference"]),
        "speed_ratio": round(float(np.median(ratios)), 3),
    }
    for name, run in runs.items():
        depths_um = {f"{part}_depth_um": spread(depths) for part, depths in run.depths_um.items()}
        found[name] = {**depths_um, "peg_force_n": spread(run.force_n)}
    return found


def tracking(contract: Contract, starts: int) -> dict[str, Any]:
    """How far the tool is from where the reference with steps of 1 ms has it after the same actions, mm.

    The actions are those of the expert with noise 0.1, until a peg touches or the episode ends.
    """
    runs = {"fine": Run(reference_env(contract, FINE_S)), "reference": Run(reference_env(contract))}
    runs["now"] = Run(CellEnv(contract))
    expert = scripted_expert(contract).worse(0.1, 0.0, 0.0)
    off_mm: dict[str, list[float]] = {name: [] for name in runs}
    for seed in range(FIRST_SEED, FIRST_SEED + starts):
        observation = [run.env.reset(seed, "eval") for run in runs.values()][0]
        expert.reset(seed)
        done = False
        while not done:
            action = expert.act(observation)
            after = [run.env.step(action) for run in runs.values()]
            observation = after[0][0]
            done = any(outcome.terminated or outcome.truncated for _, outcome in after)
            done = done or any(run.peg_touches() for run in runs.values())
            tools = {name: run.env.state.tool_pose[:3] for name, run in runs.items()}
            for name, tool in tools.items():
                off_mm[name].append(1e3 * float(np.linalg.norm(tool - tools["fine"])))
    return {f"{name}_off_mm": spread(off_mm[name]) for name in ("reference", "now")}


def clones(contract: Contract, preset: str, starts: int) -> dict[str, Any]:
    """A policy cloned from demonstrations in each physics, tried in both."""
    config, found = load_config(preset), {}
    for origin, make in (("reference", reference_env), ("now", CellEnv)):
        env = make(contract)
        demos = collect_demos(env, env.expert(), [episode_seed("demo", i, 0) for i in range(DEMOS_N)])
        policy = pretrain(config, contract, demos)
        runs = {"reference": Run(reference_env(contract)), "now": Run(CellEnv(contract))}

        def actor(seed: int, policy: Any = policy) -> Act:
            act = policy_actor(policy, seed, False)
            return lambda observation, step: act(observation, step).action

        run_both(runs, range(FIRST_SEED, FIRST_SEED + starts), actor)
        found[f"cloned_in_{origin}"] = compared(runs["now"], runs["reference"])
    return found


@contextmanager
def _errors_told() -> Iterator[None]:
    try:
        yield
    except InrilError as error:
        print(error, file=sys.stderr)
        sys.exit(1)


def main() -> int:
    """Entry point. Exit code 1 where an argument is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m inril_core.bench.cell_physics", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--contract", default="insert_leg", help="packaged task name or path of a contract YAML")
    parser.add_argument("--starts", type=int, default=200, help="of each comparison")
    parser.add_argument("--noise", type=float, nargs="*", default=[0.0, 0.2], help="the expert's")
    parser.add_argument("--clone", metavar="PRESET", help="also compare policies cloned as this preset does")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    with _errors_told():
        if options.starts < 1:
            raise ConfigError("--starts must be at least 1")
        if options.json is not None:
            check_writable(options.json, "--json")
        contract = load_contract(options.contract)
        figures: dict[str, Any] = {}
        for noise in options.noise:
            figures[f"expert_noise_{noise:g}"] = experts(contract, options.starts, noise)
        figures["tracking"] = tracking(contract, min(options.starts, 20))
        if options.clone:
            figures["clones"] = clones(contract, options.clone, options.starts)
    print(json.dumps(figures, indent=1))
    if options.json is not None:
        write_atomically(options.json, json.dumps(figures, indent=1).encode() + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
