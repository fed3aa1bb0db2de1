"""What an update of each preset costs, against what this machine's matrix products can do.

    python -m inril_core.bench.speed

Times are CPU seconds of one thread, so that other programs on the machine count little; all presets and the machine's
peak are measured in turns, round by round, and compared within a round. Writes ``docs/results/speed.md``.
"""

import argparse
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from inril_core.bench.speed_task import NoiseTask, filled_learner, refill
from inril_core.finetune import DEFAULT_PRESET
from inril_core.finetune.config import FineTuneConfig, load_config, preset_names
from inril_core.finetune.learner import Learner
from inril_core.networks.compute import use_one_thread

UPDATES = 20  # per round: two whole cycles of the slowest interleaving measured
PROJECTIONS: dict[str, dict[str, Any]] = {
    "rl_only": {"combine": {"method": "rl_only"}},
    "none": {"combine.rl_per_il": 10, "combine.projection.kind": "none"},
    "conflicting": {"combine.rl_per_il": 10, "combine.projection.kind": "conflicting"},
    "orthogonal": {"combine.rl_per_il": 10, "combine.projection.kind": "orthogonal"},
}


@dataclass
class Measured:
    """A preset: seconds of each round, and facts that do not vary."""

    learner: Learner
    flops: float = 0.0  # of matrix products, per update
    seconds: list[float] = field(default_factory=list)  # per update

    @property
    def replay_bytes(self) -> int:
        """Memory of replay and demonstrations, allocated at once."""
        found = self.learner.buffers.all()
        return sum(memory.capacity * memory.row_bytes for memory in found)


class Peak:
    """Matrix products as fast as this thread does them, FLOP/s.

    Args:
        shape: (E, B, H): E products of [B, H] and [H, H] in one call; E = 1: a plain product.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        e, b, h = shape
        self.flops = 2.0 * e * b * h * h
        self._repeat = max(1, round(2e9 / self.flops))
        self._left, self._right = torch.rand(e, b, h), torch.rand(e, h, h)
        self.rates: list[float] = []

    def round(self) -> None:
        """One more measurement."""
        seconds = timed(lambda: [torch.bmm(self._left, self._right) for _ in range(self._repeat)])
        self.rates.append(self.flops * self._repeat / seconds)


def timed(work: Callable[[], Any]) -> float:
    """CPU seconds of this thread."""
    began = time.thread_time()
    work()
    return time.thread_time() - began


def train(learner: Learner, updates: int) -> float:
    """CPU seconds per update; what an on-policy method needs to go on is collected outside the time."""
    total = 0.0
    for _ in range(updates):
        if learner.updates >= learner.updates_due:
            learner.published(learner.updates)
            refill(learner, NoiseTask())
        total += timed(learner.train_step)
    return total / updates


def prepare(config: FineTuneConfig, folder: Path) -> Measured:
    """A learner that is warm, and the matrix FLOPs of its updates."""
    if "kl_stop" in type(config.rl).model_fields:  # a policy that learns noise would be stopped, and be cheap
        config = config.changed(**{"rl.kl_stop": None})
    measured = Measured(filled_learner(config, folder))
    train(measured.learner, UPDATES)
    try:
        with FlopCounterMode(display=False) as counter:
            train(measured.learner, UPDATES)
        measured.flops = counter.get_total_flops() / UPDATES
    except RuntimeError:  # torch's counter cannot follow a gradient of a gradient, as in CSIL's penalty
        measured.flops = float("nan")
    return measured


def median(values: list[float]) -> tuple[float, float, float]:
    """Median and its 95 % bootstrap interval."""
    rng = np.random.default_rng(0)
    draws = np.median(rng.choice(values, (2000, len(values))), axis=1)
    return float(np.median(values)), float(np.quantile(draws, 0.025)), float(np.quantile(draws, 0.975))


def measure(
    configs: Mapping[str, Callable[[], FineTuneConfig]], rounds: int, folder: Path
) -> tuple[dict[str, Measured], dict[str, str], list[Peak]]:
    """Every config in turns with the peaks; what failed is named with its reason."""
    done: dict[str, Measured] = {}
    failed: dict[str, str] = {}
    for name, config in configs.items():
        try:
            done[name] = prepare(config(), folder / name)
        except Exception as error:  # noqa: BLE001 - one preset that fails is part of the report
            failed[name] = f"{type(error).__name__}: {error}".split("\n")[0][:200]
    peaks = [Peak((1, 512, 512)), Peak((4, 128, 128))]
    for _ in range(rounds):
        for peak in peaks:
            peak.round()
        for one in done.values():
            one.seconds.append(train(one.learner, UPDATES))
    return done, failed, peaks


def ratio(over: Measured, under: Measured) -> tuple[float, float, float]:
    """Time of one over the other's, paired by round: median and interval."""
    return median([a / b for a, b in zip(over.seconds, under.seconds, strict=True)])


def report(
    presets: tuple[dict[str, Measured], dict[str, str], list[Peak]],
    projections: dict[str, Measured],
    compiling: dict[str, Measured],
    rounds: int,
) -> str:
    """The page; ``compiling`` may be empty."""
    done, failed, peaks = presets
    (large, *_), (same, *_) = (median(peak.rates) for peak in peaks)
    load = os.getloadavg()[0]
    command = shlex.join(["python", "-m", "inril_core.bench.speed", *sys.argv[1:]])
    lines = [
        "# Speed of the learner\n",
        f"`{command}`, {rounds} rounds of {UPDATES} updates, all presets in turns; torch "
        f"{torch.__version__}, one thread, {processor()}, load average {load:.1f} on {os.cpu_count()} cores while it "
        "ran. Times are CPU time of the thread, yet neighbours take caches and memory bandwidth: trust the ratios "
        "more than the absolute numbers. Sizes are those of `insert_leg` (27 observed numbers, 6 actions). No GPU was "
        "used.\n",
        f"Peak of this machine in the same rounds: {large / 1e9:.0f} GFLOP/s (512 x 512 x 512), {same / 1e9:.0f} "
        "GFLOP/s (4 products of 128 x 128 x 128 in one call). The share of the peak is of the first; only the FLOPs of "
        "matrix products count, forward and backward (`torch.utils.flop_counter`).\n",
        "| preset | updates/s | 95 % interval | MFLOP/update | share of peak | replay memory, MB |",
        "|---|---|---|---|---|---|",
    ]
    for name in sorted({*done, *failed}):
        if name in failed:
            lines.append(f"| `{name}` | failed: {failed[name]} | | | | |")
            continue
        one = done[name]
        seconds, low, high = median(one.seconds)
        share, *_ = median([one.flops / s / p for s, p in zip(one.seconds, peaks[0].rates, strict=True)])
        flops = f"{one.flops / 1e6:.1f} | {share:.0%}" if one.flops == one.flops else "not counted |"
        lines.append(
            f"| `{name}` | {1 / seconds:.0f} | {1 / high:.0f} to {1 / low:.0f} | {flops} | "
            f"{one.replay_bytes / 1e6:.0f} |"
        )
    lines += [
        "\nAn update is a critic step and an actor step (RLPD), or one minibatch (PPO); of `il_only` an imitation "
        "step. Replay memory is that of the full capacity, allocated at the start.\n",
        "## What the projection costs\n",
        "Preset `interleave` with m = 10 RL updates per imitation step, time per update over another's, paired by "
        "round:\n",
        "| | ratio | 95 % interval |",
        "|---|---|---|",
    ]
    for over, under, what in (
        ("none", "rl_only", "the imitation step itself, no projection, over RL alone"),
        ("conflicting", "none", "projection `conflicting` over none"),
        ("orthogonal", "none", "projection `orthogonal` over none"),
        ("conflicting", "rl_only", "imitation with a projection over RL alone"),
    ):
        middle, low, high = ratio(projections[over], projections[under])
        lines.append(f"| {what} | {middle:.3f} | {low:.3f} to {high:.3f} |")
    if compiling:
        middle, low, high = ratio(compiling["compiled"], compiling["eager"])
        lines += [
            "\n## What torch.compile gains\n",
            f"Preset `{DEFAULT_PRESET}`, time per update with `compute.compile: true` over `false`, after compiling, "
            f"paired by round: {middle:.3f} ({low:.3f} to {high:.3f}).",
        ]
    return "\n".join(lines) + "\n"


def processor() -> str:
    """Name of the processor."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        names = [line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")]
        return names[0] if names else platform.machine()
    except OSError:
        return platform.processor() or platform.machine()


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m inril_core.bench.speed", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--presets", default=",".join(preset_names()), help="with commas (default: all)")
    parser.add_argument("--rounds", type=int, default=15, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("docs/results/speed.md"), help="default: %(default)s")
    parser.add_argument("--compile", action="store_true", help="also measure torch.compile, which needs a C++ compiler")
    options = parser.parse_args()
    use_one_thread()
    base = load_config("interleave")
    with TemporaryDirectory() as folder:
        configs = {name: partial(load_config, name) for name in options.presets.split(",")}
        presets = measure(configs, options.rounds, Path(folder) / "presets")
        variants = {name: partial(base.changed, **changes) for name, changes in PROJECTIONS.items()}
        projections, failed, _ = measure(variants, 2 * options.rounds, Path(folder) / "projections")
        default = load_config(DEFAULT_PRESET)
        modes = {"eager": False, "compiled": True} if options.compile else {}
        variants = {name: partial(default.changed, **{"compute.compile": on}) for name, on in modes.items()}
        compiling, not_compiled, _ = measure(variants, options.rounds, Path(folder) / "compile")
    if failed or not_compiled:
        raise SystemExit(f"could not be measured: {failed | not_compiled}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    text = report(presets, projections, compiling, options.rounds)
    options.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
