"""What an update of each preset costs, against what this machine's matrix products can do.

    python -m inril_core.bench.speed [--device cuda]

Times are CPU seconds of one thread, so that other programs on the machine count little; those of several threads are
wall seconds, and so are those on a GPU, until it has finished. All presets and the machine's peak are measured in
turns, round by round, and compared within a round. Writes ``docs/results/speed.md``.
"""

import argparse
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from inril_core.bench import speed_threads
from inril_core.bench.rounds import median
from inril_core.bench.speed_task import NoiseTask, filled_learner, refill
from inril_core.errors import ConfigError
from inril_core.files import ResultFile, check_writable
from inril_core.finetune import DEFAULT_PRESET
from inril_core.finetune.config import FineTuneConfig, load_config, preset_names
from inril_core.finetune.learner import Learner
from inril_core.networks.compute import use_one_thread
from inril_core.networks.direct import plain

UPDATES = 20  # per round: two whole cycles of the slowest interleaving measured
AIM = 0.6  # share of the peak that an update should reach
CHEAP = {"kl_stop": None, "sarsa_updates": 10}  # a policy that learns noise would be stopped, and be cheap
ON_GPU = "weighted_sum,interleave,csil,idql_interleave,dppo_interleave"  # by default: one of each family
WRITTEN_OUT = ("weighted_sum", "interleave")
_PRODUCTS = {getattr(torch.ops.aten, name).default for name in ("mm", "addmm", "bmm", "baddbmm")}
TORCH, TWIN = ", torch", ", twin"  # end the name of one without C++ kernels, and of one through the readable twins
PROJECTIONS: dict[str, dict[str, Any]] = {
    "rl_only": {"combine": {"method": "rl_only"}},
    "none": {"combine.rl_per_il": 10, "combine.projection.kind": "none"},
    "conflicting": {"combine.rl_per_il": 10, "combine.projection.kind": "conflicting"},
    "orthogonal": {"combine.rl_per_il": 10, "combine.projection.kind": "orthogonal"},
}


@dataclass
class Measured:
    """A preset: what was measured in each round, and facts that do not vary."""

    learner: Learner
    products: "Products"
    """Of ``updates`` updates without C++ kernels."""
    updates: int
    seconds: list[float] = field(default_factory=list)
    """Per update, one number a round."""
    alone: list[float] = field(default_factory=list)
    """Seconds that torch takes for the matrix products of an update alone, each at its own shape."""

    @property
    def flops(self) -> float:
        """Of matrix products, per update."""
        return self.products.flops / self.updates

    @property
    def replay_bytes(self) -> int:
        """Memory of replay and demonstrations, allocated at once."""
        found = self.learner.buffers.all()
        return sum(memory.capacity * memory.row_bytes for memory in found)


class Products(TorchDispatchMode):
    """Takes down the matrix products done inside, to do them again with nothing around them."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0.0
        self._made: list[tuple[Any, Tensor, Tensor]] = []
        self._known: dict[Any, tuple[Any, Tensor, Tensor]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """See `TorchDispatchMode`."""
        if func in _PRODUCTS:
            self._take(func, *args[-2:])
        return func(*args, **(kwargs or {}))

    def _take(self, func: Any, left: Tensor, right: Tensor) -> None:
        key = (left.shape, left.stride(), right.shape, right.stride())
        if key not in self._known:
            like = [torch.empty_strided(t.shape, t.stride(), device=t.device).fill_(0.5) for t in (left, right)]
            self._known[key] = (torch.mm if left.ndim == 2 else torch.bmm, like[0], like[1])
        self._made.append(self._known[key])
        self.flops += 2.0 * left.numel() * right.shape[-1]

    def again(self) -> None:
        """All of them once more, in their order."""
        for function, left, right in self._made:
            function(left, right)


class Peak:
    """Matrix products as fast as this thread does them, FLOP/s.

    Args:
        shape: (E, B, H): E products of [B, H] and [H, H] in one call; E = 1: a plain product.
    """

    def __init__(self, shape: tuple[int, int, int], device: str = "cpu") -> None:
        e, b, h = shape
        self._device = device
        self.flops = 2.0 * e * b * h * h
        self._repeat = max(1, round(2e9 / self.flops))
        self._left, self._right = torch.rand(e, b, h, device=device), torch.rand(e, h, h, device=device)
        self.rates: list[float] = []

    def round(self) -> None:
        """One more measurement."""
        seconds = timed(lambda: [torch.bmm(self._left, self._right) for _ in range(self._repeat)], self._device)
        self.rates.append(self.flops * self._repeat / seconds)


def timed(work: Callable[[], Any], device: str = "cpu") -> float:
    """CPU seconds of this thread; on a GPU wall seconds until it has finished."""
    if device == "cpu":
        began = time.thread_time()
        work()
        return time.thread_time() - began
    torch.cuda.synchronize()
    began = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - began


def _steps(learner: Learner, count: int) -> None:
    for _ in range(count):
        learner.train_step()


def train(learner: Learner, updates: int) -> float:
    """Seconds per update; what an on-policy method needs to go on is collected outside the time."""
    total, left = 0.0, updates
    while left:
        if learner.updates >= learner.updates_due:
            learner.published(learner.updates)
            refill(learner, NoiseTask())
        due = min(left, learner.updates_due - learner.updates)
        total += timed(partial(_steps, learner, due), learner.config.compute.device)
        left -= due
    return total / updates


def prepare(config: FineTuneConfig, folder: Path) -> Measured:
    """A learner that is warm, and the matrix products of its updates."""
    fields = type(config.rl).model_fields
    config = config.changed(**{f"rl.{name}": value for name, value in CHEAP.items() if name in fields})
    shown = filled_learner(config.changed(**{"compute.native": False, "compute.compile": False}), folder / "shown")
    shown.loop.begin()
    with Products() as products:
        train(shown, UPDATES)
    measured = Measured(filled_learner(config, folder / "measured"), products, UPDATES)
    train(measured.learner, UPDATES)  # compiled where asked for
    return measured


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
    device = next((one.learner.config.compute.device for one in done.values()), "cpu")
    peaks = [Peak((1, 512, 512), device), Peak((4, 128, 128), device)]
    for _ in range(rounds):
        for peak in peaks:
            peak.round()
        for name, one in done.items():
            with plain() if name.endswith(TWIN) else nullcontext():
                one.seconds.append(train(one.learner, UPDATES))
            one.alone.append(timed(one.products.again, device) / UPDATES)
    return done, failed, peaks


def ratio(over: Measured, under: Measured) -> tuple[float, float, float]:
    """Time of one over the other's, paired by round: median and interval."""
    return median([a / b for a, b in zip(over.seconds, under.seconds, strict=True)])


def shares(one: Measured, peak: Peak) -> tuple[str, str]:
    """Of the peak, and of the time that an update's matrix products alone take in the update's."""
    of_peak, *_ = median([one.flops / s / p for s, p in zip(one.seconds, peak.rates, strict=True)])
    of_time, *_ = median([alone / s for s, alone in zip(one.seconds, one.alone, strict=True)])
    return f"{of_peak:.0%}", f"{of_time:.0%}"


def below(done: Mapping[str, Measured], which: int, peak: Peak) -> str:
    """Names of the presets whose share (see `shares`) misses `AIM`."""
    missed = [f"`{n}`" for n, one in sorted(done.items()) if float(shares(one, peak)[which].rstrip("%")) < 100 * AIM]
    return ", ".join(missed) or "none"


def kernels(done: Mapping[str, Measured]) -> str:
    """Whether they were used."""
    adams = [adam for one in done.values() for adam in one.learner.parts.combine.adams.values()]
    return "used" if any(adam.kernels is not None for adam in adams) else "not used"


def report(
    presets: tuple[dict[str, Measured], dict[str, str], list[Peak]],
    projections: dict[str, Measured],
    compiling: dict[str, Measured],
    rounds: int,
    written_out: tuple[dict[str, Measured], list[Peak]],
    threads: speed_threads.Seconds,
) -> str:
    """The page; ``compiling`` may be empty.

    Args:
        written_out: presets, each also as `TORCH` and `TWIN`, and the peaks of the same rounds.
        threads: see `speed_threads.measure`.
    """
    done, failed, peaks = presets
    device = next((one.learner.config.compute.device for one in done.values()), "cpu")
    where = torch.cuda.get_device_name() if device == "cuda" else "no GPU was used"
    how = "wall time until the GPU has finished" if device == "cuda" else "CPU time of the thread"
    (large, *_), (same, *_) = (median(peak.rates) for peak in peaks)
    load = os.getloadavg()[0]
    command = shlex.join(["python", "-m", "inril_core.bench.speed", *sys.argv[1:]])
    lines = [
        "# Speed of the learner\n",
        f"`{command}`, {rounds} rounds of {UPDATES} updates, all presets in turns; torch "
        f"{torch.__version__}, one thread, {processor()}, load average {load:.1f} on {os.cpu_count()} cores while it "
        f"ran; device `{device}` ({where}). Times are {how}, yet neighbours take caches and memory bandwidth: "
        "trust the ratios more than the absolute numbers. Sizes are those of `insert_leg`.\n",
        f"C++ kernels (`compute.native`): {kernels(done)}.\n",
        f"Peak of this machine in the same rounds: {large / 1e9:.0f} GFLOP/s (512 x 512 x 512), {same / 1e9:.0f} "
        "GFLOP/s (4 products of 128 x 128 x 128 in one call). The share of the peak is of the first; only the FLOPs of "
        "matrix products count, forward and backward, as torch's kernels do them. An update's products alone are those "
        "products, each at its own shape and layout, done by torch in the same rounds with nothing around them.\n",
        "| preset | updates/s | 95 % interval | MFLOP/update | share of peak | products alone, share of the time "
        "| replay memory, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in sorted({*done, *failed}):
        if name in failed:
            lines.append(f"| `{name}` | failed: {failed[name]} | | | | | |")
            continue
        one = done[name]
        seconds, low, high = median(one.seconds)
        lines.append(
            f"| `{name}` | {1 / seconds:.0f} | {1 / high:.0f} to {1 / low:.0f} | {one.flops / 1e6:.1f} | "
            f"{' | '.join(shares(one, peaks[0]))} | {one.replay_bytes / 1e6:.0f} |"
        )
    lines += [
        f"\nBelow the aim of {AIM:.0%} of the peak: {below(done, 0, peaks[0])}. Of them below it also against the "
        f"products alone: {below(done, 1, peaks[0])}.",
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
    found, peaks = written_out
    lines += [
        "\n## What kernels and written-out gradients gain\n",
        "The same preset as it runs, with the gradients written out in torch (`compute.native: false`), and through "
        "the readable twins, whose gradients are autograd's. How many times as fast the first is, paired by round:\n",
        "| preset | way | updates/s | share of peak | products alone, share of the time | the first is faster by "
        "| 95 % interval |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in [name for name in found if not name.endswith((TORCH, TWIN))]:
        ways = {"as it runs": name, "written out in torch": name + TORCH, "readable twins": name + TWIN}
        for way, full in ways.items():
            one, (middle, low, high) = found[full], ratio(found[full], found[name])
            lines.append(
                f"| `{name}` | {way} | {1 / median(one.seconds)[0]:.0f} | {' | '.join(shares(one, peaks[0]))} | "
                f"{middle:.2f} | {low:.2f} to {high:.2f} |"
            )
    lines += speed_threads.section(threads)
    if compiling:
        middle, low, high = ratio(compiling["compiled"], compiling["eager"])
        lines += [
            "\n## What torch.compile gains\n",
            f"Preset `{DEFAULT_PRESET}`, both with `compute.native: false`: time per update with `compute.compile: "
            f"true` over `false`, after compiling, paired by round: {middle:.3f} ({low:.3f} to {high:.3f}).",
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
    parser.add_argument("--presets", help=f"with commas (default: all; on a GPU {ON_GPU})")
    parser.add_argument("--rounds", type=int, help="default: 15; on a GPU 5")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("docs/results/speed.md"), help="default: %(default)s")
    parser.add_argument("--compile", action="store_true", help="also measure torch.compile, which needs a C++ compiler")
    options = parser.parse_args()
    use_one_thread()
    try:
        check_writable(options.out)
    except ConfigError as error:
        raise SystemExit(str(error)) from error
    gpu = options.device == "cuda"
    options.rounds = options.rounds or (5 if gpu else 15)
    names = (options.presets or (ON_GPU if gpu else ",".join(preset_names()))).split(",")

    def load(name: str, native: bool = True) -> FineTuneConfig:
        return load_config(name).changed(**{"compute.device": options.device, "compute.native": native})

    base = load("interleave")
    with TemporaryDirectory() as folder:
        configs = {name: partial(load, name) for name in names}
        presets = measure(configs, options.rounds, Path(folder) / "presets")
        pairs = {name + way: partial(load, name, way != TORCH) for name in WRITTEN_OUT for way in ("", TORCH, TWIN)}
        pairs_done, pairs_failed, pairs_peaks = measure(pairs, options.rounds, Path(folder) / "pairs")
        variants = {name: partial(base.changed, **changes) for name, changes in PROJECTIONS.items()}
        projections, failed, _ = measure(variants, 2 * options.rounds, Path(folder) / "projections")
        default = load(DEFAULT_PRESET)
        modes = {"eager": False, "compiled": True} if options.compile else {}
        without = {"compute.native": False}  # torch.compile does not see into the C++ kernels
        variants = {name: partial(default.changed, **without, **{"compute.compile": on}) for name, on in modes.items()}
        compiling, not_compiled, _ = measure(variants, options.rounds, Path(folder) / "compile")
        threads = {} if gpu else speed_threads.measure(WRITTEN_OUT, options.rounds, Path(folder) / "threads")
    if failed or not_compiled or pairs_failed:
        raise SystemExit(f"could not be measured: {failed | not_compiled | pairs_failed}")
    text = report(presets, projections, compiling, options.rounds, (pairs_done, pairs_peaks), threads)
    print(text)
    with ResultFile(options.out) as file:
        file.write(text.encode())


if __name__ == "__main__":
    main()
