"""Table and learning curves of a method comparison."""

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from inril_core.evaluation.intervals import success_rate

Line = dict[str, Any]
TITLES = {
    "interleave": "interleave (IN-RIL's idea on RLPD)",
    "weighted_sum": "weighted sum (RL + IL loss in one step)",
    "rl_only": "RL only",
    "il_only": "IL only",
}
_SMOOTHING_STEPS = 500


def machine() -> dict[str, Any]:
    """What the numbers were made on."""
    processor = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                processor = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    packages = {name: version(name) for name in ("torch", "numpy", "mujoco")}
    return {"processor": processor, "cores": os.cpu_count(), "python": platform.python_version(), **packages}


def lowest(line: Line) -> float:
    """Lowest success rate on the learning curve after the first update, in [0, 1]."""
    return min(wins / episodes for step, wins, episodes in line["curve"][1:])


def dip(line: Line) -> float:
    """How far the curve falls below where it began (the cloned policy on the same starts); 0: never below."""
    _, wins, episodes = line["curve"][0]
    return max(0.0, wins / episodes - lowest(line))


def failures(line: Line) -> int:
    """Training episodes after the warm-up that did not succeed: what a person at the robot would see."""
    return sum(1 for step, success in line["train"] if step > line["warmup_steps"] and not success)


def training_curve(line: Line, at_steps: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Success rate of the training episodes that ended within +-500 steps of each of ``at_steps``."""
    steps, wins = np.array(line["train"], np.float64).T
    near = np.abs(steps[None, :] - at_steps[:, None]) <= _SMOOTHING_STEPS
    counts = near.sum(1)
    rates = (near * wins).sum(1) / np.maximum(counts, 1)
    return np.where(counts > 0, rates, np.nan)


def write_report(lines: Sequence[Line], methods: Sequence[str], folder: Path, stem: str, command: str) -> None:
    """Write ``stem.md`` and ``stem.png`` into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    _plot(lines, methods, folder / f"{stem}.png")
    (folder / f"{stem}.md").write_text(_markdown(lines, methods, stem, command), encoding="utf-8")


def _of(lines: Sequence[Line], method: str) -> list[Line]:
    return [line for line in lines if line["method"] == method]


def _percent(successes: int, episodes: int) -> str:
    rate = success_rate(successes, episodes)
    return f"{100 * rate.rate:.1f} % [{100 * rate.low:.1f}, {100 * rate.high:.1f}]"


def _markdown(lines: Sequence[Line], methods: Sequence[str], stem: str, command: str) -> str:
    first = lines[0]
    seeds = sorted({line["seed"] for line in lines})
    host = first["machine"]
    text = [
        f"# {stem.removesuffix('_methods')}: ways to combine imitation and reinforcement",
        "",
        f"From the same {first['demos']} demonstrations and the same cloned policy per seed, with "
        f"{first['budget_steps']} environment steps and {first['utd']:g} RL updates per step after "
        f"{first['warmup_steps']} steps of warm-up. Each of the {len(seeds)} seeds draws its own demonstrations, "
        f"network and training starts. Before and after: {first['eval_episodes']} evaluation episodes per seed, acting "
        "by the mode, on starts that no setting was chosen on; 95 % Wilson intervals over the episodes of all seeds. "
        "The weights are the last ones, none are selected.",
        "",
        "`interleave` is IN-RIL's idea (arXiv 2505.10442) on an off-policy algorithm: our extension, re-implemented "
        "from the paper's description. All methods share the same RL part, its pull towards replayed actions "
        "(TD3+BC) included: `rl_only` is not plain RLPD.",
        "",
        "| method | cloned | fine-tuned | per seed | lowest on the curve | dip | failed training episodes | wall, s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for method in methods:
        runs = _of(lines, method)
        episodes = sum(run["eval_episodes"] for run in runs)
        per_seed = ", ".join(f"{run['bc_successes']} → {run['final_successes']}" for run in runs)
        text.append(
            f"| {TITLES.get(method, method)} | {_percent(sum(r['bc_successes'] for r in runs), episodes)} "
            f"| {_percent(sum(r['final_successes'] for r in runs), episodes)} | {per_seed} "
            f"| {_listed([100 * lowest(r) for r in runs])} | {_listed([100 * dip(r) for r in runs])} "
            f"| {_listed([failures(r) for r in runs])} | {_listed([r['wall_s'] for r in runs])} |"
        )
    text += [
        "",
        f"Per seed: successes of {first['eval_episodes']}, before → after. Lowest and dip: percentage points on the "
        f"learning curve ({first['curve'][0][2]} episodes per point), after the first update; a dip of 0 never fell "
        "below the cloned policy. Failed training episodes: after the warm-up, with exploration.",
        "",
        f"![learning curves]({stem}.png)",
        "",
        f"Made by `{command}` on {host['processor']} ({host['cores']} cores, one thread used), "
        f"Python {host['python']}, torch {host['torch']}, numpy {host['numpy']}, MuJoCo {host['mujoco']}. "
        f"Raw lines: `{stem}.jsonl`.",
        "",
    ]
    return "\n".join(text)


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.0f}" for value in values)


def _plot(lines: Sequence[Line], methods: Sequence[str], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4), sharey=True)
    at = np.linspace(0, max(line["env_steps"] for line in lines), 60)
    for number, method in enumerate(methods):
        runs, colour = _of(lines, method), f"C{number}"
        curves = [np.array(run["curve"], np.float64) for run in runs]
        for curve in curves:
            axes[0].plot(curve[:, 0], 100 * curve[:, 1] / curve[:, 2], color=colour, alpha=0.25, lw=1)
        points = min(len(curve) for curve in curves)
        steps = np.mean([curve[:points, 0] for curve in curves], 0)
        mean = np.mean([100 * curve[:points, 1] / curve[:points, 2] for curve in curves], 0)
        axes[0].plot(steps, mean, color=colour, lw=2, label=TITLES.get(method, method))
        trained = np.array([100 * training_curve(run, at) for run in runs])
        filled = ~np.isnan(trained).all(0)
        axes[1].plot(at[filled], np.nanmean(trained[:, filled], 0), color=colour, lw=2)
    axes[0].axvline(lines[0]["warmup_steps"], color="grey", lw=1, ls=":")
    axes[1].axvline(lines[0]["warmup_steps"], color="grey", lw=1, ls=":")
    axes[0].set(xlabel="environment steps", ylabel="success, %", ylim=(-2, 102))
    axes[0].set_title("evaluation (mode); thin: one seed")
    axes[1].set(xlabel="environment steps", title="training episodes (with exploration), mean of seeds")
    axes[0].legend(loc="lower right", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
