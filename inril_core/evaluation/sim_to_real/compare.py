"""Two evaluation sessions of the same policies, one in reality and one in simulation: does simulation say the same?"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from inril_core.errors import ConfigError
from inril_core.evaluation.plots import STYLE
from inril_core.evaluation.session.folder import SessionFolder
from inril_core.evaluation.session.outcomes import read_outcomes
from inril_core.evaluation.statistics.proportions import Interval, clopper_pearson
from inril_core.evaluation.statistics.sim_to_real import Agreement, Powered, agreement, prediction_powered
from inril_core.files import write_atomically

LEAST_PAIRED_N = 10
"""Below, no real rate is estimated with simulation's help."""

Condition = tuple[str, int]
"""Level and number of a start."""


@dataclass(frozen=True)
class PolicyAgreement:
    """One policy in reality and in simulation, on the starts that both ran."""

    name: str
    starts_n: int
    real: float
    """Success rate."""
    simulated: float
    real_interval: Interval
    """Clopper-Pearson, 95 %."""
    simulated_interval: Interval
    same_n: int
    """Starts with the same outcome (the majority over repetitions) in both."""
    only_real_n: int
    """Starts on which only the real one succeeded."""
    only_simulated_n: int
    powered: Powered | None
    """Real rate from all trials; None where no further simulated ones were given, or too few, or where all outcomes are
    the same: its interval would have no width."""


@dataclass(frozen=True)
class Comparison:
    """What simulation's word is worth."""

    policies: tuple[PolicyAgreement, ...]
    """The best in reality first."""
    agreement: Agreement
    ranked_alike: bool
    """No two policies are ordered one way in reality and the other way in simulation."""
    by_level: dict[str, tuple[int, int]]
    """Pairs (policy, start) with the same outcome in both, and all of them."""


def compare(real: SessionFolder, simulated: SessionFolder, more: SessionFolder | None = None) -> Comparison:
    """Compare sessions; policies are known by their weights, starts by level and seed.

    Args:
        more: simulated trials on further starts, for the prediction-powered estimate.

    Raises:
        ConfigError: a session is blind or given twice, they are of different tasks, or share fewer than two policies,
            or no start.
    """
    folders = [folder for folder in (real, simulated, more) if folder is not None]
    if len({folder.root.resolve() for folder in folders}) < len(folders):
        raise ConfigError(f"{real.root}: is there twice; a session compared with itself agrees, whatever it holds")
    if len({folder.plan.interface_digest for folder in folders}) > 1:
        raise ConfigError(f"{', '.join(str(f.root) for f in folders)}: are of different tasks; give those of one plan")
    truth, model = _outcomes(real), _outcomes(simulated)
    further = {} if more is None else _outcomes(more)
    shared = [name for name in truth if name in model]
    if len(shared) < 2:
        raise ConfigError(
            f"{real.root} and {simulated.root}: share {len(shared)} policies by name and weights; plan both with the "
            "same two or more"
        )
    policies, levels = [], dict[str, list[int]]()
    for name in shared:
        starts = sorted(truth[name].keys() & model[name].keys())
        if not starts:
            raise ConfigError(f"{real.root} and {simulated.root}: policy {name} has no start in both; plan the same")
        policies.append(_policy(name, truth[name], model[name], starts, further.get(name, {})))
        for level, seed in starts:
            same = _won(truth[name][level, seed]) == _won(model[name][level, seed])
            counts = levels.setdefault(level, [0, 0])
            counts[0], counts[1] = counts[0] + same, counts[1] + 1
    policies.sort(key=lambda p: -p.real)
    rates = np.array([(p.real, p.simulated) for p in policies])
    gaps = rates[:, None] - rates[None]
    return Comparison(
        tuple(policies),
        agreement(rates[:, 0], rates[:, 1]),
        bool((gaps[..., 0] * gaps[..., 1] >= 0.0).all()),
        {level: (same, count) for level, (same, count) in levels.items()},
    )


def _outcomes(folder: SessionFolder) -> dict[str, dict[Condition, list[bool]]]:
    """Outcomes by policy and start. A policy is its name and weights: another one of the same name is another one."""
    if folder.unsealed is None:
        raise ConfigError(f"{folder.root}: is blind; `inril evaluate unseal` it first")
    found: dict[str, dict[Condition, list[bool]]] = {}
    for outcome in read_outcomes(folder, traces=folder.plan.on_intervention == "failure"):
        subject = folder.sealed.subjects[outcome.trial.code]
        name = subject.name if subject.weights_sha256 is None else f"{subject.name} ({subject.weights_sha256[:8]})"
        start = (outcome.trial.level, outcome.trial.seed)
        found.setdefault(name, {}).setdefault(start, []).append(outcome.success)
    return found


def _policy(
    name: str,
    truth: dict[Condition, list[bool]],
    model: dict[Condition, list[bool]],
    starts: list[Condition],
    further: dict[Condition, list[bool]],
) -> PolicyAgreement:
    real, simulated = ([w for start in starts for w in side[start]] for side in (truth, model))
    pairs = [(_won(truth[start]), _won(model[start])) for start in starts]
    others = [won for start, outcomes in further.items() if start not in model for won in outcomes]
    powered = None
    if min(len(pairs), len(others)) >= LEAST_PAIRED_N:
        first, second = zip(*pairs, strict=True)
        powered = prediction_powered([float(w) for w in first], [float(w) for w in second], [float(w) for w in others])
        powered = powered if powered.interval.low < powered.interval.high else None
    return PolicyAgreement(
        name,
        len(starts),
        float(np.mean(real)),
        float(np.mean(simulated)),
        clopper_pearson(sum(real), len(real)),
        clopper_pearson(sum(simulated), len(simulated)),
        sum(one == other for one, other in pairs),
        sum(one and not other for one, other in pairs),
        sum(other and not one for one, other in pairs),
        powered,
    )


def _won(outcomes: list[bool]) -> bool:
    return 2 * sum(outcomes) > len(outcomes)


def as_json(compared: Comparison) -> dict[str, Any]:
    """Numbers for scripts; a correlation that is none is null."""
    found = asdict(compared)
    if math.isnan(compared.agreement.pearson):
        found["agreement"]["pearson"] = None
    return found


def as_text(compared: Comparison) -> str:
    """The comparison as a Markdown table and two sentences."""
    columns = "policy|real, %|simulated, %|same outcome on a start|only real|only simulated|real rate, both together, %"
    lines = [f"| {' | '.join(columns.split('|'))} |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for p in compared.policies:
        helped = "" if p.powered is None else f"{_percent(p.powered.rate)} [{_bounds(p.powered.interval)}]"
        lines.append(
            f"| {p.name} | {_percent(p.real)} [{_bounds(p.real_interval)}] | {_percent(p.simulated)} "
            f"[{_bounds(p.simulated_interval)}] | {p.same_n} of {p.starts_n} | {p.only_real_n} | "
            f"{p.only_simulated_n} | {helped} |"
        )
    found = compared.agreement
    correlation = "none, because one side has one rate only" if math.isnan(found.pearson) else f"{found.pearson:.3f}"
    levels = ", ".join(f"{name} {same} of {count}" for name, (same, count) in compared.by_level.items())
    lines += [
        "",
        f"Pearson {correlation}, mean maximum rank violation {found.mean_maximum_rank_violation:.3f}, simulated "
        f"minus real {100 * found.mean_difference:+.1f} points on average; policies are "
        f"{'ranked alike' if compared.ranked_alike else 'NOT ranked alike'}. Same outcome by level: {levels}.",
    ]
    return "\n".join(lines)


def _percent(rate: float) -> str:
    return f"{100 * rate:.0f}"


def _bounds(interval: Interval) -> str:
    return f"{_percent(interval.low)}-{_percent(interval.high)}"


def write_comparison(folder: Path, compared: Comparison) -> str:
    """Write ``comparison.json``, ``comparison.md`` and the calibration plot ``comparison.png``; the text.

    Raises:
        ConfigError: the folder cannot be written.
    """
    text = as_text(compared)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        numbers = json.dumps(as_json(compared), indent=1, allow_nan=False)
        write_atomically(folder / "comparison.json", (numbers + "\n").encode())
        write_atomically(folder / "comparison.md", (text + "\n").encode())
        _calibration_plot(compared).savefig(folder / "comparison.png", dpi=130)
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror or error}; give one that can be written") from error
    return text


def _calibration_plot(compared: Comparison) -> Figure:
    """Real over simulated rate of each policy, with both intervals: on the diagonal simulation is right."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 4.4), layout="constrained")
        axes = figure.subplots()
        axes.grid(color="#dde1e6", lw=0.6)
        axes.plot([0, 1], [0, 1], color="#8a929c", lw=1.0)
        for number, p in enumerate(compared.policies):
            axes.plot(p.simulated_interval, [p.real] * 2, color="#2a66b0", alpha=0.35, lw=4, solid_capstyle="butt")
            axes.plot([p.simulated] * 2, p.real_interval, color="#c8652f", alpha=0.35, lw=4, solid_capstyle="butt")
            axes.plot([p.simulated], [p.real], "o", color="#1d232b", ms=5)
            axes.annotate(
                p.name.partition(" (")[0],
                (p.simulated, p.real),
                (6, -11 + 16 * (number % 2)),
                textcoords="offset points",
                fontsize=8,
            )
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        axes.set_xlabel("success rate in simulation")
        axes.set_ylabel("success rate in reality")
        return figure
